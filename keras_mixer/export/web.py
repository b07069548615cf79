"""A trained Mixer as a web page: a folder for any host of static files, which classifies pictures in the browser."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Iterator

import keras

from keras_mixer import buckets, files
from keras_mixer.arguments import check_bool
from keras_mixer.data import crops, image_limits
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.export.serving_folder import ClassNames, check_class_names
from keras_mixer.export.single_file import float32_model
from keras_mixer.export.version_folder import check_page, explained, lock_output
from keras_mixer.export.web_files import write_texts
from keras_mixer.export.web_model import BACKGROUNDS, TOLERANCES, check_pixels, write_model
from keras_mixer.export.web_runtime import check_runtime, write_runtime
from keras_mixer.types import Path

logger = logging.getLogger("keras_mixer")
TOP = 5  # classes that the page shows


def web(
    model: keras.Model,
    folder: Path,
    class_names: ClassNames | None = None,
    crop: str = "resmall",
    pixels: PixelSettings = DEFAULT_PIXELS,
    precision: str = "float16",
    runtime: Path | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write a Mixer as a web page that names what is in a picture, in the visitor's browser; docs/guides/web_page.md.

    The folder can be put on any host of static files. Its model takes one picture, uint8 (H, W, 4) of any size, and
    gives `probabilities` float32 (K,); of a model that returns logits, their softmax. The folder gets its name when it
    is whole, on disk, and ONNX Runtime gives what Keras gives.

    Args:
        model: an `MLPMixer` with a head whose activation is None, softmax or sigmoid, for RGB or grey images.
        folder: to write, in one that is made if missing.
        class_names: K names, or K pairs (id, name) as `imagenet_classes` gives; None for "0", "1", ...
        crop: of pictures: "resmall" (short side to 8/7, centre), "resize" (both sides), "none" (whole picture).
        pixels: how files become pixels. A browser cannot show the colours under transparent pixels (alpha "drop").
        precision: of the weights: "float16"; "float32", twice the bytes; "int8", half the bytes and less exact.
        runtime: the folder dist/ of the npm package onnxruntime-web in the version of `web_runtime.VERSION`, whose
            files are put beside the page; None has the page fetch them from a content delivery network.
        overwrite: True replaces an older page, at the moment when the new one is whole.

    Returns:
        The folder. Its settings.json says the largest difference of a probability from Keras.

    Raises:
        ValueError: for a model or an argument that does not fit.
        OSError: if the folder exists or cannot be written; an `ExportError` where the probabilities differ from those
            of Keras by more than 1e-3 (1e-5 in float32, 0.1 in int8).
        ImportError: without the extra `onnx`.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=3)
        >>> web(model, "page", class_names=["cat", "dog", "fox"]).as_posix()
        'page'
    """
    check_bool("web", overwrite=overwrite)
    model = float32_model("web", model)
    pixels = dataclasses.replace(pixels, channels=_channels(model))
    ids, names = check_class_names(class_names, model.get_layer("head").units, "web")
    _check_choices(crop, pixels, precision)
    of_runtime = check_runtime(runtime)
    target = check_page(folder, overwrite)
    with _new_folder(target, overwrite) as page:
        difference = write_model(page / "model.onnx", model, crop, pixels, precision)
        settings = {
            "format": "keras_mixer web page 1",
            "image_size": list(model.input_shape[1:3]),
            "crop": crop,
            **dataclasses.asdict(pixels),
            "background": BACKGROUNDS[pixels.alpha],
            "precision": precision,
            "largest_difference": difference,
            "top": min(TOP, len(names)),
            "limits": {
                "bytes": image_limits.MAX_BYTES,
                "pixels": image_limits.MAX_PIXELS,
                "aspect": image_limits.MAX_ASPECT,
            },
            "model": {"file": "model.onnx", "bytes": (page / "model.onnx").stat().st_size},
            "runtime": write_runtime(page, of_runtime),
        }
        write_texts(page, settings, names, wordnet=ids[0].startswith("n0"))
    logger.info("web: %s differs from Keras by at most %.2g", target, difference)
    return target


def _channels(model: keras.Model) -> int:
    channels = model.input_shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"web: model must take RGB or grey images, not those of {channels} channels.")
    return channels


def _check_choices(crop: str, pixels: PixelSettings, precision: str) -> None:
    if crop not in crops.EVALUATION_CROPS:
        raise ValueError(f"web: crop must be resmall, resize or none, got {crop!r}.")
    check_pixels(pixels)
    if precision not in TOLERANCES:
        raise ValueError(f"web: precision must be {', '.join(TOLERANCES)}, got {precision!r}.")


@contextlib.contextmanager
def _new_folder(target: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Give an empty folder to fill, which becomes `target` when the block ends without an error."""
    with files.naming_folder("output", target.parent, "folder"):
        buckets.make_folder(target.parent)
        lock = lock_output(target.parent)
    with lock:
        check_page(target, overwrite)  # again, now that nobody else writes
        temporary = target.with_name(f".{target.name}.tmp")
        with explained(target), files.replacing_folder(target, temporary, "settings.json") as page:
            yield page
