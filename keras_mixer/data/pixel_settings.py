"""How a file becomes pixels: the settings that training, evaluation, prediction and serving of one model share."""

import dataclasses

ALPHAS = ("white", "black", "drop")


@dataclasses.dataclass(frozen=True)
class PixelSettings:
    """What is done to the pixels of a file besides cropping them.

    The authors' own code has alpha="drop" and exif_rotation=False; docs/guides/image_files.md says why these are not
    the defaults.

    Attributes:
        alpha: what shows through transparent pixels, "white" or "black"; "drop" shows the colours stored under them.
        exif_rotation: whether a photograph is turned upright as its EXIF data says.
        antialias: whether bilinear resizing filters before it shrinks an image.
        channels: of the images that the model gets: 3, or 1 for grey ones; see `colours.to_channels`.
        exact_decoding: whether a JPEG of a million pixels or more is decoded at its full size also where 4 times the
            result, or more, goes into it. False decodes it at a fraction of the size, in less time; see `jpeg_parts`.

    Raises:
        ValueError: for another alpha or number of channels.

    Example:
        >>> PixelSettings().alpha
        'white'
    """

    alpha: str = "white"
    exif_rotation: bool = True
    antialias: bool = False
    channels: int = 3
    exact_decoding: bool = False

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if self.channels not in (1, 3):
            raise ValueError(f"channels: must be 3, or 1 for grey images, got {self.channels!r}.")


def check_alpha(alpha: str) -> None:
    """Raise a ValueError unless `alpha` is "white", "black" or "drop"."""
    if alpha not in ALPHAS:
        raise ValueError(f"alpha: must be white, black or drop, got {alpha!r}.")


DEFAULT_PIXELS = PixelSettings()
