"""The model of an exported page: an ONNX file from a picture of any size to probabilities, checked against Keras."""

import logging
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.data import colours, crops
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.errors import InputError
from keras_mixer.export.packages import check
from keras_mixer.export.picture_graph import classifier
from keras_mixer.export.single_file import Classifier, check_images, keras_probabilities, probabilities
from keras_mixer.export.version_folder import ExportError

OPSET = 18  # the newest that tf2onnx 1.17 writes
# The largest difference of a probability from Keras.
TOLERANCES = {"float32": 1e-5, "float16": 1e-3, "int8": 0.1}
BACKGROUNDS = {"white": "#ffffff", "black": "#000000"}  # that a page can show through transparent pixels
LEAST = 1024  # numbers of an array that is worth storing in fewer bytes


def write_model(path: pathlib.Path, model: keras.Model, crop: str, pixels: PixelSettings, precision: str) -> float:
    """Write the file, and return the largest difference of a probability from Keras.

    Args:
        path: of the file.
        model: of `single_file.float32_model`.
        crop, pixels: as an evaluation makes images for it.
        precision: of the weights, one of `TOLERANCES`.

    Raises:
        ExportError: if the difference is more than the tolerance of the precision.
        ImportError: without the extra `onnx`.
    """
    check("web")
    import onnx
    import onnxruntime
    import tf2onnx

    size, function = model.input_shape[1:3], probabilities(model)
    pictures = check_pictures(size)
    expected = _by_keras(function, pictures, size, crop, pixels)
    of_picture = tf.function(classifier(function, size, crop, pixels), autograph=False)
    spec = tf.TensorSpec((None, None, 4), tf.uint8, name="image")
    converted, _ = tf2onnx.convert.from_function(of_picture, input_signature=[spec], opset=OPSET)
    for value, names in ((converted.graph.input[0], ("height", "width")), (converted.graph.output[0], ())):
        for dimension, name in zip(value.type.tensor_type.shape.dim, names, strict=False):
            dimension.dim_param = name
    if precision == "int8":
        converted = quantised(converted, path)
    if precision != "float32":
        store_as_float16(converted)
    path.write_bytes(converted.SerializeToString())
    del converted
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = np.stack([session.run(["probabilities"], {"image": picture})[0] for picture in pictures])
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCES[precision]:  # NaN is not
        other = "; use precision float32, or float16" if precision == "int8" else "; use precision float32"
        raise ExportError(
            f"web: the model in {precision} gives probabilities that differ from Keras by {difference:.2g}, more than "
            f"{TOLERANCES[precision]:g}, so nothing was written{'' if precision == 'float32' else other}."
        )
    return difference


def check_pixels(pixels: PixelSettings) -> None:
    """Raise a ValueError unless a page can make such pixels of a file."""
    if pixels.alpha not in BACKGROUNDS:
        fault = f"{pixels.alpha!r} shows the colours under transparent pixels, which no browser tells a page"
        raise InputError("alpha", fault, "give `alpha` white or black")


def check_pictures(size: tuple[int, int]) -> list[np.ndarray]:
    """Return pictures, uint8 (H, W, 4), smaller, larger, narrower and wider than `size`: noise of various grain."""
    height, width = size
    shapes = [(height, width), (3, 5), (2 * height + 3, 2 * width + 1), (301, 203), (40, 977), (610, 60), (480, 640)]
    pictures = [check_images((*shape, 4), k + 1)[k].astype(np.uint8) for k, shape in enumerate(shapes)]
    pictures[0][:, :, :3] = 255  # plain, as much paper is
    return pictures


def store_as_float16(converted: Any) -> None:
    """Store the weights of an ONNX model in half the bytes; they are cast to float32 once, when it is loaded.

    Raises:
        ExportError: for a weight beyond float16.
    """
    import onnx

    graph, casts = converted.graph, []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
            continue
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            raise ExportError("web: a weight is beyond float16, so nothing was written; use precision float32.")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT))
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *others])


def quantised(converted: Any, path: pathlib.Path) -> Any:
    """Return an ONNX model whose matrices are multiplied in 8-bit whole numbers, on a scale for each output of a layer.

    The file at `path` is used on the way.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path.write_bytes(converted.SerializeToString())
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises a step for graphs whose shapes are not known, and tells of each layer
    try:
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    finally:
        logging.disable(before)
    return onnx.load(path)


def _by_keras(
    function: Classifier, pictures: list[np.ndarray], size: tuple[int, int], crop: str, pixels: PixelSettings
) -> np.ndarray:
    images = [crops.evaluation_crop(picture[:, :, :3], crop, size, pixels.antialias) for picture in pictures]
    levels = colours.to_channels(tf.stack(images), pixels.channels)
    return keras_probabilities("web", function, tf.cast(levels, tf.float32))
