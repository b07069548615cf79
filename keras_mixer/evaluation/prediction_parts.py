"""Predictions of many pictures as files of JSON lines, each file a part of a job, here or on an engine."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from keras_mixer import buckets, files
from keras_mixer.data.folders import printable
from keras_mixer.data.job_parts import Engine, Job, Work, do_parts, folder_of, open_job
from keras_mixer.evaluation.image_predictions import ImagePredictions


class Predictor(Protocol):
    """What predicts: a `runs.Run`."""

    def predict_each(self, images: Sequence[Any], top: int, batch_size: int) -> Iterator[ImagePredictions]:
        """Yield what is in each image."""


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a process needs to write any part.

    Attributes:
        job: has the images of each part.
        folder: where the parts are written.
        open_model: called once in each process.
        top: classes to name for each image.
        batch_size: images that the model sees at a time.
    """

    job: Job
    folder: str
    open_model: Callable[[], Predictor]
    top: int
    batch_size: int

    def prepare(self) -> Work:
        """Open the model, and return what writes one part."""
        return functools.partial(self._write, self.open_model())

    def _write(self, model: Predictor, name: str) -> dict[str, Any]:
        images, faults = self.job.images(name), 0
        with files.writing(buckets.path_of(self.folder) / name) as file:
            for found in model.predict_each(images, self.top, self.batch_size):
                faults += found.fault is not None
                file.write(json_line(found.image, found) + "\n")
        return {"images": len(images), "faults": faults}


def json_line(image: str, found: ImagePredictions) -> str:
    """Return one image's predictions, or what is wrong with it, as a line of JSON.

    Example:
        >>> json_line("cat.jpg", ImagePredictions("cat.jpg", fault="cat.jpg: is missing."))
        '{"image": "cat.jpg", "fault": "cat.jpg: is missing."}'
    """
    if found.fault is not None:
        return json.dumps({"image": image, "fault": printable(found.fault)})
    classes = [{"class": k, "name": printable(name), "probability": round(p, 6)} for k, name, p in found]
    return json.dumps({"image": image, "predictions": classes})


def write_predictions(
    images: Sequence[str],
    output: str | os.PathLike[str],
    open_model: Callable[[], Predictor],
    described: object,
    shape: tuple[int, int, int],
    engine: Engine | None = None,
) -> tuple[list[pathlib.Path], int]:
    """Write the predictions of images into a folder, in their order, and return the files and the number of bad images.

    A bad image costs itself alone: its line has its fault. Files appear whole, and outlive a kill: the same call does
    the rest.

    Args:
        images: their paths.
        output: the folder; a new one, or one that the same job began.
        open_model: called once in each process; for an engine picklable.
        described: JSON values that say which model it is, so that two models never share an output.
        shape: (classes to name for each image, images that the model sees at a time, images of each file).
        engine: where the files are written; None writes them here.

    Raises:
        ValueError: for an output that is another job's, or in use.
        OSError: if the output holds something else, or cannot be written.
    """
    top, batch_size, size = shape
    folder = buckets.path_of(output, "output")
    _check_output(folder)
    count = -(-len(images) // size)
    names = [f"predictions-{k:05d}-of-{count:05d}.jsonl" for k in range(count)]
    lists = [(name, list(images[k * size : (k + 1) * size])) for k, name in enumerate(names)]
    with open_job(folder, [described, top], lists) as job:
        with files.naming_folder("output", folder):
            buckets.make_folder(folder)
        work = Predictions(job, os.fspath(folder), open_model, top, batch_size)
        facts = do_parts(job, names, work.prepare, engine, "predicted:")
        for path in [path for path in folder.iterdir() if path.name.endswith(".tmp")]:
            path.unlink()  # of a process that was killed
    return [folder / name for name in names], sum(of_part["faults"] for of_part in facts)


def _check_output(folder: pathlib.Path) -> None:
    """Refuse an output that no unfinished job has begun."""
    if folder.name.endswith((".json", ".jsonl")):
        fault = f"{folder} ends like a file, and predictions go to a folder of files"
        raise ValueError(f"output: {fault}; leave {folder.suffix} out.")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"output: {folder} is a file; choose another folder.")
    if folder.exists() and any(path != folder for path in folder.iterdir()) and not folder_of(folder).exists():
        raise FileExistsError(f"output: {folder} holds something already; choose another folder, or remove it.")
