"""Measure speed and memory, of a model by default.

    python recipes/benchmark.py                                # S/32, inference and training, in about two minutes
    python recipes/benchmark.py --model=b16 --compile=both --batch_sizes=1,8,32 --compare=timm,timm_compiled,vit
    python recipes/benchmark.py --scaling --model=s16          # time and memory against pixels, batch, depth, width
    python recipes/benchmark.py --start_up                     # imports, building and loading each variant
    python recipes/benchmark.py --input                        # the input pipeline, in images/s per core
    python recipes/benchmark.py --input --compare=timm         # and beside timm's transforms

With KERAS_BACKEND=jax all but --input run without TensorFlow.
"""

import importlib

from keras_mixer.benchmark.settings import Settings, part_of
from keras_mixer.cli import entry


def run(settings: Settings) -> None:
    """Measure what the settings ask for, and write a table and a picture of it."""
    part = part_of(settings)
    # Only the input pipeline needs TensorFlow in this process.
    module = "keras_mixer.benchmark." + {"input": "input_stages"}.get(part, part)
    importlib.import_module(module).run(settings)


if __name__ == "__main__":
    entry.run(Settings, run, on_interrupt="what was measured so far, but of --start_up, is in --output")
