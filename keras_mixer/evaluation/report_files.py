"""What a classifier gets wrong, as files beside its result: tables by class, confusions, the worst mistakes."""

import csv
import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mixer import files
from keras_mixer.data import folders, pipeline, subsets
from keras_mixer.data.source import Source
from keras_mixer.evaluation.predictions import Predictions, class_rows, surest_hits, worst_mistakes
from keras_mixer.pictures import grids
from keras_mixer.pictures.figure import new_figure

MOST_MISTAKES, MOST_HITS = 24, 12  # of which pictures are shown
MOST_COLUMNS = 1000  # of confusion.csv as a matrix


@dataclasses.dataclass(frozen=True)
class Seen:
    """Some images of a dataset, as the model was shown them.

    Attributes:
        files: index of an image -> its path from the dataset's folder on, "" for what is no file.
        images: index -> (H, W, channels) float32 in [-1, 1]; empty where pictures were not asked for.
    """

    files: dict[int, str]
    images: dict[int, np.ndarray]


def look_at(predictions: Predictions, source: Source, shown: dict[str, Any], root: str, pictures: bool = True) -> Seen:
    """Return the worst mistakes and the surest hits of `predictions` as the model was shown them.

    Args:
        predictions: from `evaluation.predictions.predict_images`, of every image of `source`.
        source: see `data.source`.
        shown: dict of image_size, crop and pixels, of the images that were shown to the model; see `eval_batches`.
        root: files are named from this folder on.
        pictures: whether to read the images, and not only their names.
    """
    indices = np.sort([*worst_mistakes(predictions, MOST_MISTAKES), *surest_hits(predictions, MOST_HITS)])
    some = subsets.subset(source, indices)
    root, paths = os.path.expanduser(root), subsets.read_paths(some)
    files_of = [folders.printable(os.path.relpath(path, root)) for path in paths] if paths else [""] * len(indices)
    images: Any = []
    if pictures:
        images = next(iter(pipeline.eval_batches(some, batch_size=len(indices), **shown)))[0].numpy()
    keys = indices.tolist()
    return Seen(dict(zip(keys, files_of, strict=True)), dict(zip(keys, images, strict=False)))


def write(
    folder: pathlib.Path, predictions: Predictions, source: Source, seen: Seen, pictures: bool = True
) -> list[pathlib.Path]:
    """Write classes.csv, confusion.csv and mistakes.csv, and with `pictures` confusion.png and mistakes.png.

    Args:
        folder: a path.
        predictions, source: of `look_at`.
        seen: from `look_at`.
        pictures: whether to draw, which needs matplotlib.

    Returns:
        The paths of what was written.
    """
    with files.naming_unwritable(folder):
        write_mistakes(folder, predictions, source, seen, pictures)
        matrix = write_tables(folder, predictions, source.class_names)
        if pictures and matrix is not None:
            grids.write_confusion(folder / "confusion.png", matrix, source.class_names, source.name)
        else:
            (folder / "confusion.png").unlink(missing_ok=True)
    names = ("classes.csv", "confusion.csv", "mistakes.csv", "confusion.png", "mistakes.png")
    return [folder / name for name in names if (folder / name).exists()]


def write_tables(folder: pathlib.Path, predictions: Predictions, names: Sequence[str]) -> np.ndarray | None:
    """Write classes.csv and confusion.csv; return the matrix (K, K), [true class, predicted class], of few classes."""
    from sklearn.metrics import confusion_matrix  # takes seconds to import

    write_csv(folder / "classes.csv", class_rows(predictions, names))
    if predictions.num_classes <= MOST_COLUMNS:
        classes = range(predictions.num_classes)
        matrix = confusion_matrix(predictions.labels, predictions.predicted, labels=classes)
        with files.writing(folder / "confusion.csv") as file:
            writer = csv.writer(file)
            writer.writerow(["true class \\ predicted", *names])
            writer.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
        return matrix
    pairs = np.stack([predictions.labels, predictions.predicted])
    (true, predicted), counts = np.unique(pairs, axis=1, return_counts=True)
    rows = [
        {"true": names[i], "predicted": names[j], "images": n}
        for i, j, n in zip(true, predicted, counts.tolist(), strict=True)
    ]
    write_csv(folder / "confusion.csv", rows)
    return None


def write_mistakes(folder: pathlib.Path, predictions: Predictions, source: Source, seen: Seen, pictures: bool) -> None:
    """Write mistakes.csv and mistakes.png: the wrong predictions of the highest confidence."""
    worst = worst_mistakes(predictions, MOST_MISTAKES).tolist()
    names = source.class_names
    rows = [
        {
            "image": i,
            "file": seen.files[i],
            "true": names[predictions.labels[i]],
            "predicted": names[predictions.predicted[i]],
            "confidence": f"{predictions.confidence[i]:.6f}",
            "rank_of_true": int(predictions.rank[i]) + 1,
        }
        for i in worst
    ]
    (folder / "mistakes.png").unlink(missing_ok=True)
    if pictures and worst:
        captions = [
            [
                row["file"] or f"image {row['image']}",
                f"is {row['true']}",
                f"taken for {row['predicted']}",
                f"confidence {float(row['confidence']):.3f}",
            ]
            for row in rows
        ]
        title = f"{source.name}: the {len(worst)} mistakes of the highest confidence"
        images = np.stack([seen.images[i] for i in worst])
        grids.write_mistakes(folder / "mistakes.png", images, captions, title)
    write_csv(folder / "mistakes.csv", rows, ["image", "file", "true", "predicted", "confidence", "rank_of_true"])


def write_csv(path: pathlib.Path, rows: Any, columns: Any = None) -> None:
    """Write dicts as a CSV file with a header."""
    with files.writing(path) as file:
        writer = csv.DictWriter(file, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def check_matplotlib() -> None:
    """Say at once where matplotlib is missing."""
    try:
        new_figure(1, 1)
    except ValueError as error:
        raise ValueError(f"{str(error).rstrip('.')}, or use --nopictures.") from None
