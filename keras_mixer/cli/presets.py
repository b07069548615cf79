"""The authors' recipes as flags: the rows of the paper's Table 4, and the recipe that they published for ImageNet."""

from typing import Any, TypeVar

from keras_mixer import paper
from keras_mixer.cli.settings import Training
from keras_mixer.data import crops

T = TypeVar("T", bound=Training)
# What all rows have in common. Flags that have these values anyway are here to be compared with what is given by hand.
COMMON: dict[str, Any] = dict(image_size=224, augmentation="paper", flip_rate=0.5)
COMMON |= dict(crop_area=crops.CROP_AREA, crop_aspect=crops.CROP_ASPECT)
COMMON |= dict(dropout_rate=0.0, optimizer="adamw", clip_norm=1.0, schedule="linear")


def get_preset(name: str, model: str, dataset: str = paper.IMAGENET) -> dict[str, Any]:
    """Return flag -> value of a recipe; the splits are those of ImageNet, so of another `dataset` there are none.

    Raises:
        ValueError: for an unknown preset, or a model that the authors did not pre-train so.

    Example:
        >>> get_preset("imagenet1k", "b16")["train_split"]
        'train[:99%]'
    """
    if name not in paper.PRESETS:
        raise ValueError(f"preset: must be one of {', '.join(paper.PRESETS)}, got {name!r}.")
    rows = paper.PRESETS[name]
    row = None if model == "tiny" else rows.get(model, rows.get(model[0]))
    if row is None:
        sizes = ", ".join(paper.title_of(key) if len(key) > 1 else f"Mixer-{key.upper()}" for key in rows)
        raise ValueError(f"preset: {name} is a recipe for {sizes} only, not for {model}; choose another --model.")
    of_imagenet = paper.PRE_TRAINED_ON[name] == paper.I1K and paper.is_imagenet(dataset)
    return COMMON | row | (paper.IMAGENET_SPLITS if of_imagenet else {})


def fill(settings: T, name: str | None) -> tuple[T, dict[str, Any]]:
    """Return the settings with a value where none is given, and what run.json says of the preset.

    Args:
        settings: as given by hand, which wins.
        name: of the preset, None for none.

    Returns:
        The settings; and {"preset_row": its title, "preset_overridden": names of its values that gave way}, or {}.
    """
    if name is None:
        no_decay = {"weight_decay": 0.0} if settings.optimizer == "sgd" else {}  # which refuses any other
        return settings.filled(image_size=paper.usual_size(settings.model), **no_decay), {}
    row = get_preset(name, settings.model, settings.dataset)
    if settings.loss not in (None, row.get("loss")):
        row.pop("head_bias_init", None)  # which is for the row's loss
    filled = settings.filled(**row)
    by_hand = {key for key, value in row.items() if getattr(filled, key) != value}
    by_hand |= {"epochs"} if settings.total_steps is not None else set()
    return filled, {"preset_row": title_of(name, filled), "preset_overridden": sorted(by_hand)}


def title_of(name: str, settings: Training) -> str:
    """Return which row a preset is, and of the published recipe which accuracy is known."""
    trained_on = paper.PRE_TRAINED_ON[name]
    if name != "imagenet1k_published":
        epochs = get_preset(name, settings.model)["epochs"]
        return f"paper Table 4, Mixer-{settings.model[0].upper()} on {trained_on}, {epochs} epochs"
    known = ", ".join(f"{top1} % top-1 at {epochs} epochs" for epochs, top1 in paper.PUBLISHED_TOP1.items())
    other = settings.total_steps is not None or settings.epochs not in paper.PUBLISHED_TOP1
    unknown = "; of this length none is published" if other else ""
    return f"the authors' code, {paper.title_of(settings.model)} on {trained_on}: {known}{unknown}"
