"""What the one-file formats share: the function they hold, the path they are written to, and their check."""

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator

import keras
import numpy as np

from keras_mixer import models
from keras_mixer.types import Config, Path, Tensor
from keras_mixer.weights import mixer_variables

# Images (B, H, W, 3), float32 in [0, 255], to probabilities (B, K) by that name.
Classifier = Callable[[Tensor], dict[str, Tensor]]
LIMIT = 2**31  # bytes: ONNX files are protocol buffers and LiteRT files flatbuffers, both with signed 32-bit offsets
ROOM = 2**24  # for all that is not weights


def float32_model(owner: str, model: keras.Model) -> keras.Model:
    """Return the model, or its copy in float32 where it computes in another precision.

    Raises:
        ValueError: if it is no MLPMixer with a head for probabilities, is quantised, or is over 2 GiB.
    """
    if keras.config.backend() != "tensorflow":
        raise ValueError(
            f"{owner}: the Keras backend is {keras.config.backend()}, but export goes through TensorFlow; start again "
            "with KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, models.MLPMixer):
        raise ValueError(f"{owner}: model must be an MLPMixer with a head, got {type(model).__name__}.")
    config = model.get_config()
    if not config["include_top"]:
        raise ValueError(f"{owner}: model {model.name!r} has no head; build it with include_top=True.")
    if _activation(config) not in ("linear", "softmax", "sigmoid"):
        raise ValueError(
            f"{owner}: classifier_activation must be None, 'softmax' or 'sigmoid' to give probabilities, got "
            f"{config['classifier_activation']!r}."
        )
    try:
        variables = mixer_variables.mixer_variables(model)
    except ValueError as error:
        raise ValueError(f"{owner}: {str(error).removeprefix('weights: ')}") from None
    size = 4 * sum(int(np.prod(variable.shape)) for variable in variables.values())
    if size > LIMIT - ROOM:
        raise ValueError(
            f"{owner}: the weights are {size:,} bytes, but one file of this format holds less than 2 GiB; use "
            "keras_mixer.export.saved_model, whose weights are files of their own."
        )
    if {layer.compute_dtype for layer in model.layers} == {"float32"}:
        return model
    copy = models.MLPMixer.from_config(config | {"dtype": "float32"})
    for name, variable in mixer_variables.mixer_variables(copy).items():
        variable.assign(keras.ops.cast(variables[name], "float32"))
    return copy


def _activation(config: Config) -> str | None:
    activation = config["classifier_activation"]
    return "linear" if activation is None else getattr(keras.activations.get(activation), "__name__", None)


def probabilities(model: keras.Model) -> Classifier:
    """Return a model as a function; a model of logits is given a softmax."""
    logits = _activation(model.get_config()) == "linear"

    def function(images: Tensor) -> dict[str, Tensor]:
        y = model(models.preprocess_input(images), training=False)
        return {"probabilities": keras.activations.softmax(y) if logits else y}

    return function


def target_path(owner: str, path: Path, suffix: str, overwrite: bool) -> pathlib.Path:
    """Return the path of a file to write, with ~ expanded.

    Raises:
        ValueError: if it is no path, or has another suffix.
        OSError: if it is there without `overwrite`, is a directory, or its folder does not exist or take files.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ValueError(f"{owner}: path must be a path that ends in {suffix}, got {type(path).__name__}.")
    text = os.fspath(path)
    path = pathlib.Path(text).expanduser()
    if path.suffix.lower() != suffix:
        raise ValueError(f"{owner}: path must end in {suffix}, got {text!r}.")
    if path.is_dir():
        raise IsADirectoryError(f"{owner}: path must be that of a file, but {text!r} is a directory.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{owner}: {text!r} exists; give overwrite=True to replace it, or another path.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{owner}: path must be in a folder that exists, but that of {text!r} does not.")
    with _one_sentence(owner, path), _temporary(path):  # minutes of conversion should not end in a full stop
        pass
    return path


@contextlib.contextmanager
def written(owner: str, path: pathlib.Path, content: bytes) -> Iterator[str]:
    """Write bytes to a temporary file beside `path`; give its path to the checks inside the block, then rename it.

    The block's error, or that of the disk, leaves nothing behind and an older file unchanged.
    """
    with _temporary(path, owner) as temporary:
        with _one_sentence(owner, path), open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
        with _one_sentence(owner, path):
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)
            os.replace(temporary, path)


@contextlib.contextmanager
def _temporary(path: pathlib.Path, owner: str | None = None) -> Iterator[str]:
    with _one_sentence(owner, path) if owner else contextlib.nullcontext():
        handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _one_sentence(owner: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{owner}: path {os.fspath(path)!r} cannot be written ({error.strerror or error})."
        raise type(error)(error.errno, message) from None


def check_images(shape: tuple[int, int, int], count: int = 8) -> np.ndarray:
    """Return images (count, H, W, channels), float32 whole numbers in [0, 255]: noise, from fine to coarse grain."""
    rng = np.random.default_rng(0)
    height, width, channels = shape
    images = []
    for k in range(count):
        grain = 2 ** (k % 6)
        small = rng.integers(0, 256, (-(-height // grain), -(-width // grain), channels))
        images.append(small[np.arange(height) // grain][:, np.arange(width) // grain])
    return np.stack(images).astype("float32")


def keras_probabilities(owner: str, function: Classifier, images: np.ndarray) -> np.ndarray:
    """Return what Keras gives for images, not traced: the reference that a file is checked against.

    Raises:
        ValueError: if it is not finite.
    """
    parts = [function(images[i : i + 8])["probabilities"] for i in range(0, len(images), 8)]
    result = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
    if not np.isfinite(result).all():
        raise ValueError(f"{owner}: the model gives NaN or infinite probabilities; mend its weights first.")
    return result
