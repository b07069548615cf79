"""A Mixer as one LiteRT (TensorFlow Lite) file, for phones and small devices: float32, float16 or int8."""

import logging
import pathlib
import tempfile
import warnings

import keras
import numpy as np

from keras_mixer import files
from keras_mixer.arguments import check_bool
from keras_mixer.export.packages import check
from keras_mixer.export.single_file import Classifier, check_images, float32_model, keras_probabilities, probabilities
from keras_mixer.export.version_folder import ExportError
from keras_mixer.types import Path

logger = logging.getLogger("keras_mixer")
# The largest difference of a probability from Keras, or for int8 the mean total variation distance of the images.
TOLERANCES = {None: 5e-5, "float16": 2e-2, "int8": 0.5}
CHECKED = 32  # calibration images
EXPECTED_AGREEMENT = 0.9  # on the best class; fewer, as with int8 and classes close to each other, is a warning


def litert(
    model: keras.Model,
    path: Path,
    quantization: str | None = None,
    calibration: np.ndarray | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write a Mixer with its preprocessing as a .tflite file, once the LiteRT runtime gives what Keras gives.

    Input `images`: (B, H, W, 3) float32 in [0, 255], any batch from 1. Output `probabilities`: (B, K) float32; of a
    model that returns logits, their softmax. Both stay float32 with int8 inside, so that one program can use all three.

    Args:
        model: an `MLPMixer` with a head whose activation is None, softmax or sigmoid.
        path: of the file, which ends in .tflite, in a folder that exists.
        quantization: None; "float16" stores weights in half the bytes and computes in float32; "int8" stores them in a
            quarter and computes in whole numbers, on scales that it finds on `calibration`.
        calibration: (N, H, W, 3) uint8, images such as the model will meet; 100 or more are advisable. Only for "int8".
        overwrite: True replaces an older file, at the moment when the new one is complete and checked.

    Returns:
        The path.

    Raises:
        ValueError: for a model that is no Mixer with a head, or has 2 GiB of weights; for calibration images that are
            missing, of another shape or dtype.
        OSError: if the file exists or cannot be written; an `ExportError` where it differs too much from Keras: a
            probability by 5e-5 (2e-2 for float16), or for int8 the distribution by a mean total variation of 0.5.
        ImportError: without the extra `litert`.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> litert(model, "mixer.tflite", quantization="float16").name
        'mixer.tflite'
    """
    check_bool("litert", overwrite=overwrite)
    model = float32_model("litert", model)
    _check_quantization(quantization, calibration, model.input_shape[1:])
    path = files.target_path("litert", path, ".tflite", overwrite)
    check("litert")
    from ai_edge_litert.interpreter import Interpreter

    function = probabilities(model)
    images = check_images(model.input_shape[1:])
    if calibration is not None and quantization == "int8":
        images = calibration[:CHECKED].astype("float32")
    expected = keras_probabilities("litert", function, images)
    content = _convert(model, function, quantization, calibration)
    with files.naming_path("litert", path), files.replacing(path) as temporary:
        temporary.write_bytes(content)
        del content
        run = Interpreter(model_path=str(temporary)).get_signature_runner("serving_default")
        sizes = (1, 2, len(images) - 3) if len(images) > 3 else (len(images),)
        parts = np.split(images, np.cumsum(sizes)[:-1])
        found = np.concatenate([run(images=part)["probabilities"] for part in parts])
        difference = _checked_difference(found, expected, quantization)
    agreement = float(np.mean(found.argmax(-1) == expected.argmax(-1)))
    level = logging.WARNING if agreement < EXPECTED_AGREEMENT else logging.INFO
    what = "litert: %s differs from Keras by %.2g and names the same best class for %.0f %% of the checked images"
    logger.log(level, what, path, difference, 100 * agreement)
    return path


def _checked_difference(found: np.ndarray, expected: np.ndarray, quantization: str | None) -> float:
    differences = np.abs(found - expected)
    difference = float(differences.sum(-1).mean() / 2 if quantization == "int8" else differences.max())
    if not difference <= TOLERANCES[quantization]:  # NaN is not
        raise ExportError(
            f"litert: the file of quantization={quantization!r} differs from Keras by {difference:.2g}, more than "
            f"{TOLERANCES[quantization]:g}; it is not kept."
        )
    return difference


def _check_quantization(quantization: str | None, calibration: np.ndarray | None, shape: tuple[int, ...]) -> None:
    if quantization not in TOLERANCES:
        raise ValueError(f"litert: quantization must be None, 'float16' or 'int8', got {quantization!r}.")
    if quantization != "int8":
        if calibration is not None:
            raise ValueError(f"litert: calibration is only for quantization='int8', got it with {quantization!r}.")
        return
    wanted = f"uint8 images (N, {', '.join(map(str, shape))})"
    if calibration is None:
        raise ValueError(f"litert: quantization='int8' needs calibration, {wanted} such as the model will meet.")
    if not isinstance(calibration, np.ndarray):
        raise ValueError(f"litert: calibration must be {wanted}, got {type(calibration).__name__}.")
    if calibration.dtype != np.uint8 or calibration.shape[1:] != tuple(shape) or not len(calibration):
        raise ValueError(f"litert: calibration must be {wanted}, got {calibration.dtype} {calibration.shape}.")


def _convert(
    model: keras.Model, function: Classifier, quantization: str | None, calibration: np.ndarray | None
) -> bytes:
    import tensorflow as tf

    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    signatures = {"serving_default": tf.function(function, input_signature=[spec])}
    module = tf.Module()
    # The variables alone: with the whole model the converter would keep them as variables that nothing ever fills.
    module.variables_of_the_model = [variable.value for variable in model.variables]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantization is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantization == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None and quantization == "int8":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.representative_dataset = lambda: ({"images": x[None].astype("float32")} for x in calibration)
        with warnings.catch_warnings():
            # TensorFlow's own converter calibrates with the interpreter that TensorFlow has deprecated.
            warnings.filterwarnings("ignore", r"\s*Warning: tf.lite.Interpreter is deprecated", UserWarning)
            return converter.convert()
