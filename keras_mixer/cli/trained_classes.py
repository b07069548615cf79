"""Whether a checkpoint's head is for the classes of a dataset."""

from keras_mixer.data.source import Source
from keras_mixer.starting_point import StartingPoint


def check(start: StartingPoint, source: Source, way_out: str) -> None:
    """Raise a ValueError unless the head of a `StartingPoint` is for the classes of a source, in their order."""
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; {way_out}.")
    theirs = source.class_names
    if start.num_classes != len(theirs):
        raise ValueError(
            f"weights: the head of {start.name} has {start.num_classes:,} classes, and {source.name} has "
            f"{len(theirs):,}; {way_out}."
        )
    if start.class_names is None:
        print(f"{start.name} does not say what its {len(theirs):,} classes are: taken for those of {source.name}.")
        return
    # ImageNet's classes have two names, the WordNet id and the words; a dataset may use either.
    ours = [(name,) if isinstance(name, str) else tuple(name) for name in start.class_names]
    wrong = [i for i, (names, name) in enumerate(zip(ours, theirs, strict=True)) if name not in names]
    if wrong:
        first = "; ".join(f"class {i} is {ours[i][0]!r} there and {theirs[i]!r} here" for i in wrong[:3])
        raise ValueError(
            f"weights: {start.name} was trained for other classes than {source.name} has, or in another order: "
            f"{first}{f'; and {len(wrong) - 3:,} more' if len(wrong) > 3 else ''}; {way_out}."
        )
