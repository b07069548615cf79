"""How large the model of a web page is in each precision, and how exact: the table of docs/results/export.md.

python experiments/web_sizes.py
"""

import json
import pathlib

import keras_mixer
from keras_mixer.benchmark.markdown import table

if __name__ == "__main__":
    rows, model = [], keras_mixer.MixerS16()
    for precision in ("float32", "float16", "int8"):
        folder = pathlib.Path("runs/web") / precision
        keras_mixer.export.web(model, folder, precision=precision, overwrite=True)
        difference = json.loads((folder / "settings.json").read_text())["largest_difference"]
        rows.append((precision, f"{(folder / 'model.onnx').stat().st_size / 1e6:.1f}", f"{difference:.1e}"))
    columns = ("S/16, 1,000 classes, random weights", "`model.onnx`, MB", "largest difference in the export's check")
    print(table(columns, rows))
