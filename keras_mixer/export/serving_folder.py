"""A trained Mixer as a version folder that TensorFlow Serving mounts: written, reloaded, compared, then named."""

import contextlib
import dataclasses
import hashlib
import json
import numbers
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_mixer
from keras_mixer.arguments import check_bool, check_positive_int
from keras_mixer.data import colours, crops, decode_plain, image_limits
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.export.model_card import model_card
from keras_mixer.export.signatures import OK, ServedMixer, Serving
from keras_mixer.export.version_folder import ExportError, check_output, new_version, unwritable
from keras_mixer.export.warmup import write_warmup
from keras_mixer.types import Path
from keras_mixer.versions import versions

ClassNames = Iterable[str | tuple[str, str]]  # names, or ids and names
STORAGE = ("float32", "bfloat16", "float16")
TOLERANCE = 1e-5  # of a probability, from Keras, in float32; measured 3e-7 (B/16), and 2e-6 (S/16) with a harsh head
LOW_PRECISION_TOLERANCE = 2e-2  # where it computes in another dtype, which rounds to 3 digits


def saved_model(
    model: keras.Model,
    output: Path,
    class_names: ClassNames | None = None,
    version: int | None = None,
    crop: str = "resmall",
    pixels: PixelSettings = DEFAULT_PIXELS,
    top: int = 5,
    activation: str | None = None,
    storage: str = "float32",
    jit_compile: bool = False,
    warmup_images: np.ndarray | None = None,
    card: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write a Mixer with its preprocessing as a SavedModel that TensorFlow Serving mounts unchanged.

    docs/guides/exporting.md has its signatures. The folder gets its name when it is whole, on disk, and gives after
    loading the probabilities that Keras gives, to 1e-5 in float32.

    Args:
        model: an `MLPMixer` with a head whose activation is None, softmax or sigmoid, for RGB or grey images.
        output: the folder of the versions, which is made if missing.
        class_names: K names, or K pairs (id, name) as `imagenet_classes` gives; None for "0", "1", ...
        version: whole number, 1 where None; TensorFlow Serving takes the largest.
        crop: of encoded images: "resmall" (short side to 8/7, centre), "resize" (both sides), "none" (whole image).
        pixels: how encoded images become pixels.
        top: classes that are named for an image, at most; fewer where the head has fewer.
        activation: "softmax" or "sigmoid" of the logits; None for the model's own, softmax where it gives logits.
        storage: "float32", or "bfloat16" or "float16", half the bytes: weights are rounded, and cast when used.
        jit_compile: True compiles the Mixer with XLA, again for each size of a batch.
        warmup_images: (N, H, W, channels) uint8 for the warm-up requests; None for grey ones.
        card: more to tell in model_card.md, names and values, such as {"Trained on": "digits"}.
        overwrite: True replaces an older folder of this version, at the moment when the new one is whole.

    Returns:
        `<output>/<version>`.

    Raises:
        ValueError: for a model or an argument that does not fit.
        OSError: if the version exists or the folder cannot be written; an `ExportError` where the written model does
            not give what Keras gives.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=3)
        >>> saved_model(model, "served", class_names=["cat", "dog", "fox"]).as_posix()
        'served/1'
    """
    check_bool("saved_model", jit_compile=jit_compile, overwrite=overwrite)
    check_positive_int("saved_model", top=top)
    activation = _check_model(model, activation)
    pixels = dataclasses.replace(pixels, channels=model.input_shape[-1])
    num_classes = model.get_layer("head").units
    ids, names = check_class_names(class_names, num_classes)
    version = _check_version(1 if version is None else version)
    if crop not in crops.EVALUATION_CROPS:
        raise ValueError(f"saved_model: crop must be resmall, resize or none, got {crop!r}.")
    if storage not in STORAGE:
        raise ValueError(f"saved_model: storage must be float32, bfloat16 or float16, got {storage!r}.")
    warmup_images = None if warmup_images is None else _check_warmup(warmup_images, model.input_shape[1:])
    how = Serving(activation, crop, pixels, min(int(top), num_classes), storage, bool(jit_compile))

    with new_version(output, version, overwrite) as folder:
        names_file = folder / "class_names.txt"  # TensorFlow copies it to assets/
        names_file.write_text("".join(f"{name}\n" for name in names), "utf-8")
        served = ServedMixer(model, str(names_file), how)
        _check_finite(served, storage)
        with _explained(folder, version):
            tf.saved_model.save(served, str(folder), signatures=served.signatures())
        names_file.unlink()
        difference = _compare(folder, served, model, names, how)
        facts = _facts(model, how) | {
            "class_names": list(names),
            "class_ids": list(ids),
            "largest_difference": difference,
            "weights_sha256": weights_sha256(served.weights),
            "card": dict(card or {}),
        }
        (folder / "export.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (folder / "model_card.md").write_text(model_card(facts, card), "utf-8")
        with _explained(folder, version):
            write_warmup(folder, model.input_shape[1:], warmup_images)
    return check_output(output) / str(version)


def _check_version(version: Any) -> int:
    if isinstance(version, bool) or not isinstance(version, numbers.Integral) or not 0 <= int(version) < 2**63:
        raise ValueError(f"saved_model: version must be a whole number of at least 0, got {version!r}.")
    return int(version)


def _check_warmup(images: Any, shape: tuple[int, ...]) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
        raise ValueError(
            f"saved_model: warmup_images must be uint8 of shape (N, {', '.join(map(str, shape))}), got "
            f"{images.dtype} of shape {images.shape}."
        )
    return images


@contextlib.contextmanager
def _explained(folder: pathlib.Path, version: int) -> Iterator[None]:
    """Give TensorFlow's failure to write into `folder` the sentence of one to write the version."""
    try:
        yield
    except tf.errors.OpError as error:
        raise unwritable(folder.with_name(str(version)), error) from None


def _facts(model: keras.Model, how: Serving) -> dict[str, Any]:
    """Return what export.json tells of a model and of how it is served."""
    settings = dataclasses.asdict(how)
    return {
        "format": "keras_mixer SavedModel 1",
        "model": model.name,
        "image_size": list(model.input_shape[1:3]),
        "value_range": [0, 255],
        **settings.pop("pixels"),
        **settings,
        "features": model.get_layer("pre_logits").output.shape[-1],
        "parameters": model.count_params(),
        "compute": model.get_layer("stem").compute_dtype,
        "limits": {
            "bytes": image_limits.MAX_BYTES,
            "pixels": image_limits.MAX_PIXELS,
            "aspect": image_limits.MAX_ASPECT,
        },
        "versions": versions(),
    }


def weights_sha256(weights: Mapping[str, tf.Variable]) -> str:
    """Return the sha256 of path -> variable: of each in the order of their paths, the path and the stored values."""
    digest = hashlib.sha256()
    for path in sorted(weights):
        digest.update(path.encode())
        digest.update(np.ascontiguousarray(weights[path].numpy()).view(np.uint8).data)
    return digest.hexdigest()


def check_class_names(
    class_names: ClassNames | None, num_classes: int, owner: str = "saved_model"
) -> tuple[tuple[str, ...], ...]:
    """Return the ids and the names of the classes, or raise a ValueError."""
    if class_names is None:
        class_names = [str(k) for k in range(num_classes)]
    if isinstance(class_names, (str, bytes)) or not np.iterable(class_names):
        raise ValueError(f"{owner}: class_names must be a list of {num_classes} names, got {class_names!r}.")
    pairs = [(str(k), name) if isinstance(name, str) else tuple(name) for k, name in enumerate(class_names)]
    if len(pairs) != num_classes:
        raise ValueError(f"{owner}: the head has {num_classes} classes, but class_names has {len(pairs)} names.")
    for k, pair in enumerate(pairs):
        if len(pair) != 2 or not all(isinstance(text, str) and text for text in pair):
            raise ValueError(f"{owner}: class_names must be texts that are not empty, or (id, name); {k} is {pair!r}.")
        if "\n" in pair[1] or "\r" in pair[1]:
            raise ValueError(f"{owner}: class_names must be of one line each; that of class {k} is {pair[1]!r}.")
    return tuple(zip(*pairs, strict=True))


def _check_model(model: keras.Model, activation: str | None) -> str:
    """Return the activation to apply to the logits of a model, or raise a ValueError."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"saved_model: the Keras backend is {keras.backend.backend()}, but a SavedModel is TensorFlow's; start "
            "again with KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras_mixer.MLPMixer):
        raise ValueError(f"saved_model: model must be an MLPMixer, got {type(model).__name__}.")
    config = model.get_config()
    if not config["include_top"]:
        raise ValueError(f"saved_model: model {model.name!r} has no head; build it with include_top=True.")
    if config["input_shape"][2] not in (1, 3):
        found = config["input_shape"][2]
        raise ValueError(f"saved_model: model must take RGB or grey images, not those of {found} channels.")
    own = config["classifier_activation"]
    own = None if own is None else getattr(keras.activations.get(own), "__name__", repr(own))
    own = None if own == "linear" else own
    if own not in (None, "softmax", "sigmoid"):
        raise ValueError(
            f"saved_model: classifier_activation must be None, softmax or sigmoid to give probabilities, got {own!r}."
        )
    if activation not in (None, "softmax", "sigmoid"):
        raise ValueError(f"saved_model: activation must be softmax or sigmoid, got {activation!r}.")
    if own and activation and own != activation:
        raise ValueError(f"saved_model: activation is {activation}, but the model's own is {own}; leave it out.")
    return activation or own or "softmax"


def _check_finite(served: ServedMixer, storage: str) -> None:
    for path, variable in served.weights.items():
        if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
            raise ValueError(
                f"saved_model: the weight {path} has a value that is NaN or infinite in {storage}; mend it"
                f"{', or use storage=bfloat16' if storage == 'float16' else ''}."
            )


def _compare(
    folder: pathlib.Path,
    served: ServedMixer,
    model: keras.Model,
    names: Sequence[str],
    how: Serving,
) -> float:
    """Return the largest difference of a probability or feature between the written model and Keras.

    Raises:
        ExportError: if it is more than rounding.
    """
    height, width, channels = model.input_shape[1:]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, height, width, channels), np.uint8)
    photo = rng.integers(0, 256, (height + 5, 2 * width + 3, 3), np.uint8)
    cropped = crops.evaluation_crop(photo, how.crop, (height, width), how.pixels.antialias)
    images[2] = colours.to_channels(cropped, channels)
    files = [tf.io.encode_png(image).numpy() for image in (photo, photo)]
    expected, features = _by_keras(served, model, how.activation, images)
    loaded = tf.saved_model.load(str(folder)).signatures
    answers = loaded["serving_default"](images=tf.constant(images))
    floats = loaded["serving_float"](images=tf.constant(images.astype("float32")))
    of_bytes = loaded["serving_bytes"](images=tf.constant([files[0], b"no image", files[1]]))
    found = {
        "serving_default": (answers["probabilities"], expected),
        "serving_float": (floats["probabilities"], expected),
        "serving_bytes": (of_bytes["probabilities"], np.stack([expected[2], 0 * expected[2], expected[2]])),
        "features": (loaded["features"](images=tf.constant(images))["pre_logits"], features),
    }
    low = model.get_layer("stem").compute_dtype != "float32"
    largest = 0.0
    for name, (ours, theirs) in found.items():
        # Features are of any size, so they are compared relative to the largest.
        scale = max(1.0, float(np.abs(theirs).max()))
        difference = float(np.abs(ours.numpy() - theirs).max()) / scale
        if not difference <= (LOW_PRECISION_TOLERANCE if low else TOLERANCE):  # NaN too
            raise ExportError(
                f"saved_model: the signature {name} of the written model differs from Keras by {difference:.3g}, more "
                "than rounding, so nothing was exported; please report it."
            )
        largest = max(largest, difference)
    best = tf.math.top_k(answers["probabilities"], answers["classes"].shape[1]).indices.numpy()
    named = [[names[k] for k in row] for row in best]
    status = [OK, decode_plain.NOT_TAKEN, OK]
    texts = lambda tensor: [[text.decode() for text in row] for row in np.atleast_2d(tensor.numpy())]
    if texts(answers["classes"]) != named or texts(of_bytes["status"]) != [status]:
        raise ExportError(
            "saved_model: the written model names other classes, so nothing was exported; please report it."
        )
    return largest


def _by_keras(
    served: ServedMixer, model: keras.Model, activation: str, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities and pre_logits of the Keras model itself, with weights as they are stored."""
    layers = keras.Model(model.input, [model.get_layer("head").output, model.get_layer("pre_logits").output])
    with keras.StatelessScope(state_mapping=served.replaced()):
        logits, features = layers(keras_mixer.preprocess_input(images), training=False)
    return getattr(keras.activations, activation)(logits).numpy(), features.numpy()
