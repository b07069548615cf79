"""What a Mixer costs in floating-point operations, from its sizes; slopes of a cost. The standard library is enough."""

import math
from collections.abc import Sequence

from keras_mixer.types import Sizes

TRAINING_FACTOR = 3  # each product once forward, once for the gradient of its input, once for that of its kernel


def mixer_flop(image_size: int, sizes: Sizes, classes: int = 1000) -> dict[str, int]:
    """Return the floating-point operations of one square image's forward pass in matrix products, by part of a Mixer.

    A product of (m, k) and (k, n) counts 2 m k n. With S = (image_size / P)^2: 6 S P^2 C for the stem, 4 S C times
    D_S + D_C for each block, 2 C K for the head: linear in the number of pixels. A training step costs
    `TRAINING_FACTOR` times this, or a little less (0.3 percent for Mixer-B/16): the stem takes no gradient of images.

    Example:
        >>> b16 = dict(patch_size=16, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072)
        >>> sum(mixer_flop(224, b16).values()) / 1e9
        25.203535872
    """
    width, patch = sizes["hidden_dim"], sizes["patch_size"]
    tokens = (image_size // patch) ** 2
    of_unit = sizes["num_blocks"] * 4 * tokens * width  # of all blocks, for each hidden unit
    return {
        "stem": 6 * tokens * patch**2 * width,
        "token_mixing": of_unit * sizes["tokens_mlp_dim"],
        "channel_mixing": of_unit * sizes["channels_mlp_dim"],
        "head": 2 * width * classes,
    }


def vit_flop(
    image_size: int, patch_size: int, num_blocks: int, hidden_dim: int, mlp_dim: int, classes: int = 1000
) -> int:
    """Return the same for a ViT with a class token: its attention is quadratic in the number of pixels.

    Example:
        >>> vit_flop(224, 16, 12, 768, 3072) / 1e9  # ViT-B/16
        35.127656448
    """
    tokens = (image_size // patch_size) ** 2
    stem = 6 * tokens * patch_size**2 * hidden_dim
    tokens += 1
    attention = 8 * tokens * hidden_dim**2 + 4 * tokens**2 * hidden_dim
    return stem + num_blocks * (attention + 4 * tokens * hidden_dim * mlp_dim) + 2 * hidden_dim * classes


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of log y over log x: 1 where y is linear in x, 2 where it is quadratic.

    Raises:
        ValueError: for fewer than two different x, or a value that is not positive.

    Example:
        >>> log_log_slope([1, 2, 4], [3, 12, 48])
        2.0
    """
    if len(x) != len(y) or len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError(f"log_log_slope: needs positive values at two or more different x, got {x} and {y}.")
    logs = [math.log(value) for value in x], [math.log(value) for value in y]
    means = [sum(values) / len(values) for values in logs]
    centred = [[value - mean for value in values] for values, mean in zip(logs, means, strict=True)]
    return sum(a * b for a, b in zip(*centred, strict=True)) / sum(a * a for a in centred[0])
