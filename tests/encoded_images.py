"""One photograph, encoded in every way that people's files are, for the tests of decoding."""

import io
import struct

import numpy as np
import pillow_heif
from PIL import Image
from sklearn.datasets import load_sample_images

pillow_heif.register_heif_opener()  # which also lets Pillow write HEIC
PHOTO = Image.fromarray(load_sample_images().images[1]).resize((201, 133))
EXIF = b"Exif\0\0"


def encode(image, kind, **kwargs):
    """Encode a Pillow image as bytes."""
    file = io.BytesIO()
    image.save(file, kind, **kwargs)
    return file.getvalue()


def with_alpha():
    """The photograph, from transparent on the left to nearly opaque on the right."""
    pixels = np.dstack([np.asarray(PHOTO), np.tile(np.arange(201, dtype=np.uint8), (133, 1))])
    return Image.fromarray(pixels, "RGBA")


def exif(orientation, endian="<", long=False):
    """An EXIF block with a maker and an orientation, as SHORT or as LONG."""
    value = struct.pack(endian + ("I" if long else "HH"), *([orientation] if long else [orientation, 0]))
    entries = struct.pack(endian + "HHII", 0x010F, 2, 6, 38) + struct.pack(endian + "HHI", 0x0112, 3 + long, 1) + value
    start = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "IH", 8, 2)
    return EXIF + start + entries + struct.pack(endian + "I", 0) + b"maker\0"


def segment(marker, content):
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def with_orientation(orientation, endian="<", long=False, before=b""):
    """The photograph as a JPEG that states an orientation behind the segments `before`."""
    encoded = JPEGS["jpeg"]
    return encoded[:2] + before + segment(0xE1, exif(orientation, endian, long)) + encoded[2:]


def gif(*, screen=(201, 133), place=(0, 0), frames=1, transparent=None, own_table=False):
    """A GIF of the photograph's frames, at a place on a screen, with a transparent colour where asked."""
    frame = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    plain = encode(frame, "GIF")
    table = plain[13 : 13 + 3 * 2 ** ((plain[10] & 7) + 1)]
    image = plain.index(b",", 13 + len(table))
    data = plain[image + 10 : -1]
    content = b"GIF89a" + struct.pack("<HH", *screen) + bytes([0 if own_table else plain[10], 0, 0])
    content += b"" if own_table else table
    for _ in range(frames):
        if transparent is not None:
            content += b"!\xf9\4" + bytes([1, 0, 0, transparent, 0])
        content += b"," + struct.pack("<HHHH", *place, *PHOTO.size) + bytes([0x80 | plain[10] & 7 if own_table else 0])
        content += (table if own_table else b"") + data
    return content + b";"


def bmp(bits=24, *, compression=0, masks=b"", size=40, after=b"", top_down=False, profile=b""):
    """A bitmap of the photograph, written here so that every field can be other than Pillow writes it."""
    width, height = PHOTO.size
    pixels = np.asarray(PHOTO)[:, :, ::-1]
    pixels = pixels if top_down else pixels[::-1]
    if bits == 32:
        pixels = np.dstack([pixels, np.full((height, width), 7, np.uint8)])
    rows = np.pad(pixels.reshape(height, -1), [(0, 0), (0, -pixels.shape[2] * width % 4)])
    behind = masks if size == 40 else b""
    start = 14 + size + len(behind)
    fields = (width, -height if top_down else height, 1, bits, compression, rows.size, 2835, 2835, 0, 0)
    header = (struct.pack("<IiiHHIIiiII", size, *fields) + (b"" if behind else masks)).ljust(size, b"\0") + behind
    return b"BM" + struct.pack("<IHHI", start + rows.size, 0, 0, start) + header + rows.tobytes() + profile + after


JPEGS = {
    "jpeg": encode(PHOTO, "JPEG", quality=92),
    "jpeg progressive": encode(PHOTO, "JPEG", progressive=True),
    "jpeg full colour": encode(PHOTO, "JPEG", subsampling=0),
    "jpeg grey": encode(PHOTO.convert("L"), "JPEG"),
    "jpeg cmyk": encode(PHOTO.convert("CMYK"), "JPEG"),
}
PNGS = {
    "png": encode(PHOTO, "PNG"),
    "png grey": encode(PHOTO.convert("L"), "PNG"),
    "png grey and alpha": encode(with_alpha().convert("LA"), "PNG"),
    "png 1 bit": encode(PHOTO.convert("1"), "PNG"),
    "png palette": encode(PHOTO.convert("P"), "PNG"),
    "png palette and transparent colour": encode(PHOTO.convert("P"), "PNG", transparency=3),
    "png palette and alpha": encode(PHOTO.convert("P"), "PNG", transparency=bytes(range(256))),
    "png transparent colour": encode(PHOTO, "PNG", transparency=PHOTO.getpixel((5, 5))),
    "png grey and transparent level": encode(PHOTO.convert("L"), "PNG", transparency=90),
    "png alpha": encode(with_alpha(), "PNG"),
}
# What TensorFlow decodes without Python.
PLAIN = {
    "bmp": encode(PHOTO, "BMP"),
    "bmp grey": encode(PHOTO.convert("L"), "BMP"),
    "bmp palette": encode(PHOTO.convert("P"), "BMP"),
    "bmp 32 bits": bmp(32),
    "bmp top down": bmp(top_down=True),
    "bmp of version 5": bmp(size=124),
    "bmp and two more bytes": bmp(after=b"\0\0"),
    "bmp and a colour profile": bmp(size=124, profile=b"profile" * 20),
    "gif": gif(),
    "gif with a table of its own": gif(own_table=True),
    "gif transparent": gif(transparent=3),
    "gif transparent with a table of its own": gif(transparent=3, own_table=True),
    "gif comment": encode(PHOTO, "GIF", comment=b"words, " * 300),
    "webp lossless": encode(PHOTO, "WEBP", lossless=True),
    "webp lossy": encode(PHOTO, "WEBP"),
    "webp alpha": encode(with_alpha(), "WEBP", lossless=True, exact=True),
    "webp alpha lossy": encode(with_alpha(), "WEBP"),
    "webp turned": encode(PHOTO, "WEBP", lossless=True, exif=exif(6)),
    "webp turned, without a prefix": encode(PHOTO, "WEBP", lossless=True, exif=exif(8, ">")[6:]),
}
TWO = dict(save_all=True, append_images=[PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
# What only Pillow decodes.
OTHERS = {
    "gif animated": gif(frames=2),
    "gif on a larger screen": gif(screen=(300, 200), place=(40, 30)),
    "gif beyond its screen": gif(screen=(20, 10)),
    "webp animated": encode(PHOTO, "WEBP", lossless=True, **TWO),
    "webp animated lossy": encode(PHOTO, "WEBP", **TWO),
    "webp animated alpha": encode(with_alpha(), "WEBP", lossless=True, save_all=True, append_images=[PHOTO]),
    "bmp with masks": bmp(32, compression=3, masks=struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)),
    "bmp of RGBA masks": bmp(
        32, size=108, compression=3, masks=struct.pack("<IIII", *(255 << i for i in (0, 8, 16, 24)))
    ),
    "bmp 1 bit": encode(PHOTO.convert("1"), "BMP"),
    "tiff": encode(PHOTO, "TIFF"),
    "tiff lzw": encode(PHOTO, "TIFF", compression="tiff_lzw"),
    "tiff cmyk": encode(PHOTO.convert("CMYK"), "TIFF"),
    "tiff alpha": encode(with_alpha(), "TIFF"),
    "avif": encode(PHOTO, "AVIF"),
    "avif alpha": encode(with_alpha(), "AVIF"),
    "jpeg 2000": encode(PHOTO, "JPEG2000"),
    "heic": encode(PHOTO, "HEIF"),
    "ppm": encode(PHOTO, "PPM"),
    "pgm": encode(PHOTO.convert("L"), "PPM"),
}
