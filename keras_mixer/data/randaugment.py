"""RandAugment as the authors of MLP-Mixer trained with, in plain stateless TensorFlow on uint8 pixels.

Each operation takes the formulation that is fastest on a CPU and has the very pixels of the authors' own;
docs/results/input_speed.md has the measurements behind these choices.
"""

import functools
import math
from collections.abc import Callable, Sequence

import tensorflow as tf

# (sign, last row, last column) -> (a, b, c, d, e, f) of `_warp`
Transform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
GREY = 128  # what is uncovered by a warp or cut out
LUMA = (0.2989, 0.5870, 0.1140)  # of ITU-R 601, as TensorFlow rounds it
OP_NAMES = (
    *("AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast"),
    *("Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY", "Cutout"),
)


@tf.autograph.experimental.do_not_convert
def randaugment(image: tf.Tensor, seed: tf.Tensor | Sequence[int], magnitude: float, num_layers: int = 2) -> tf.Tensor:
    """Apply `num_layers` randomly chosen operations to one image (Cubuk et al. 2020; paper section 3).

    Each layer draws one of the 16 `OP_NAMES` uniformly; Rotate, Shear and Translate go either way, half the time each.
    The result is a pure function of the arguments, whatever runs in parallel.

    Args:
        image: (H, W, 3) uint8, H and W at least 3; they may be unknown while tracing.
        seed: int32 (2,).
        magnitude: the paper's m, a number >= 0 on the level/10 scale: 10 is the nominal maximum, 15 half as much again.
        num_layers: operations applied one after the other, at least 1.

    Raises:
        ValueError: for a negative magnitude, no layer, or an image that is not (H, W, 3) uint8.

    Example:
        >>> randaugment(tf.zeros((32, 24, 3), tf.uint8), seed=[1, 2], magnitude=15).shape
        TensorShape([32, 24, 3])
    """
    image = _check(image, magnitude)
    if isinstance(num_layers, bool) or not isinstance(num_layers, int) or num_layers < 1:
        raise ValueError(f"num_layers: must be a positive number of operations, got {num_layers!r}.")
    shape = image.shape
    # All the random bits at once: one kernel call instead of four per layer. Philox, so that any device draws the same.
    bits = tf.random.stateless_uniform([num_layers, 4], seed, None, None, tf.uint32, alg="philox")
    bits = tf.cast(bits, tf.int64)
    for layer in range(num_layers):
        op = tf.cast(bits[layer, 0] % len(OP_NAMES), tf.int32)
        sign = tf.cast(bits[layer, 1] % 2 * 2 - 1, tf.int32)
        centre = tf.cast(bits[layer, 2:] % tf.shape(image, tf.int64)[:2], tf.int32)
        image = tf.switch_case(op, list(_operations(image, magnitude, sign, centre).values()))
        image = tf.ensure_shape(image, shape)
    return image


@tf.autograph.experimental.do_not_convert
def apply_operation(
    image: tf.Tensor, name: str, magnitude: float, sign: int = 1, centre: tf.Tensor | Sequence[int] | None = None
) -> tf.Tensor:
    """Apply one operation of RandAugment, with the very pixels of the authors' code.

    Args:
        image: (H, W, 3) uint8, H and W at least 3.
        name: one of `OP_NAMES`.
        magnitude: the paper's m, on the level/10 scale.
        sign: 1 or -1, the direction of Rotate, Shear and Translate; the others ignore it.
        centre: (row, column) of Cutout in pixels; the middle of the image where None; the others ignore it.

    Raises:
        ValueError: for an unknown name or sign, a negative magnitude, or an image that is not (H, W, 3) uint8.

    Example:
        >>> int(apply_operation(tf.zeros((4, 4, 3), tf.uint8), "Invert", magnitude=10)[0, 0, 0])
        255
    """
    image = _check(image, magnitude)
    if name not in OP_NAMES:
        raise ValueError(f"name: must be one of {', '.join(OP_NAMES)}; got {name!r}.")
    if sign not in (1, -1):
        raise ValueError(f"sign: must be 1 or -1, got {sign!r}.")
    centre = tf.shape(image)[:2] // 2 if centre is None else tf.convert_to_tensor(centre, tf.int32)
    return _operations(image, magnitude, tf.constant(sign), centre)[name]()


def _check(image: tf.Tensor, magnitude: float) -> tf.Tensor:
    image = tf.convert_to_tensor(image)
    if image.dtype != tf.uint8 or image.shape.rank != 3 or image.shape[-1] != 3:
        raise ValueError(f"image: must be (H, W, 3) uint8, got {image.shape} {image.dtype.name}.")
    if isinstance(magnitude, bool) or not isinstance(magnitude, (int, float)) or not 0 <= magnitude < math.inf:
        raise ValueError(f"magnitude: must be a finite number >= 0, such as 15, got {magnitude!r}.")
    return image


def _operations(
    image: tf.Tensor, magnitude: float, sign: tf.Tensor, centre: tf.Tensor
) -> dict[str, Callable[[], tf.Tensor]]:
    """Return {name: function without arguments -> (H, W, 3) uint8}, in the order of `OP_NAMES`."""
    f = magnitude / 10
    enhance = 1.8 * f + 0.1
    return {
        "AutoContrast": lambda: _auto_contrast(image),
        "Equalize": lambda: _equalize(image),
        "Invert": lambda: 255 - image,
        "Rotate": lambda: _warp(image, functools.partial(_rotation, 30 * f), sign),
        "Posterize": lambda: _posterize(image, int(4 * f)),
        "Solarize": lambda: _solarize(image, int(256 * f)),
        "SolarizeAdd": lambda: _solarize_add(image, int(110 * f)),
        "Color": lambda: _color(image, enhance),
        "Contrast": lambda: _contrast(image, enhance),
        "Brightness": lambda: _to_uint8(enhance * tf.cast(image, tf.float32)),
        "Sharpness": lambda: _sharpness(image, enhance),
        "ShearX": lambda: _warp(image, lambda sign, *_: (1, sign * (0.3 * f), 0, 0, 1, 0), sign),
        "ShearY": lambda: _warp(image, lambda sign, *_: (1, 0, 0, sign * (0.3 * f), 1, 0), sign),
        "TranslateX": lambda: _translate(image, sign * round(100 * f), axis=1),
        "TranslateY": lambda: _translate(image, sign * round(100 * f), axis=0),
        "Cutout": lambda: _cutout(image, centre, int(40 * f)),
    }


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    """Clip and cut off the fraction, as the authors' blend does."""
    return tf.cast(tf.clip_by_value(values, 0.0, 255.0), tf.uint8)


def _per_channel(values: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Repeat (3,) values along a row of interleaved pixels: broadcasting over an axis of length 3 is slow."""
    return tf.tile(values, [width])


def _rows(image: tf.Tensor) -> tf.Tensor:
    """View an image as (H, 3 W), each row with its interleaved channels."""
    return tf.reshape(image, tf.stack([tf.shape(image)[0], 3 * tf.shape(image)[1]]))


def _auto_contrast(image: tf.Tensor) -> tf.Tensor:
    low = tf.cast(tf.reduce_min(image, [0, 1]), tf.float32)  # (3,)
    high = tf.cast(tf.reduce_max(image, [0, 1]), tf.float32)
    flat = high <= low  # a channel of one grey level stays as it is
    scale = tf.where(flat, 1.0, tf.math.divide_no_nan(255.0, high - low))
    offset = tf.where(flat, 0.0, -low * scale)
    width = tf.shape(image)[1]
    pixels = tf.cast(_rows(image), tf.float32) * _per_channel(scale, width) + _per_channel(offset, width)
    return tf.reshape(_to_uint8(pixels), tf.shape(image))


def _equalize(image: tf.Tensor) -> tf.Tensor:
    # All channels at once: the levels of the second are counted from 256 on, those of the third from 512 on.
    index = tf.cast(_rows(image), tf.int32) + _per_channel(tf.constant([0, 256, 512]), tf.shape(image)[1])
    counts = tf.raw_ops.Bincount(arr=tf.reshape(index, [-1]), size=768, weights=tf.constant([], tf.int32))
    counts = tf.reshape(counts, [3, 256])
    used = tf.where(counts > 0, tf.range(256), 0)
    last = tf.gather(counts, tf.reduce_max(used, axis=1), batch_dims=1)  # pixels of the brightest level in use
    step = (tf.reduce_sum(counts, axis=1) - last)[:, None] // 255  # (3, 1)
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = tf.clip_by_value((below + step // 2) // tf.maximum(step, 1), 0, 255)
    table = tf.where(step == 0, tf.range(256), table)
    # gather_nd looks up single bytes faster than gather does.
    pixels = tf.gather_nd(tf.reshape(tf.cast(table, tf.uint8), [-1]), index[:, :, None])
    return tf.reshape(pixels, tf.shape(image))


def _posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    # TensorFlow's shift stops at 7 of 8 bits, so the authors' code keeps one bit where the formula says none.
    dropped = 8 - min(max(bits, 1), 8)
    return tf.bitwise.bitwise_and(image, tf.constant(256 - 2**dropped, tf.uint8))


def _solarize(image: tf.Tensor, threshold: int) -> tf.Tensor:
    # The authors' threshold is a byte and wraps: 256 and 512, those of m = 10 and 20, are 0 and invert every pixel.
    # 255 - x is x with all bits flipped; masks are faster than tf.where on bytes.
    return tf.bitwise.bitwise_xor(image, tf.cast(image >= threshold % 256, tf.uint8) * 255)


def _solarize_add(image: tf.Tensor, addition: int) -> tf.Tensor:
    room = tf.minimum(255 - image, tf.constant(min(addition, 255), tf.uint8))
    return image + room * tf.cast(image < 128, tf.uint8)


def _blend(degenerate: tf.Tensor, pixels: tf.Tensor, factor: float) -> tf.Tensor:
    return _to_uint8(degenerate + factor * (pixels - degenerate))


def _color(image: tf.Tensor, factor: float) -> tf.Tensor:
    rows = tf.cast(_rows(image), tf.float32)
    # The steps of `tf.image.rgb_to_grayscale`, each rounded as there: a shorter formula is one level off in 173 of the
    # 2^24 colours. A product with ones adds the parts in the same order as one with a single column, in less time.
    # TensorFlow would make one of two multiplications by constants; it leaves `multiply_no_nan` alone. 255.5 is the
    # factor of its float-to-uint8 conversion.
    parts = tf.math.multiply_no_nan(rows * (1 / 255), _per_channel(tf.constant(LUMA), tf.shape(image)[1]))
    grey = tf.floor(tf.matmul(tf.reshape(parts, [-1, 3]), tf.ones([3, 3])) * 255.5)  # (H W, 3)
    return tf.reshape(_blend(tf.reshape(grey, tf.shape(rows)), rows, factor), tf.shape(image))


def _contrast(image: tf.Tensor, factor: float) -> tf.Tensor:
    # The authors mean the grey level but average the counts of its histogram, which is the number of pixels / 256.
    num_pixels = tf.cast(tf.shape(image)[0] * tf.shape(image)[1], tf.float32)
    return _blend(tf.floor(tf.minimum(num_pixels / 256, 255.0)), tf.cast(image, tf.float32), factor)


def _sharpness(image: tf.Tensor, factor: float) -> tf.Tensor:
    pixels = tf.cast(image, tf.float32)
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, 3, 1])  # (3, 3, channels, 1)
    smooth = tf.nn.depthwise_conv2d(pixels[None], kernel, [1, 1, 1, 1], "VALID")[0]  # (H-2, W-2, 3)
    inner = _blend(tf.floor(smooth), pixels[1:-1, 1:-1], factor)
    # The outermost pixels stay as they are.
    inner = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], inner, image[-1:]], axis=0)


def _warp(image: tf.Tensor, transform: Transform, sign: tf.Tensor) -> tf.Tensor:
    """Take pixel (a x + b y + c, d x + e y + f), rounded, for each (x, y); grey where there is none.

    TensorFlow computes each pixel's place for every channel of every image. In a graph of known shape it is looked up,
    in tables that the same code fills once.
    """
    shape = image.shape
    if tf.executing_eagerly() or not shape.is_fully_defined() or shape.num_elements() > 2**24:  # exact in float32
        return _project(image, transform, sign, GREY)
    height, width, _ = shape
    with tf.init_scope():  # now, while tracing: the tables become constants
        places = tf.reshape(tf.range(height * width), [height, width, 1])
        places = tf.stack([_project(places, transform, sign, height * width) for sign in (-1, 1)])  # (2, H, W, 1)
    # The pixel behind the last is grey. gather_nd copies short slices faster than gather does.
    pixels = tf.concat([tf.reshape(image, [-1, 3]), tf.fill([1, 3], tf.constant(GREY, tf.uint8))], axis=0)
    return tf.gather_nd(pixels, places[(sign + 1) // 2])


def _project(image: tf.Tensor, transform: Transform, sign: int | tf.Tensor, fill: int) -> tf.Tensor:
    bottom, right = tf.unstack(tf.cast(tf.shape(image)[:2] - 1, tf.float32))
    row = [tf.cast(value, tf.float32) for value in (*transform(tf.cast(sign, tf.float32), bottom, right), 0, 0)]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(row)[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(fill),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]


def _rotation(degrees: float, sign: tf.Tensor, bottom: tf.Tensor, right: tf.Tensor) -> tuple[tf.Tensor, ...]:
    # In float32 throughout, as the authors' graph computes it: the exact cosine of 60 degrees moves a few pixels.
    radians = sign * tf.constant(degrees, tf.float32) * tf.constant(math.pi / 180, tf.float32)
    cos, sin = tf.cos(radians), tf.sin(radians)
    move_x = (right - (cos * right - sin * bottom)) / 2  # so that the centre stays
    move_y = (bottom - (sin * right + cos * bottom)) / 2
    return cos, -sin, move_x, sin, cos, move_y


def _translate(image: tf.Tensor, pixels: tf.Tensor, axis: int) -> tf.Tensor:
    """Take pixel x + `pixels` for each x; cutting and padding is five times faster than a warp."""
    rows, unit = _rows(image), 1 if axis == 0 else 3  # two axes are cut and padded faster than three
    side = tf.shape(rows)[axis]
    pixels = tf.clip_by_value(unit * pixels, -side, side)
    before, after = tf.maximum(-pixels, 0), tf.maximum(pixels, 0)
    kept = rows[after : side - before] if axis == 0 else rows[:, after : side - before]
    padding = [[0, 0], [0, 0]]
    padding[axis] = [before, after]
    return tf.reshape(tf.pad(kept, padding, constant_values=GREY), tf.shape(image))


def _cutout(image: tf.Tensor, centre: tf.Tensor, half: int) -> tf.Tensor:
    shape = tf.shape(image)[:2]
    start, stop = tf.maximum(centre - half, 0), tf.minimum(centre + half, shape)
    hole = tf.concat([stop - start, [3]], axis=0)
    padding = tf.concat([tf.stack([start, shape - stop], axis=1), [[0, 0]]], axis=0)  # (3 axes, before and after)
    keep = tf.pad(tf.zeros(hole, tf.uint8), padding, constant_values=1)
    return image * keep + tf.pad(tf.fill(hole, tf.constant(GREY, tf.uint8)), padding)
