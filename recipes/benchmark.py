"""Measure speed and memory, of a model by default.

    python recipes/benchmark.py                                # S/32, inference and training, in about two minutes
    python recipes/benchmark.py --model=b16 --compile=both --batch_sizes=1,8,32 --compare=timm,timm_compiled,vit
    python recipes/benchmark.py --scaling --model=s16          # time and memory against pixels, batch, depth, width
    python recipes/benchmark.py --start_up                     # imports, building and loading each variant
    python recipes/benchmark.py --input                        # the input pipeline, in images/s per core

With KERAS_BACKEND=jax all but --input run without TensorFlow.
"""

import importlib
import sys
from typing import Any

from absl import flags

from keras_mixer.cli import command_line

FLAGS: Any = flags.FLAGS
flags.DEFINE_boolean("input", False, "Measure the input pipeline.")
flags.DEFINE_boolean("scaling", False, "Measure time and memory against pixels, batch, depth and width.")
flags.DEFINE_boolean("start_up", False, "Measure imports, and building and loading the variants, or --model alone.")
flags.DEFINE_string("model", None, "Variant, such as s32, b16 or tiny; default s32, with --scaling s16.")
flags.DEFINE_integer("image_size", None, "Image side in pixels; default 224, and 16 for the tiny model.", lower_bound=4)
flags.DEFINE_integer("batch_size", 64, "With --input: images in a batch.", lower_bound=2)
flags.DEFINE_list("batch_sizes", ["1", "8", "32"], "Images per call; with --scaling those of its batch axis.")
flags.DEFINE_string("mode", "both", "inference, training or both; with --scaling one of them, by default inference.")
flags.DEFINE_string("compile", None, "graph, xla or both; default graph, under JAX xla, which is all it has.")
flags.DEFINE_string("precision", "float32", "float32, mixed_bfloat16, or bfloat16: the weights too.")
flags.DEFINE_string("cores", "all", "1 or all: the CPU cores that each measuring process may use.")
flags.DEFINE_list("compare", [], "Others to measure in turn with ours: timm, vit, resnet, timm_compiled, keras_vit ...")
flags.DEFINE_string("peer_python", sys.executable, "The Python that has timm and torch, where this one has not.")
flags.DEFINE_list("axes", ["pixels", "batch", "depth", "width"], "With --scaling: which of these.")
flags.DEFINE_list("sides", "112,160,224,320,448,640,896", "With --scaling: image sides in pixels.")
flags.DEFINE_float("seconds", 0.5, "Time for one measurement of each part.")
flags.DEFINE_integer("rounds", 5, "Measurements of each part.", lower_bound=1)
flags.DEFINE_integer("matmul_size", 4096, "Rows and columns of the matrices whose product is the peak.", lower_bound=2)
flags.DEFINE_string("output", "runs/benchmark", "Folder for the results.")


OF_MODELS = {"model", "image_size", "batch_sizes", "mode", "compile", "precision", "cores", "compare", "peer_python"}
FLAGS_OF = {  # beside --rounds and --output
    "sweep": OF_MODELS | {"seconds", "matmul_size"},
    "scaling": OF_MODELS | {"scaling", "seconds", "axes", "sides"},
    "start_up": {"start_up", "model"},
    "input": {"input", "image_size", "batch_size", "seconds"},
}


def part_of_flags() -> str:
    """Return which part to run; refuse flags that it would not look at."""
    chosen = [name for name in ("input", "scaling", "start_up") if FLAGS[name].value]
    if len(chosen) > 1:
        raise ValueError(f"{chosen[1]}: give one of --{' and --'.join(chosen)} at a time.")
    part = chosen[0] if chosen else "sweep"
    for flag in FLAGS.get_key_flags_for_module(sys.argv[0]):
        if flag.present and flag.value and flag.name not in FLAGS_OF[part] | {"rounds", "output"}:
            owners = [f"--{other}" for other in FLAGS_OF if flag.name in FLAGS_OF[other]]
            what = f"--{part} does" if chosen else f"without {' or '.join(owners)} a benchmark does"
            raise ValueError(f"{flag.name}: {what} not look at it; leave it out.")
    return part


def main() -> None:
    part = part_of_flags()
    if FLAGS.input:
        from keras_mixer.benchmark import input_part  # TensorFlow, which the other parts do without
        from keras_mixer.cli import entry  # TensorFlow, which the other parts do without

        entry.run(input_part.main)
        return
    importlib.import_module(f"keras_mixer.cli.benchmark_{part}").main()


if __name__ == "__main__":
    try:
        command_line.parse_flags(sys.argv)
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        kept = "nothing is written yet" if FLAGS.start_up else "what was measured so far is in --output"
        print(f"error: interrupted; {kept}.", file=sys.stderr)
        sys.exit(130)
