"""The checkpoints that the authors released: their names, their facts, and how to get one."""

import functools
import json
import os
import pathlib
from typing import Any

from keras_mixer.paper import VARIANTS
from keras_mixer.types import Sizes
from keras_mixer.weights import download, layouts, npz

NAMES = ("imagenet1k", "imagenet", "imagenet21k", "sam", "gsam")
VARIABLE = "KERAS_MIXER_WEIGHTS"  # a directory or base URL with a copy of the released files
_ALIASES = {"imagenet": "imagenet1k"}
CARDS = "docs/model_cards"  # of the source distribution: licence, training data, intended use and limits


@functools.cache
def _facts() -> dict[str, Any]:
    return json.loads((pathlib.Path(__file__).parents[1] / "assets" / "checkpoints.json").read_text("utf-8"))


class WeightsTable(list):
    """A list of dicts, one for each released file, that prints as a table."""

    def __str__(self) -> str:
        tuned = "after fine-tuning (weights not released)"
        head = ("model", "weights", "classes", "bytes", "top-1 %", "ReaL %", tuned, "source")
        rows = [head]
        for entry in self:
            tuned = "; ".join(
                f"ImageNet {size} px: top-1 {after['top1']:.2f}, ReaL {after['real']:.2f}"
                for size, after in entry["after_imagenet_finetuning"].items()
            )
            if entry["cifar10_finetuned"] is not None:
                tuned = "; ".join(filter(None, [tuned, f"CIFAR-10 {entry['cifar10_finetuned']:.2f}"]))
            scores = [f"{entry[key]['paper']:.2f}" if entry[key] else "-" for key in ("top1", "real")]
            sizes = (str(entry["classes"]), f"{entry['bytes']:,}")
            rows.append((entry["model"], entry["weights"], *sizes, *scores, tuned or "-", entry["url"]))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        cards = " ".join(dict.fromkeys(entry["card"] for entry in self))
        return "\n".join([*lines, f"Licence, training data, intended use and limits: {cards}"])

    __repr__ = __str__


def list_weights() -> WeightsTable:
    """Return every checkpoint that the authors released, as a list of dicts that prints as a table.

    Each has `model` (the function that builds it), `weights` (the name to give it), `classes`, `bytes`, `url`, `card`
    (the model card in the documentation: licence, training data, intended use, limits);
    `top1` and `real`, ImageNet accuracy of the file as it is, in percent, as the paper (Table 3) and timm measured it,
    or None where none was published; and, for the weights after fine-tuning, which were not released:
    `after_imagenet_finetuning` (image side in pixels to top1 and real, paper Table 3) and `cifar10_finetuned`.

    Example:
        >>> [entry["weights"] for entry in list_weights() if entry["model"] == "MixerL16"]
        ['imagenet1k', 'imagenet21k']
    """
    table = WeightsTable()
    for fact in _facts()["files"]:
        name, variant = _name_and_variant(fact["path"])
        tuned = "after_imagenet_finetuning_"
        table.append(
            {
                "model": f"Mixer{variant.upper()}",
                "weights": name,
                "classes": fact["classes"],
                "bytes": fact["bytes"],
                "url": _facts()["base_url"] + fact["path"],
                "card": card_of(name),
                "top1": fact.get("top1"),
                "real": fact.get("real"),
                "after_imagenet_finetuning": {
                    int(key.removeprefix(tuned)): dict(value) for key, value in fact.items() if key.startswith(tuned)
                },
                "cifar10_finetuned": fact.get("cifar10_finetuned"),
            }
        )
    return table


def card_of(name: str) -> str:
    """Return where the model card of one of `NAMES` is.

    Example:
        >>> card_of("imagenet")
        'docs/model_cards/imagenet1k.md'
    """
    return f"{CARDS}/{_ALIASES.get(name, name)}.md"


def _name_and_variant(path: str) -> tuple[str, str]:
    """ "sam/Mixer-B_32.npz" -> ("sam", "b32")."""
    name, file = path.split("/")
    return name, file.removeprefix("Mixer-").removesuffix(".npz").replace("_", "").lower()


def fetch_released(name: str, sizes: Sizes) -> pathlib.Path:
    """Return the path of one of `NAMES` for a model's sizes, fetched unless it or a copy (`VARIABLE`) is there.

    Raises:
        ValueError: if there is no such file for these sizes, or what is there or was sent is not the released file.
        OSError: if it can be neither found nor fetched.
    """
    name = _ALIASES.get(name, name)
    variant = layouts.variant_of(**{key: size for key, size in sizes.items() if key != "tokens_mlp_dim"})
    existing = {_name_and_variant(fact["path"]): fact for fact in _facts()["files"]}
    fact = existing.get((name, variant or ""))
    if fact is None or variant is None:
        own = [n for n, v in existing if v == variant]
        label = f"Mixer{variant.upper()}" if variant else "a model of these sizes"
        others = ", ".join(f"Mixer{v.upper()}" for n, v in existing if n == name)
        have = f"there are {', '.join(map(repr, own))}" if own else "none were released for it"
        raise ValueError(f"weights: there are no {name!r} weights for {label}; {have}, and {name!r} for {others}.")

    path = fact["path"]
    cached = download.cache_folder() / path
    base = os.environ.get(VARIABLE, "")
    hint = f"without network put the file at {cached}, or set {VARIABLE} to a directory or a base URL that holds {path}"
    if base and not download.is_url(base):
        local = pathlib.Path(base).expanduser() / path
        if not local.is_file():
            raise FileNotFoundError(f"weights: {VARIABLE} is {base!r}, but there is no file {local}.")
        download.check_size(local, fact["bytes"])
        return local
    url = f"{base.rstrip('/')}/{path}" if base else _facts()["base_url"] + path
    return download.fetch(url, cached, lambda file: _verify(file, variant, fact["classes"]), fact["bytes"], hint)


def _verify(path: pathlib.Path, variant: str, classes: int) -> None:
    """Raise a ValueError unless the file holds exactly the variant's arrays at 224 px, float32 and finite."""
    config = VARIANTS[variant]
    tokens = (224 // config["patch_size"]) ** 2
    expected = layouts.released_shapes(config, tokens=tokens, classes=classes)
    file = npz.open_npz(path)
    layouts.check_specs(file, expected)
    npz.check_finite(file)
