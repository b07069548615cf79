"""What the paper's tables say of the models; each number stands here and nowhere else."""

from typing import Any

# Paper Table 1; S/8 is released as a checkpoint only. Order: P, N, C, D_S, D_C.
VARIANTS: dict[str, dict[str, Any]] = {
    "s8": dict(patch_size=8, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "s16": dict(patch_size=16, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "s32": dict(patch_size=32, num_blocks=8, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=2048),
    "b16": dict(patch_size=16, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072),
    "b32": dict(patch_size=32, num_blocks=12, hidden_dim=768, tokens_mlp_dim=384, channels_mlp_dim=3072),
    "l16": dict(patch_size=16, num_blocks=24, hidden_dim=1024, tokens_mlp_dim=512, channels_mlp_dim=4096),
    "l32": dict(patch_size=32, num_blocks=24, hidden_dim=1024, tokens_mlp_dim=512, channels_mlp_dim=4096),
    "h14": dict(patch_size=14, num_blocks=32, hidden_dim=1280, tokens_mlp_dim=640, channels_mlp_dim=5120),
}
# Table 1, in millions, at 224 px and without the head.
PARAMETERS = {"s32": 19, "s16": 18, "b32": 60, "b16": 59, "l32": 206, "l16": 207, "h14": 431}
# Not the paper's: for small images such as digits, 75,530 parameters at 16 px.
TINY: dict[str, Any] = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
MODELS = {"tiny": TINY, **VARIANTS}


def usual_size(model: str) -> int:
    """Return the side in pixels of the images that a model of `MODELS` is for."""
    return 16 if model == "tiny" else 224


# What a model was pre-trained on.
I1K, I21K, JFT, WEAK = "ImageNet", "ImageNet-21k", "JFT-300M", "unlabelled or weakly labelled"
# Training images and classes; of JFT-300M both are round numbers, the paper's.
SIZES = {I1K: (1_281_167, 1_000), I21K: (14_197_122, 21_841), JFT: (300_000_000, 18_000)}

# Pre-trained on, model, ImageNet top-1, ReaL top-1, Avg 5, VTAB-1k, images/s/core, thousands of TPUv3 core-days.
TABLE_2 = (
    (I21K, "HaloNet", 85.8, None, None, None, 120, 0.10),
    (I21K, "Mixer-L/16", 84.15, 87.86, 93.91, 74.95, 105, 0.41),
    (I21K, "ViT-L/16", 85.30, 88.62, 94.39, 72.72, 32, 0.18),
    (I21K, "BiT-R152x4", 85.39, None, 94.04, 70.64, 26, 0.94),
    (JFT, "NFNet-F4+", 89.2, None, None, None, 46, 1.86),
    (JFT, "Mixer-H/14", 87.94, 90.18, 95.71, 75.33, 40, 1.01),
    (JFT, "BiT-R152x4", 87.54, 90.54, 95.33, 76.29, 26, 9.90),
    (JFT, "ViT-H/14", 88.55, 90.72, 95.97, 77.63, 15, 2.30),
    (WEAK, "MPL", 90.0, 91.12, None, None, None, 20.48),
    (WEAK, "ALIGN", 88.64, None, None, 79.99, 15, 14.82),
)
# Pre-trained on, model, image side, epochs, ImageNet top-1, ReaL top-1, Avg 5, images/s/core, core-days as above.
TABLE_3 = (
    (I1K, "Mixer-B/16", 224, 300, 76.44, 82.36, 88.33, 1384, 0.01),
    (I1K, "ViT-B/16", 224, 300, 79.67, 84.97, 90.79, 861, 0.02),
    (I1K, "Mixer-L/16", 224, 300, 71.76, 77.08, 87.25, 419, 0.04),
    (I1K, "ViT-L/16", 224, 300, 76.11, 80.93, 89.66, 280, 0.05),
    (I21K, "Mixer-B/16", 224, 300, 80.64, 85.80, 92.50, 1384, 0.15),
    (I21K, "ViT-B/16", 224, 300, 84.59, 88.93, 94.16, 861, 0.18),
    (I21K, "Mixer-L/16", 224, 300, 82.89, 87.54, 93.63, 419, 0.41),
    (I21K, "ViT-L/16", 224, 300, 84.46, 88.35, 94.49, 280, 0.55),
    (I21K, "Mixer-L/16", 448, 300, 83.91, 87.75, 93.86, 105, 0.41),
    (JFT, "Mixer-S/32", 224, 5, 68.70, 75.83, 87.13, 11489, 0.01),
    (JFT, "Mixer-B/32", 224, 7, 75.53, 81.94, 90.99, 4208, 0.05),
    (JFT, "Mixer-S/16", 224, 5, 73.83, 80.60, 89.50, 3994, 0.03),
    (JFT, "BiT-R50x1", 224, 7, 73.69, 81.92, None, 2159, 0.08),
    (JFT, "Mixer-B/16", 224, 7, 80.00, 85.56, 92.60, 1384, 0.08),
    (JFT, "Mixer-L/32", 224, 7, 80.67, 85.62, 93.24, 1314, 0.12),
    (JFT, "BiT-R152x1", 224, 7, 79.12, 86.12, None, 932, 0.14),
    (JFT, "BiT-R50x2", 224, 7, 78.92, 86.06, None, 890, 0.14),
    (JFT, "BiT-R152x2", 224, 14, 83.34, 88.90, None, 356, 0.58),
    (JFT, "Mixer-L/16", 224, 7, 84.05, 88.14, 94.51, 419, 0.23),
    (JFT, "Mixer-L/16", 224, 14, 84.82, 88.48, 94.77, 419, 0.45),
    (JFT, "ViT-L/16", 224, 14, 85.63, 89.16, 95.21, 280, 0.65),
    (JFT, "Mixer-H/14", 224, 14, 86.32, 89.14, 95.49, 194, 1.01),
    (JFT, "BiT-R200x3", 224, 14, 84.73, 89.58, None, 141, 1.78),
    (JFT, "Mixer-L/16", 448, 14, 86.78, 89.72, 95.13, 105, 0.45),
    (JFT, "ViT-H/14", 224, 14, 86.65, 89.56, 95.57, 87, 2.30),
    (JFT, "Mixer-H/14", 448, 14, 87.78, 90.08, 95.62, 40, 1.01),
    (JFT, "ViT-L/16", 512, 14, 87.76, 90.54, 95.63, 32, 0.65),
    (JFT, "BiT-R152x4", 480, 40, 87.54, 90.54, 95.33, 26, 9.90),
    (JFT, "ViT-H/14", 518, 14, 88.55, 90.72, 95.97, 15, 2.30),
)
# What the tables' models mix the places of an image with.
FAMILIES = ("MLP", "attention", "convolution")
# Marks of the tables' rows, and what they say.
MARKS = {
    "†": "fine-tuned with Polyak averaging",
    "☎": "from the authors of ViT, by personal communication",
    "‡": "core-days extrapolated from those of the same model on JFT-300M, without extra regularisation",
}


def marks_of(trained_on: str, model: str, image_size: int) -> str:
    """Return the marks of a row of Table 3.

    Example:
        >>> marks_of(I21K, "ViT-B/16", 224)
        '☎‡'
    """
    vit, extrapolated = model.startswith("ViT"), trained_on in (I1K, I21K)
    return "☎" * (vit and extrapolated) + "†" * (vit and image_size > 500) + "‡" * extrapolated


def family_of(model: str) -> str:
    """Return what a model of the tables mixes patches with: one of `FAMILIES`."""
    return FAMILIES[0 if model.startswith("Mixer") else 1 if model.startswith(("ViT", "HaloNet")) else 2]


SPEEDS = {row[1]: row[7] for row in TABLE_3 if row[2] == 224}  # images/s/core on TPU v3

# Table 4: how each model was pre-trained on each dataset; then by the model's size. The loss, the first value of the
# head's bias and, below, the splits are from the authors' code, which says nothing of JFT-300M.
HEAD_BIAS = {I1K: -6.9, I21K: -10.0}  # for the sigmoid loss
_ON_IMAGENET: dict[str, Any] = dict(
    epochs=300, batch_size=4096, learning_rate=1e-3, weight_decay=0.1, warmup_steps=10_000, stochastic_depth_rate=0.1
)
_ON_IMAGENET |= dict(loss="sigmoid")
_ON_I1K = dict(_ON_IMAGENET, head_bias_init=HEAD_BIAS[I1K], randaugment_magnitude=15, mixup_alpha=0.5)
_ON_I21K = dict(_ON_IMAGENET, head_bias_init=HEAD_BIAS[I21K])
_ON_JFT = dict(batch_size=4096, weight_decay=0.03, warmup_steps=10_000, stochastic_depth_rate=0.0, mixup_alpha=0.0)
_ON_JFT |= dict(randaugment_magnitude=0)

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "imagenet1k": {
        "b": _ON_I1K,
        "l": _ON_I1K,
    },
    "imagenet21k": {
        "b": dict(_ON_I21K, randaugment_magnitude=10, mixup_alpha=0.2),
        "l": dict(_ON_I21K, randaugment_magnitude=20, mixup_alpha=0.5),
    },
    "jft300m": {
        "s": dict(_ON_JFT, epochs=5, learning_rate=3e-3),
        "b": dict(_ON_JFT, epochs=7, learning_rate=3e-3),
        "l": dict(_ON_JFT, epochs=14, learning_rate=1e-3),
        "h": dict(_ON_JFT, epochs=14, learning_rate=1e-3),
    },
    "jft300m_7epochs": {
        "b": dict(_ON_JFT, epochs=7, learning_rate=3e-3),  # the row above
        "l": dict(_ON_JFT, epochs=7, learning_rate=1e-3),
    },
    "imagenet1k_published": {"b16": _ON_I1K},  # the authors' code; of other models it says nothing
}
PRE_TRAINED_ON = {
    **{"imagenet1k": I1K, "imagenet1k_published": I1K, "imagenet21k": I21K},
    **{"jft300m": JFT, "jft300m_7epochs": JFT},
}
PUBLISHED_TOP1 = {300: 76.3, 60: 70.5}  # by epochs, of imagenet1k_published; 300 took 2 h 11 min on a TPU v3-128
# TFDS's name of a dataset -> the authors' splits of it, and what it is.
IMAGENET = "imagenet2012"
IMAGENET_SPLITS = dict(train_split="train[:99%]", eval_split="validation")


def is_imagenet(dataset: str) -> bool:
    """Return whether a name is TFDS's of ImageNet, with or without a version.

    Example:
        >>> is_imagenet("imagenet2012:5.1.0"), is_imagenet("imagenet2012_real")
        (True, False)
    """
    return dataset.split(":")[0] == IMAGENET


def title_of(variant: str) -> str:
    """Return the paper's name of a variant, such as "Mixer-B/16" of "b16"."""
    return f"Mixer-{variant[0].upper()}/{variant[1:]}"
