"""The settings of the command benchmark, and which part of it they ask for."""

import dataclasses
import sys

from keras_mixer.cli.flags import Settings as BaseSettings
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.paper import MODELS

AXES = ("pixels", "batch", "depth", "width")
SIDES = (112, 160, 224, 320, 448, 640, 896)


@settings_class
class Settings(BaseSettings):
    """What to measure."""

    input: bool = setting(False, "Measure the input pipeline.", common=True)
    scaling: bool = setting(False, "Measure time and memory against pixels, batch, depth and width.", common=True)
    start_up: bool = setting(
        False, "Measure imports, and building and loading the variants, or --model alone.", common=True
    )
    model: str | None = setting(
        None, "Variant, such as s32, b16 or tiny; default s32, with --scaling s16.", choices=tuple(MODELS), common=True
    )
    image_size: int | None = setting(
        None, "Image side in pixels; default 224, and 16 for the tiny model.", least=4, common=True
    )
    batch_size: int = setting(64, "With --input: images in a batch.", least=2)
    batch_sizes: tuple[int, ...] = setting(
        (1, 8, 32), "Images per call; with --scaling those of its batch axis.", least=1, distinct=True, common=True
    )
    mode: str | None = setting(
        None,
        "inference, training or both, which is the default; with --scaling one of them, by default inference.",
        choices=("inference", "training", "both"),
        common=True,
    )
    compile: str | None = setting(
        None,
        "graph, xla or both; default graph, under JAX xla, which is all it has.",
        choices=("graph", "xla", "both"),
        common=True,
    )
    precision: str = setting(
        "float32",
        "float32, mixed_bfloat16, or bfloat16: the weights too.",
        choices=("float32", "mixed_bfloat16", "bfloat16"),
        common=True,
    )
    cores: str = setting("all", "1 or all: the CPU cores that each measuring process may use.", choices=("1", "all"))
    compare: tuple[str, ...] = setting(
        (),
        "Others to measure in turn with ours: timm, vit, resnet, timm_compiled, keras_vit ...; with --input timm.",
        common=True,
    )
    peer_python: str = setting(sys.executable, "The Python that has timm and torch, where this one has not.")
    axes: tuple[str, ...] = setting(AXES, "With --scaling: which of these.", choices=AXES, distinct=True)
    sides: tuple[int, ...] | None = setting(
        None, f"With --scaling: image sides in pixels; default {','.join(map(str, SIDES))}.", least=1, distinct=True
    )
    seconds: float = setting(0.5, "Time for one measurement of each part.")
    rounds: int = setting(5, "Measurements of each part.", least=1)
    matmul_size: int = setting(4096, "Rows and columns of the matrices whose product is the peak.", least=2)
    output: str = setting("runs/benchmark", "Folder for the results.", common=True)


OF_MODELS = {"model", "image_size", "batch_sizes", "mode", "compile", "precision", "cores", "compare", "peer_python"}
SETTINGS_OF = {  # beside --rounds and --output
    "speed": OF_MODELS | {"seconds", "matmul_size"},
    "scaling": OF_MODELS | {"scaling", "seconds", "axes", "sides"},
    "start_up": {"start_up", "model"},
    "input": {"input", "image_size", "batch_size", "seconds", "compare", "peer_python"},
}


def part_of(settings: Settings) -> str:
    """Return which part to run; refuse settings that it would not look at."""
    chosen = [name for name in ("input", "scaling", "start_up") if getattr(settings, name)]
    if len(chosen) > 1:
        raise ValueError(f"{chosen[1]}: give one of --{' and --'.join(chosen)} at a time.")
    part = chosen[0] if chosen else "speed"
    for field in dataclasses.fields(settings):
        given = getattr(settings, field.name) != field.default
        if given and field.name not in SETTINGS_OF[part] | {"rounds", "output"}:
            owners = [f"--{other}" for other in SETTINGS_OF if field.name in SETTINGS_OF[other]]
            what = f"--{part} does" if chosen else f"without {' or '.join(owners)} a benchmark does"
            raise ValueError(f"{field.name}: {what} not look at it; leave it out.")
    return part
