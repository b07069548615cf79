"""Still GIF and WebP and plain BMP in TensorFlow alone, for a served graph and the hosts of a TPU pod.

TensorFlow's decoders of these formats are given only what they get right: it writes an animated WebP beyond its memory,
turns what is transparent in a GIF black, and refuses or miscolours many a BMP. Whatever is decoded has Pillow's pixels.
"""

import tensorflow as tf

from keras_mixer.data import colours, exif
from keras_mixer.data.image_limits import bounded, byte_values, little_endian, num_bytes

NOT_TAKEN = "neither a JPEG, PNG, still GIF or WebP, nor a plain BMP"
MAX_BLOCKS = 20_000  # of a GIF, a row of equal ones counting once: about a second
WINDOW = 2**16  # bytes in which a row of equal blocks is looked for
MAX_CHUNKS = 100  # of a WebP, before that of its EXIF data


def decode(encoded: tf.Tensor, alpha: str, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode in a graph; arguments and results are those of `decode.decode_or_fault`."""
    header = byte_values(encoded, 0, 54)
    gif = tf.reduce_all(header[:6] == list(b"GIF89a")) | tf.reduce_all(header[:6] == list(b"GIF87a"))
    webp = tf.reduce_all(header[:4] == list(b"RIFF")) & tf.reduce_all(header[8:12] == list(b"WEBP"))
    bmp = tf.reduce_all(header[:2] == list(b"BM"))
    branches = [
        lambda: _decode_gif(encoded, header, alpha),
        lambda: _decode_webp(encoded, header, alpha, exif_rotation),
        lambda: _decode_bmp(encoded, header),
        _refused,
    ]
    return tf.switch_case(tf.argmax(tf.stack([gif, webp, bmp, True]), output_type=tf.int32), branches)


def _refused() -> tuple[tf.Tensor, tf.Tensor]:
    return tf.zeros((0, 0, 3), tf.uint8), tf.constant(NOT_TAKEN)


def _decode_gif(encoded: tf.Tensor, header: tf.Tensor, alpha: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode a GIF whose one frame fills its screen."""
    width, height = little_endian(header[6:8]), little_endian(header[8:10])
    frames, frame, control = _read_blocks(encoded, header)
    place = byte_values(encoded, frame, 10)  # 0x2C, left, top, width, height, flags
    sides = [little_endian(place[i : i + 2]) for i in (1, 3, 5, 7)]
    fills = tf.reduce_all(tf.stack(sides) == tf.stack([tf.zeros_like(width), tf.zeros_like(width), width, height]))
    decoded = lambda content: tf.io.decode_image(content, channels=3, expand_animations=False)

    def opaque() -> tf.Tensor:
        # The transparent colour becomes that of the background, and is no longer marked as transparent.
        own = place[9] >= 128  # a table of colours
        colour = byte_values(encoded, control + 3, 1)[0]
        known = colour < 2 ** (tf.where(own, place[9], header[10]) % 8 + 1)
        content = encoded
        if alpha != "drop":
            background = bytes([colours.BACKGROUNDS[alpha]]) * 3
            at = tf.where(own, frame + 10, 13) + 3 * colour
            content = tf.cond(known, lambda: _replaced(content, at, background), lambda: content)
        return decoded(_replaced(content, control, b"\0"))

    transparent = (control > 0) & (byte_values(encoded, control, 1)[0] % 2 == 1)
    pixels = lambda: tf.cond(transparent, opaque, lambda: decoded(encoded))
    return tf.cond((frames == 1) & fills, lambda: bounded(encoded, height, width, pixels), _refused)


def _read_blocks(encoded: tf.Tensor, header: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Walk through the blocks of a GIF.

    Returns:
        The number of frames, 0 where the file does not end as it should; and where the first frame's descriptor and the
        flags of its graphic control are, 0 where it has none.
    """
    zero = tf.constant(0, tf.int64)

    def step(
        at: tf.Tensor, inside: tf.Tensor, frames: tf.Tensor, frame: tf.Tensor, control: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        head = byte_values(encoded, at, 10)

        def data() -> tuple[tf.Tensor, ...]:  # blocks of a length and as many bytes, closed by one of length 0
            window = tf.io.decode_raw(tf.strings.substr(encoded, at, WINDOW), tf.uint8)
            lengths = tf.cast(window[:: tf.cast(head[0] + 1, tf.int32)], tf.int64)
            equal = tf.argmin(tf.cast(tf.concat([lengths == head[0], [False]], axis=0), tf.int32))
            return at + equal * (head[0] + 1), head[0] > 0, frames, frame, control

        def block() -> tuple[tf.Tensor, ...]:
            is_control = (head[0] == 0x21) & (head[1] == 0xF9) & (frames == 0)
            is_frame = head[0] == 0x2C
            table = tf.where(head[9] >= 128, 3 * 2 ** (head[9] % 8 + 1), 0)
            following = tf.where(is_frame, at + 11 + table, at + 2)
            going = is_frame | ((head[0] == 0x21) & ~(is_control & (control > 0)))  # of two controls none is clear
            return (
                tf.where(going, following, -at),  # negative at the end, where the trailer should be
                going,
                frames + tf.cast(is_frame, tf.int64),
                tf.where(is_frame & (frames == 0), at, frame),
                tf.where(is_control, at + 3, control),
            )

        return tf.cond(inside, data, block)

    start = 13 + tf.where(header[10] >= 128, 3 * 2 ** (header[10] % 8 + 1), 0)
    within = lambda at, *_: (at > 0) & (at < num_bytes(encoded))
    state = (start, tf.constant(False), zero, zero, zero)
    end, _, frames, frame, control = tf.while_loop(
        within, step, state, parallel_iterations=1, maximum_iterations=MAX_BLOCKS
    )
    ended = (end < 0) & (byte_values(encoded, -end, 1)[0] == 0x3B)
    return tf.where(ended, frames, 0), frame, control


def _replaced(content: tf.Tensor, at: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
    rest = tf.strings.substr(content, at + len(new), num_bytes(content))
    return tf.strings.join([tf.strings.substr(content, tf.zeros_like(at), at), new, rest])


def _decode_webp(encoded: tf.Tensor, header: tf.Tensor, alpha: str, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode a WebP that is not animated."""
    kind = header[15]  # the last letter of "VP8 ", "VP8L" or "VP8X": lossy, lossless, extended
    flags = tf.where(kind == ord("X"), header[20], 0)
    packed = little_endian(header[21:25])
    lossless = tf.stack([packed // 2**14, packed]) % 2**14 + 1
    extended = tf.stack([little_endian(header[27:30]), little_endian(header[24:27])]) + 1
    lossy = tf.stack([little_endian(header[28:30]), little_endian(header[26:28])]) % 2**14
    sides = tf.where(kind == ord("L"), lossless, tf.where(kind == ord("X"), extended, lossy))

    def pixels() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=0, expand_animations=False)  # 3 or 4 channels
        transparent = lambda: colours.composite(image, alpha)
        image = tf.cond(tf.shape(image)[2] == 4, transparent, lambda: image[:, :, :3])
        return exif.upright(image, _webp_orientation(encoded, flags)) if exif_rotation else image

    still = (flags // 2) % 2 == 0
    return tf.cond(still, lambda: bounded(encoded, sides[0], sides[1], pixels, webp=True), _refused)


def _webp_orientation(encoded: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
    def chunk(at: tf.Tensor, head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # name, length
        return at + 8 + (little_endian(head[4:]) + 1) // 2 * 2, tf.reduce_all(head[:4] == list(b"EXIF"))

    walk = lambda: exif.chunk_orientation(encoded, 12, chunk, MAX_CHUNKS)
    return tf.cond(flags // 8 % 2 == 1, walk, lambda: tf.constant(1))


def _decode_bmp(encoded: tf.Tensor, header: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode a BMP of 24 or 32 bits, or of 8 with a palette, not compressed and without masks."""
    start, size = little_endian(header[10:14]), little_endian(header[14:18])
    width, height = (_signed(header[at : at + 4]) for at in (18, 22))
    bits, compression = little_endian(header[28:30]), little_endian(header[30:34])
    colours = little_endian(header[46:50])
    colours = tf.where(colours > 0, colours, 256)
    top_down, height = height < 0, tf.abs(height)  # rows go from bottom to top where the height is positive
    stride = (width * bits + 31) // 32 * 4
    plain = (compression == 0) & ((bits == 8) | (bits == 24) | (bits == 32)) & (width > 0)
    plain &= ((size == 40) | (size == 108) | (size == 124)) & ((bits > 8) | (colours <= 256))
    plain &= start >= 14 + size + tf.cast(bits == 8, tf.int64) * 4 * colours
    whole = start + stride * height <= num_bytes(encoded)

    def pixels() -> tf.Tensor:
        raw = tf.io.decode_raw(tf.strings.substr(encoded, start, stride * height), tf.uint8)
        rows = tf.reshape(raw, tf.stack([height, stride]))[:, : width * bits // 8]
        image = tf.reshape(rows, tf.stack([height, width, bits // 8]))
        image = tf.cond(bits == 8, lambda: looked_up(image[:, :, 0]), lambda: image[:, :, 2::-1])  # from B, G, R
        return tf.cond(top_down, lambda: image, lambda: image[::-1])

    def looked_up(index: tf.Tensor) -> tf.Tensor:
        palette = tf.io.decode_raw(tf.strings.substr(encoded, 14 + size, 4 * colours), tf.uint8, fixed_length=1024)
        return tf.gather(tf.reshape(palette, [256, 4])[:, 2::-1], tf.cast(index, tf.int32))  # from B, G, R, 0

    return tf.cond(plain & whole, lambda: bounded(encoded, height, width, pixels), _refused)


def _signed(values: tf.Tensor) -> tf.Tensor:  # (4,) int64 bytes
    return (little_endian(values) + 2**31) % 2**32 - 2**31
