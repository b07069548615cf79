"""A Mixer as one ONNX file, for ONNX Runtime, OpenVINO and other programs that read the format."""

import logging
import pathlib

import keras
import numpy as np

from keras_mixer import files
from keras_mixer.arguments import check_bool
from keras_mixer.export.packages import check
from keras_mixer.export.single_file import check_images, float32_model, keras_probabilities, probabilities
from keras_mixer.export.version_folder import ExportError
from keras_mixer.types import Path

logger = logging.getLogger("keras_mixer")
OPSET = 18  # the newest that tf2onnx 1.17 writes
TOLERANCE = 1e-5  # of a probability, from Keras; measured 4e-8 (tiny) to 3e-6 (S/16), see docs/results/export.md
BATCHES = (1, 2, 5)


def onnx(model: keras.Model, path: Path, overwrite: bool = False) -> pathlib.Path:
    """Write a Mixer with its preprocessing as an ONNX file, once ONNX Runtime gives what Keras gives.

    Input `images`: (B, H, W, 3) float32 in [0, 255], any batch. Output `probabilities`: (B, K) float32; of a model that
    returns logits, their softmax. A model of another precision is written, and computes, in float32.

    Args:
        model: an `MLPMixer` with a head whose activation is None, softmax or sigmoid.
        path: of the file, which ends in .onnx, in a folder that exists.
        overwrite: True replaces an older file, at the moment when the new one is complete and checked.

    Returns:
        The path.

    Raises:
        ValueError: for a model that is no Mixer with a head, or has 2 GiB of weights.
        OSError: if the file exists or cannot be written; an `ExportError` where it gives a probability that differs
            from Keras by more than 1e-5.
        ImportError: without the extra `onnx`.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> onnx(model, "mixer.onnx").name
        'mixer.onnx'
    """
    check_bool("onnx", overwrite=overwrite)
    model = float32_model("onnx", model)
    path = files.target_path("onnx", path, ".onnx", overwrite)
    check("onnx")
    import onnx as onnx_package
    import onnxruntime
    import tensorflow as tf
    import tf2onnx

    function = probabilities(model)
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="images")
    converted, _ = tf2onnx.convert.from_function(tf.function(function), input_signature=[spec], opset=OPSET)
    for value in (*converted.graph.input, *converted.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    images = check_images(model.input_shape[1:], sum(BATCHES))
    expected = keras_probabilities("onnx", function, images)
    with files.naming_path("onnx", path), files.replacing(path) as temporary:
        temporary.write_bytes(converted.SerializeToString())
        del converted
        onnx_package.checker.check_model(temporary, full_check=True)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        parts = np.split(images, np.cumsum(BATCHES)[:-1])
        found = np.concatenate([session.run(["probabilities"], {"images": part})[0] for part in parts])
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE:  # NaN is not
            raise ExportError(
                f"onnx: the file gives probabilities that differ from Keras by {difference:.2g}, more than "
                f"{TOLERANCE:g}; it is not kept."
            )
    logger.info("onnx: %s differs from Keras by at most %.2g", path, difference)
    return path
