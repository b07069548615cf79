"""What the one-file formats share: the function they hold, and its check."""

from collections.abc import Callable

import keras
import numpy as np

from keras_mixer import models
from keras_mixer.types import Config, Tensor
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
