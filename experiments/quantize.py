"""What Keras' own quantising saves and costs, beside LiteRT's int8: the table in docs/results/export.md.

    python experiments/quantize.py --model=s32 --rounds=7

The weights are random, in the released layout; the pictures are crops of scikit-learn's two sample photographs.
"""

import argparse
import os
import pathlib
import tempfile
import time
from collections.abc import Callable

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_sample_images

import keras_mixer
from keras_mixer.benchmark.markdown import spread, table
from keras_mixer.paper import VARIANTS
from keras_mixer.weights import layouts

BATCH = 8


def random_weights(name: str, path: pathlib.Path) -> pathlib.Path:
    """Write a random file in the released layout: kernels of unit gain, scales of one, biases of zero."""
    rng, sizes = np.random.default_rng(0), VARIANTS[name]
    shapes = layouts.released_shapes(sizes, tokens=(224 // sizes["patch_size"]) ** 2, classes=1000)
    arrays = {key: np.full(shape, key.endswith("scale"), np.float32) for key, shape in shapes.items()}
    for key, shape in shapes.items():
        if key.endswith("kernel"):
            arrays[key] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
    np.savez(path, **arrays)
    return path


def pictures() -> np.ndarray:
    """Return (24, 224, 224, 3) uint8."""
    photos = load_sample_images().images  # 427 x 640
    crops = [photo[i : i + 224, j : j + 224] for photo in photos for i in (0, 100, 200) for j in (0, 130, 270, 400)]
    return np.stack(crops)


def litert(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of images (BATCH, 224, 224, 3) in [0, 255] that runs a LiteRT file."""
    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (BATCH, 224, 224, 3))
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda images: runner(images=images)["probabilities"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="s32", choices=VARIANTS)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    images, ways, sizes = pictures(), {}, {}
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        weights = random_weights(options.model, folder / "random.npz")
        build = getattr(keras_mixer, f"Mixer{options.model.upper()}")
        for name in ("float32", "int8", "int4"):
            model = build(weights=weights)
            if name != "float32":
                model.quantize(name)
            model.save(folder / f"{name}.keras")
            sizes[name] = (folder / f"{name}.keras").stat().st_size
            ways[name] = lambda batch, model=model: model.predict_on_batch(keras_mixer.preprocess_input(batch))
        for name, quantization in (("LiteRT float32", None), ("LiteRT int8", "int8")):
            path = folder / f"{name.replace(' ', '_')}.tflite"
            keras_mixer.export.litert(build(weights=weights), path, quantization, images if quantization else None)
            sizes[name], ways[name] = path.stat().st_size, litert(path)

        batches = images.astype("float32").reshape(-1, BATCH, 224, 224, 3)
        answers = {name: np.concatenate([run(batch) for batch in batches]) for name, run in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):  # one way after the other, so that all meet the same machine
            for name, run in ways.items():
                start = time.perf_counter()
                for batch in batches:
                    run(batch)
                seconds[name].append(time.perf_counter() - start)

    logits = {name: np.log(np.maximum(p, 1e-12)) for name, p in answers.items()}
    centred = {name: x - x.mean(axis=1, keepdims=True) for name, x in logits.items()}
    print(
        f"{options.model}, batch {BATCH}, {os.cpu_count()} cores, {options.rounds} rounds, Keras {keras.__version__}\n"
    )
    rows = []
    for name in ways:
        one, other = centred["float32"], centred[name]
        cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        best = (answers[name].argmax(1) == answers["float32"].argmax(1)).mean()
        shown = f"{cosine.min():.5f}" if name != "LiteRT int8" else "probabilities only"
        rate = spread([len(images) / s for s in seconds[name]])
        title = f"Keras {name}" if name in ("int8", "int4") else name
        rows.append((title, f"{sizes[name] / 1e6:.1f}", rate, shown, f"{100 * best:.0f} %"))
    print(table(("", "file, MB", "images/s, median (range)", "cosine of logits, least", "same best class"), rows))


if __name__ == "__main__":
    main()
