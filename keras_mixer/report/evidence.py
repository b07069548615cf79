"""What a page shows that no other file of the run has, mostly small pictures, made while model and images are there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mixer.data import subsets
from keras_mixer.data.source import Source
from keras_mixer.evaluation.calibration import calibration_rows
from keras_mixer.evaluation.predictions import Predictions, surest_hits, worst_mistakes
from keras_mixer.evaluation.report_files import MOST_HITS, MOST_MISTAKES, Seen
from keras_mixer.pictures import grids
from keras_mixer.pictures import weights as weight_pictures
from keras_mixer.report import images as pictures_of
from keras_mixer.report import occlusion
from keras_mixer.report.kept import Evidence
from keras_mixer.types import Grid

MOST_UNITS, MOST_BLOCKS = 64, 3
MOST_OF_BATCH = 16
OCCLUDED = 4  # mistakes, and as many hits
CHEAP_TO_COUNT = 5_000  # images of a source that has no list of its labels


def of_data(**sources: Source) -> Evidence:
    """Return the evidence of data: by the name of a part its name, images, images of each class and what is left out.

    Images are counted by class where no image has to be read for it: in folders, and in small sources.
    """
    parts = {}
    for part, source in sources.items():
        counts = None
        if source.loose_files or source.num_examples <= CHEAP_TO_COUNT:
            counts = np.bincount(subsets.read_labels(source), minlength=len(source.class_names)).tolist()
        parts[part] = {
            "name": source.name,
            "images": source.num_examples,
            "per_class": counts,
            "left_out": list(source.left_out),
        }
    names = list(next(iter(sources.values())).class_names)
    return {"data": {"class_names": names, "parts": parts}}


def of_batch(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Evidence:
    """Return the evidence of a training batch: images (B, H, W, channels) in [-1, 1] and labels (B, K)."""
    shown = zip(images[:MOST_OF_BATCH], labels[:MOST_OF_BATCH], strict=True)
    return {
        "batch": [
            {**_picture(image), "caption": grids.caption(label, class_names).split("\n")} for image, label in shown
        ]
    }


def of_weights(stem: np.ndarray, token_mixing: Mapping[int, np.ndarray], grid: Grid) -> Evidence:
    """Return the evidence of weights: the units of the stem, and the hidden units of some token-mixing MLPs.

    Args:
        stem: (P, P, 3 or 1, C).
        token_mixing: the number of a block -> the kernel (S, D) of its first layer.
        grid: rows and columns of patches, S in all.
    """
    units = weight_pictures.stem_unit_images(stem)
    order = np.argsort(weight_pictures.spatial_frequency(units), kind="stable")[:MOST_UNITS]
    tiles = np.round(127.5 + 127.5 * pictures_of.scaled(units[order])).astype(np.uint8)
    side = units.shape[1]
    text = f"{_of(len(order), len(units))} units of the stem, each a patch of {side} x {side} pixels. Grey is zero."
    found = [{"title": "Stem", "text": text, "picture": pictures_of.png_uri(pictures_of.mosaic(tiles))}]
    for block, kernel in list(token_mixing.items())[:MOST_BLOCKS]:
        images = weight_pictures.hidden_unit_images(kernel, grid)
        order = weight_pictures.pair_inverses(images)[0][:MOST_UNITS]
        tiles = pictures_of.diverging(pictures_of.scaled(images[order]))
        text = (
            f"{_of(len(order), len(images))} hidden units of token mixing in block {block}, one weight for each of "
            f"{grid[0]} x {grid[1]} patches. Red is positive, blue negative. Beside each is the unit closest to its "
            "inverse."
        )
        picture = pictures_of.png_uri(pictures_of.mosaic(tiles))
        found.append({"title": f"Token mixing, block {block}", "text": text, "picture": picture})
    return {"weights": found}


def of_images(predictions: Predictions, class_names: Sequence[str], seen: Seen) -> Evidence:
    """Return the evidence of predictions: calibration, the worst mistakes and the surest hits, with their pictures."""
    totals = predictions.totals()
    rows = calibration_rows(predictions.confidence, predictions.correct)
    calibration = {"expected_calibration_error": totals["expected_calibration_error"], "bins": rows}

    def told(indices: np.ndarray) -> list[dict[str, Any]]:
        return [_example(i, predictions, class_names, seen) for i in indices.tolist()]

    mistakes, hits = worst_mistakes(predictions, MOST_MISTAKES), surest_hits(predictions, MOST_HITS)
    return {"calibration": calibration, "mistakes": told(mistakes), "hits": told(hits)}


def to_occlude(predictions: Predictions) -> list[int]:
    """Return the indices of the images whose parts are covered: some of the worst mistakes and of the surest hits."""
    return [*worst_mistakes(predictions, OCCLUDED).tolist(), *surest_hits(predictions, OCCLUDED).tolist()]


def of_occlusion(
    predictions: Predictions, class_names: Sequence[str], seen: Seen, drops: np.ndarray, places: np.ndarray
) -> Evidence:
    """Return the evidence of what the model looked at.

    Args:
        predictions, class_names, seen: of `of_images`.
        drops: (N, M), from `occlusion.drops`, of the images of `to_occlude`.
        places: (M, 4), from `occlusion.boxes`.
    """
    found = []
    rows = len(np.unique(places[:, 0]))
    columns = len(places) // rows
    for i, fallen in zip(to_occlude(predictions), drops, strict=True):
        pixels = pictures_of.pixels_of(seen.images[i])
        most = int(fallen.argmax())
        overlay = pictures_of.overlay(pixels, fallen, places)
        found.append(
            _example(i, predictions, class_names, seen)
            | {
                "overlay": pictures_of.data_uri(overlay),
                "largest_drop": float(fallen[most]),
                "row": most // columns + 1,
                "column": most % columns + 1,
            }
        )
    return {"occlusion": {"rows": rows, "columns": columns, "most_cells": occlusion.MOST_CELLS, "examples": found}}


def _example(i: int, predictions: Predictions, class_names: Sequence[str], seen: Seen) -> dict[str, Any]:
    return {
        "image": i,
        "file": seen.files[i],
        "true": class_names[predictions.labels[i]],
        "predicted": class_names[predictions.predicted[i]],
        "correct": bool(predictions.correct[i]),
        "confidence": float(predictions.confidence[i]),
        **(_picture(seen.images[i]) if i in seen.images else {}),
    }


def _picture(image: np.ndarray) -> dict[str, Any]:
    pixels = pictures_of.pixels_of(image)
    return {"picture": pictures_of.data_uri(pixels), "flat": max(pixels.shape[:2]) <= pictures_of.FLAT}


def _of(shown: int, count: int) -> str:
    return f"{shown}" if shown == count else f"{shown} of {count:,}"
