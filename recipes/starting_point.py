"""What --weights names: a released checkpoint, a file, or the workdir of a run; and what is known of it."""

import dataclasses
import json
import math
import pathlib

from keras_mixer import released, weight_files, weight_layouts
from keras_mixer.class_names import imagenet_classes
from keras_mixer.models import VARIANTS

# For small images such as digits: 75,530 parameters at 16 px.
TINY = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
MODELS = {"tiny": TINY, **VARIANTS}


@dataclasses.dataclass
class StartingPoint:
    """A checkpoint, opened as far as its sizes.

    Attributes:
        weights: what `MLPMixer(weights=...)` takes: a released name or the path of a file.
        sizes: keyword arguments of `MLPMixer`, patch_size and the others.
        image_size: side in pixels that it was trained at, or None where its patches form no square.
        num_classes: of its head, None without a head.
        class_names: of its head, or None where they are not known.
        settings: of the run, where it is one; else empty.
        name: for people, for example "b16 imagenet21k" or "runs/pretrain".
    """

    weights: str
    sizes: dict
    image_size: int | None
    num_classes: int | None
    class_names: list | None
    settings: dict
    name: str


def find(weights, model=None):
    """Return the `StartingPoint` that --weights, and for a released name --model, describe.

    Raises:
        FileNotFoundError: if there is no such file, or the run in the workdir has not finished.
        ValueError: for a released name without a model, a model that the file is not of, or a file of another kind.
    """
    if released.is_name(weights):
        if model is None:
            raise ValueError(f"model: weights={weights} needs --model, one of {', '.join(VARIANTS)}.")
        classes = 21843 if weights == "imagenet21k" else 1000
        names = imagenet_classes("imagenet21k" if classes == 21843 else "imagenet1k")
        return StartingPoint(weights, dict(MODELS[model]), 224, classes, names, {}, f"{model} {weights}")
    settings, name = {}, str(weights)
    path = pathlib.Path(weights).expanduser()
    if path.is_dir():
        settings = _settings_of_run(path)
        path = path / "model.keras"
        finals = sorted(path.parent.glob("final/*/model.keras"))
        if not path.exists() and finals:
            raise ValueError(
                f"weights: {weights} is a sweep of several runs; give one of them, such as {finals[0].parent}."
            )
        if not path.exists():
            raise FileNotFoundError(
                f"weights: {weights} has no model.keras yet; let the run there finish, by the command that began it."
            )
    elif path.name == "model.keras" and _is_permuted(path.parent):
        raise ValueError(
            f"weights: {weights} is of a run on permuted images; give the folder {path.parent}, which says how."
        )
    file = weight_layouts.in_released_layout(weight_files.open_file(str(path) if settings else weights))
    found = weight_layouts.sizes_of(file.specs)
    sizes = {key: found[key] for key in TINY}
    if None in sizes.values() or not found["num_blocks"] or not found["patches"]:
        raise ValueError(f"weights: {weights} holds no Mixer; give a released name, a Mixer's file, or a workdir.")
    if model is not None and any(sizes[key] != MODELS[model][key] for key in sizes if key != "tokens_mlp_dim"):
        fits = weight_layouts.variant_of(**{k: v for k, v in sizes.items() if k != "tokens_mlp_dim"}) or sizes
        raise ValueError(f"model: {weights} is not of --model={model} but of {fits}; leave --model out.")
    grid = file.grid or (math.isqrt(found["patches"]),) * 2
    square = grid[0] == grid[1] and grid[0] * grid[1] == found["patches"]
    side = grid[0] * sizes["patch_size"] if square else None
    names = settings.get("class_names")
    return StartingPoint(str(path) if settings else str(weights), sizes, side, found["classes"], names, settings, name)


def _is_permuted(folder):
    """Whether a folder is that of a run on permuted images, which a file of its weights does not say."""
    try:
        return _settings_of_run(folder).get("permutation", "none") != "none"
    except ValueError:
        return False


def _settings_of_run(folder):
    try:
        return json.loads((folder / "run.json").read_text())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"weights: {folder} is a folder but not the workdir of a run (run.json is missing or damaged); give a "
            "workdir, a file, or a released name."
        ) from None
