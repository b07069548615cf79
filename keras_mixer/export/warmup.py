"""The requests that TensorFlow Serving runs when it loads a version, so that the first real one is not slow.

They are `PredictionLog` messages of TensorFlow Serving in a TFRecord file. Its package is not needed: the few messages
around the tensors, which TensorFlow itself can write, are put together here from the wire format of protocol buffers.
"""

import pathlib
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto

PATH = "assets.extra/tf_serving_warmup_requests"
BATCH = 8  # of the larger requests
# Numbers of the fields in prediction_log.proto, predict.proto and model.proto of TensorFlow Serving.
PREDICT_LOG, REQUEST, MODEL_SPEC, INPUTS, SIGNATURE_NAME, NAME, KEY, VALUE = 6, 1, 1, 2, 3, 1, 1, 2


def write_warmup(folder: pathlib.Path, shape: tuple[int, ...], images: np.ndarray | None = None) -> int:
    """Write the requests of a version: one image and several, for each signature that gives probabilities.

    Args:
        folder: of the version.
        shape: (height, width, channels) of the model's images.
        images: (N, height, width, channels) uint8; None for grey, which takes almost no room in the file.

    Returns:
        The number of requests.
    """
    if images is None:
        images = np.full((BATCH, *shape), 128, np.uint8)
    requests = []
    for batch in dict.fromkeys((1, len(images))):
        files = np.array([tf.io.encode_jpeg(image).numpy() for image in images[:batch]], object)
        of_signature = {
            "serving_default": images[:batch],
            "serving_float": images[:batch].astype("float32"),
            "serving_bytes": files,
        }
        requests += [predict_log(name, tensor) for name, tensor in of_signature.items()]
    path = folder / PATH
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(request)
    return len(requests)


def predict_log(signature: str, images: np.ndarray) -> bytes:
    """Return the bytes of a `tensorflow.serving.PredictionLog` that asks a signature about images."""
    spec = _field(NAME, b"default") + _field(SIGNATURE_NAME, signature.encode())
    entry = _field(KEY, b"images") + _field(VALUE, _tensor(images).SerializeToString(deterministic=True))
    request = _field(MODEL_SPEC, spec) + _field(INPUTS, entry)
    return _field(PREDICT_LOG, _field(REQUEST, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, a text or a message: its number and type 2, the length, the content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """A whole number in groups of 7 bits, the least first; the eighth bit says that more follow."""
    groups = [value & 127]
    while value := value >> 7:
        groups[-1] |= 128
        groups.append(value & 127)
    return bytes(groups)


def _tensor(array: np.ndarray) -> "TensorProto":
    """As a message; of equal numbers it holds one, which the format repeats."""
    if array.dtype == object or array.size == 0 or (array != array.flat[0]).any():
        return tf.make_tensor_proto(array)
    return tf.make_tensor_proto(array.flat[0], shape=array.shape)
