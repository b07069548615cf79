"""What a Mixer costs in operations, weights and core-days, from its sizes; slopes of a cost. It loads no framework."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from keras_mixer import paper
from keras_mixer.types import Sizes

TRAINING_FACTOR = 3  # each product once forward, once for the gradient of its input, once for that of its kernel
TPU_V3_CORE = 61.5e12  # FLOP/s in bfloat16, the peak of one core; a chip has two
TPU_V3_UTILISATION = 0.43  # the median of the paper's Mixers: see `table_3_core_days`


class CoreDays(NamedTuple):
    """TPU v3 core-days of a row of the paper's Table 3: computed, and as published, rounded to tens there."""

    trained_on: str
    model: str
    epochs: int
    computed: float
    published: float


def mixer_flop(image_size: int, sizes: Sizes, classes: int = 1000, channels: int = 3) -> dict[str, int]:
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
        "stem": 2 * channels * tokens * patch**2 * width,
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


def training_flop(images: int, image_size: int, sizes: Sizes, classes: int = 1000, channels: int = 3) -> int:
    """Return the floating-point operations of training a Mixer on so many images, each counted every time it is seen.

    Example:
        >>> b16 = dict(patch_size=16, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072)
        >>> f"{training_flop(300 * 1_281_167, 224, b16):.3g}"  # 300 epochs of ImageNet
        '2.91e+19'
    """
    return TRAINING_FACTOR * images * sum(mixer_flop(image_size, sizes, classes, channels).values())


def mixer_parameters(image_size: int, sizes: Sizes, classes: int = 1000, channels: int = 3) -> int:
    """Return the number of weights of a Mixer for square images.

    Example:
        >>> b16 = dict(patch_size=16, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072)
        >>> mixer_parameters(224, b16)
        59880472
    """
    width, patch = sizes["hidden_dim"], sizes["patch_size"]
    stem, norm, head = (channels * patch**2 + 1) * width, 2 * width, (width + 1) * classes
    inner = ((image_size // patch) ** 2, sizes["tokens_mlp_dim"]), (width, sizes["channels_mlp_dim"])
    of_block = 2 * norm + sum(2 * outside * hidden + outside + hidden for outside, hidden in inner)
    return stem + sizes["num_blocks"] * of_block + norm + head


def core_days(flop: float) -> float:
    """Return the TPU v3 core-days that so many floating-point operations take at `TPU_V3_UTILISATION` of the peak.

    Example:
        >>> round(core_days(3 * 25.2e9 * 300 * 1_281_167), 1)  # Mixer-B/16, 300 epochs of ImageNet
        12.7
    """
    return flop / (TPU_V3_CORE * TPU_V3_UTILISATION) / 86_400


def table_3_core_days() -> list[CoreDays]:
    """Return the rows of Mixers that were trained at 224 px. Of fine-tuning at 448 px the paper counts nothing.

    Example:
        >>> row = table_3_core_days()[0]
        >>> row.model, round(row.computed), round(row.published)
        ('Mixer-B/16', 13, 10)
    """
    titles, found = {paper.title_of(name): sizes for name, sizes in paper.VARIANTS.items()}, []
    for trained_on, model, side, epochs, *_, thousands in paper.TABLE_3:
        if model in titles and side == 224:
            images, classes = paper.SIZES[trained_on]
            flop = training_flop(images * epochs, side, titles[model], classes)
            found.append(CoreDays(trained_on, model, epochs, core_days(flop), 1000 * thousands))
    return found


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
