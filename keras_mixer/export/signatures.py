"""The graph of an exported Mixer: from uint8, float or encoded images to probabilities, class names and features."""

import dataclasses

import keras
import tensorflow as tf

from keras_mixer.data import colours, file_crops
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.models import preprocess_input

Answers = dict[str, tf.Tensor]
OK = "ok"
UNREADABLE = "unreadable image"  # others are those of `image_limits` and `decode_plain`
OUT_OF_RANGE = "pixel not in [0, 255]"


@dataclasses.dataclass(frozen=True)
class Serving:
    """How a model is served.

    Attributes:
        activation: "softmax" or "sigmoid", of the logits.
        crop: of encoded images, see `keras_mixer.data.crops.evaluation_crop`.
        pixels: of encoded images; its channels are those of the model.
        top: classes named for an image.
        storage: dtype of the floating variables; they are cast where they are used.
        jit_compile: True compiles the Mixer with XLA, once for each size of a batch.
    """

    activation: str
    crop: str
    pixels: PixelSettings
    top: int
    storage: str
    jit_compile: bool


class ServedMixer(tf.Module):
    """What is written as a SavedModel: the variables, the table of class names and the signatures.

    Args:
        model: an `MLPMixer` with a head.
        class_names: path of a text file with the name of class k in line k.
        how: a `Serving`.
    """

    def __init__(self, model: keras.Model, class_names: str, how: Serving) -> None:
        super().__init__(name="mixer")
        self.weights = stored_weights(model, how.storage)
        layers = keras.Model(model.input, [model.get_layer(name).output for name in ("pre_logits", "head")])
        # Inside functions, since TensorFlow would write down what Keras objects an attribute leads to.
        self._layers = lambda images: layers(images, training=False)
        self.replaced = lambda: [
            (weight, tf.cast(stored, weight.dtype))
            for weight, stored in zip(model.weights, self.weights.values(), strict=True)
            if stored is not weight.value
        ]
        self._activation = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[how.activation]
        self._size = tuple(model.input_shape[1:3])
        self._crop, self._pixels, self._top = how.crop, how.pixels, how.top
        names = tf.lookup.TextFileInitializer(
            class_names, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE
        )
        self.class_names = tf.lookup.StaticHashTable(names, default_value="")
        images = tf.TensorSpec([None, *self._size, how.pixels.channels], tf.float32)
        # One function, which every signature calls, so that the graph holds the blocks once.
        self.mixer = tf.function(self._mixer, input_signature=[images], jit_compile=how.jit_compile or None)

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Return the name and the function of each signature."""
        images = lambda dtype: [tf.TensorSpec([None, *self._size, self._pixels.channels], dtype, "images")]
        encoded = [tf.TensorSpec([None], tf.string, "images")]
        return {
            "serving_default": tf.function(self._of_uint8, input_signature=images(tf.uint8)),
            "serving_float": tf.function(self._of_float, input_signature=images(tf.float32)),
            "serving_bytes": tf.function(self._of_bytes, input_signature=encoded),
            "features": tf.function(self._features, input_signature=images(tf.uint8)),
        }

    def _of_uint8(self, images: tf.Tensor) -> Answers:
        probabilities, _ = self.mixer(tf.cast(self._checked(images), tf.float32))
        return self._outputs(probabilities)

    def _features(self, images: tf.Tensor) -> Answers:
        return {"pre_logits": self.mixer(tf.cast(self._checked(images), tf.float32))[1]}

    def _of_float(self, images: tf.Tensor) -> Answers:
        images = self._checked(images)
        good = tf.reduce_all((images >= 0) & (images <= 255), axis=[1, 2, 3])  # false for NaN too
        probabilities, _ = self.mixer(tf.where(good[:, None, None, None], images, 0.0))
        return self._outputs(probabilities, tf.where(good, OK, OUT_OF_RANGE))

    def _of_bytes(self, encoded: tf.Tensor) -> Answers:
        encoded = _check_shape(encoded, (), f"images: must be strings of shape (B,), the bytes of files{_YOURS}")
        images, status = decode_batch(encoded, self._crop, self._size, self._pixels)
        probabilities, _ = self.mixer(tf.cast(colours.to_channels(images, self._pixels.channels), tf.float32))
        return self._outputs(probabilities, status)

    def _checked(self, images: tf.Tensor) -> tf.Tensor:
        ends = (*self._size, self._pixels.channels)
        rule = f"images: must be {images.dtype.name} of shape (B, {', '.join(map(str, ends))}){_YOURS}"
        return _check_shape(images, ends, rule)

    def _mixer(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(B, height, width, channels) float32 in [0, 255] to probabilities (B, K) and pre_logits (B, C)."""
        with keras.StatelessScope(state_mapping=self.replaced()):
            pre_logits, logits = self._layers(preprocess_input(images))
        return self._activation(logits), pre_logits

    def _outputs(self, probabilities: tf.Tensor, status: tf.Tensor | None = None) -> Answers:
        good = None if status is None else (status == OK)[:, None]
        if good is not None:
            probabilities = tf.where(good, probabilities, 0.0)
        scores, index = tf.math.top_k(probabilities, self._top)
        classes = self.class_names.lookup(tf.cast(index, tf.int64))
        outputs = {"probabilities": probabilities, "scores": scores}
        if good is not None:
            classes = tf.where(good, classes, "")
            outputs["status"] = status
        return outputs | {"classes": classes}


_YOURS = "; the shape of yours is"


def stored_weights(model: keras.Model, storage: str) -> dict[str, tf.Variable]:
    """Return path -> tf.Variable of each weight: the model's own, or a copy where it is stored in another dtype."""
    stored = {}
    for weight in model.weights:
        variable = weight.value
        if keras.backend.is_float_dtype(weight.dtype) and weight.dtype != storage:
            variable = tf.Variable(tf.cast(variable, storage), trainable=False, name=weight.path)
        stored[weight.path] = variable
    return stored


def decode_batch(
    encoded: tf.Tensor, crop: str, size: tuple[int, int], pixels: PixelSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode files (B,) string, of which some may be no images, for `crops.evaluation_crop`; size is (height, width).

    Returns:
        images (B, height, width, 3) uint8, zeros where there is no image; status (B,) string, "ok" or what is wrong.

    Example:
        >>> from keras_mixer.data.pixel_settings import PixelSettings
        >>> images, status = decode_batch(tf.constant(["no image"]), "resmall", (8, 8), PixelSettings())
        >>> status.numpy().tolist(), int(tf.reduce_max(images))
        ([b'neither a JPEG, PNG, still GIF or WebP, nor a plain BMP'], 0)
    """
    count = tf.shape(encoded)[0]
    nothing = (tf.zeros((*size, 3), tf.uint8), tf.constant(UNREADABLE), tf.constant(-1))

    def example(file: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, fault = file_crops.evaluation_crop_or_fault(file, crop, size, pixels, python=False)
        return image, tf.where(fault == "", OK, fault), index

    # An op that fails would fail the whole request. In a dataset it costs its own element only, which is left out.
    files = tf.data.Dataset.from_tensor_slices((encoded, tf.range(count)))
    files = files.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).ignore_errors()
    files = tf.data.Dataset.from_tensors(nothing).concatenate(files)  # so that there is always one batch
    images, status, index = files.batch(tf.cast(count, tf.int64) + 1).get_single_element()
    # The row of each image in this batch; 0, where nothing is, for those that were left out.
    rows = tf.scatter_nd(index[1:, None], tf.range(1, tf.shape(index)[0]), [count])
    return tf.gather(images, rows), tf.gather(status, rows)


def _check_shape(images: tf.Tensor, ends: tuple[int, ...], sentence: str) -> tf.Tensor:
    """Return `images`, whose run fails with `sentence` unless its rank and all sides but the first are as told.

    A session does not compare what it is fed with the signature. The shape is compared as one text: its batch is
    unknown, so that no optimiser can work out the comparison beforehand from the signature.
    """
    shape = tf.shape(images)
    text = tf.strings.reduce_join(tf.strings.as_string(shape), separator=",")
    right = tf.strings.regex_full_match(text, ",".join(["[0-9]+", *map(str, ends)]))
    with tf.control_dependencies([tf.debugging.Assert(right, [sentence, shape], summarize=8)]):
        return tf.identity(images)
