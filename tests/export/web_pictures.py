"""Pictures of every usual kind, of real photographs, for the page that must read them as `predict.py` does."""

import struct
import zlib

import numpy as np
import tensorflow as tf
from encoded_images import bmp, encode, exif, gif, segment, with_alpha
from PIL import Image
from sklearn.datasets import load_sample_images

CHINA, FLOWER = (Image.fromarray(image) for image in load_sample_images().images)  # 640 x 427


def turned(photo, orientation):
    """A photograph as a JPEG that states an orientation."""
    encoded = encode(photo.resize((402, 266)), "JPEG", quality=90)
    return encoded[:2] + segment(0xE1, exif(orientation)) + encoded[2:]


def of_16_bits(photo):
    """A photograph as a PNG with 16 bits in a channel, of which the lower 8 are noise."""
    lower = np.random.default_rng(0).integers(0, 256, (*photo.size[::-1], 3))
    return tf.io.encode_png((np.asarray(photo).astype(int) * 256 + lower).astype(np.uint16)).numpy()


def with_gamma(photo):
    """A photograph as a PNG that says its numbers are light itself, which a browser would convert to show it."""
    encoded = encode(photo, "PNG")
    chunk = b"gAMA" + struct.pack(">I", 100_000)
    return encoded[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + encoded[33:]


def _pictures():
    found = {
        "JPEG baseline": ("a.jpg", encode(CHINA, "JPEG", quality=92)),
        "JPEG progressive": ("b.jpg", encode(FLOWER, "JPEG", quality=85, progressive=True)),
        "JPEG without subsampling": ("c.jpg", encode(FLOWER, "JPEG", quality=95, subsampling=0)),
        "JPEG grey": ("d.jpg", encode(CHINA.convert("L"), "JPEG")),
        "JPEG CMYK": ("e.jpg", encode(FLOWER.convert("CMYK"), "JPEG")),
    }
    for orientation in range(1, 9):
        photo = (CHINA, FLOWER)[orientation % 2]
        found[f"JPEG turned, EXIF {orientation}"] = (f"f{orientation}.jpg", turned(photo, orientation))
    large = CHINA.resize((4032, 3024), Image.Resampling.BICUBIC)
    return found | {
        "JPEG of 12 million pixels": ("g.jpg", encode(large, "JPEG", quality=85)),
        "JPEG tiny, 9 x 7": ("h.jpg", encode(FLOWER.resize((9, 7)), "JPEG")),
        "PNG": ("i.png", encode(CHINA, "PNG")),
        "PNG palette": ("j.png", encode(FLOWER.convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
        "PNG transparent": ("k.png", encode(with_alpha(), "PNG")),
        "PNG 16 bits": ("l.png", of_16_bits(FLOWER)),
        "PNG with a gamma": ("m.png", with_gamma(CHINA)),
        "PNG tiny, 5 x 3": ("n.png", encode(CHINA.resize((5, 3)), "PNG")),
        "PNG of 1600 x 20": ("o.png", encode(CHINA.resize((1600, 20)), "PNG")),
        "PNG of 30 x 900": ("p.png", encode(FLOWER.resize((30, 900)), "PNG")),
        "GIF": ("q.gif", encode(CHINA.convert("P", palette=Image.Palette.ADAPTIVE), "GIF")),
        "GIF transparent": ("r.gif", gif(transparent=3)),
        "WebP lossy": ("s.webp", encode(FLOWER, "WEBP")),
        "WebP transparent": ("t.webp", encode(with_alpha(), "WEBP", lossless=True, exact=True)),
        "BMP": ("u.bmp", bmp()),
    }


PICTURES = _pictures()  # kind -> name and bytes of a file
MIME = {"jpg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp"}
