"""The splits of a dataset: the names that people give them, and parts such as train[:99%]."""

import re
from collections.abc import Collection, Mapping

# Of each split, the names in the order in which they are looked for; any case.
NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


def kind_of(name: str) -> str | None:
    """Return "train", "validation" or "test" for any usual name of that split, such as "Testing"; None for others.

    Example:
        >>> kind_of("Valid"), kind_of("cat")
        ('validation', None)
    """
    return next((kind for kind, names in NAMES.items() if name.lower() in names), None)


def select(split: str, splits: Mapping[str, int], name: object) -> tuple[str, int, int]:
    """Return (name of a split, start, stop) of "train", "train[:99%]" or "train[100:200]".

    Args:
        split: where there is one split of its kind, any usual name for it will do.
        splits: name -> number of images.
        name: of the dataset, for messages.

    Raises:
        ValueError: for an unknown split, or a part that reaches beyond it.

    Example:
        >>> select("val[:50%]", {"Valid": 200}, "photos")
        ('Valid', 0, 100)
    """
    match = re.fullmatch(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
    base = _find(match[1], splits) if match else None
    if match is None or base is None:
        raise ValueError(f"split: {name} has no split {split!r}; it has {', '.join(splits)}, and parts as train[:99%].")
    size = splits[base]

    def place(text: str | None, default: int) -> int:
        if text is None:
            return default
        at = round(int(text[:-1]) / 100 * size) if text.endswith("%") else int(text)
        if abs(at) > size:
            raise ValueError(f"split: {split!r} reaches beyond the {size:,} images that {name} has in {base}.")
        return at + size if at < 0 else at

    return base, place(match[2], 0), place(match[3], size)


def default_split(splits: Collection[str], training: bool, name: object) -> str:
    """Return the split to train on, or to evaluate on: validation where there is one, else test.

    Raises:
        ValueError: where there is none, naming the splits there are.
    """
    for kind in ["train"] if training else ["validation", "test"]:
        found = sorted((NAMES[kind].index(split.lower()), split) for split in splits if kind_of(split) == kind)
        if len(found) > 1 and found[0][0] == found[1][0]:  # they differ in case alone
            raise ValueError(f"split: {name} has both {found[0][1]} and {found[1][1]}; choose one of them.")
        if found:
            return found[0][1]
    raise ValueError(
        f"split: {name} has no default for {'training' if training else 'evaluation'}; "
        f"choose one of {', '.join(splits)}."
    )


def _find(wanted: str, splits: Collection[str]) -> str | None:
    if wanted in splits:
        return wanted
    alike = [split for split in splits if kind_of(wanted) and kind_of(split) == kind_of(wanted)]
    return alike[0] if len(alike) == 1 else None
