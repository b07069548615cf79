"""The paper's Table 4: how each model was pre-trained on each dataset. Numbers by dataset, then by model size."""

from typing import Any

_IMAGENET = dict(
    epochs=300, batch_size=4096, learning_rate=1e-3, weight_decay=0.1, warmup_steps=10_000, stochastic_depth_rate=0.1
)
_JFT = dict(batch_size=4096, weight_decay=0.03, warmup_steps=10_000, stochastic_depth_rate=0.0, mixup_alpha=0.0)
_JFT |= dict(randaugment_magnitude=0)

PRESETS = {
    "imagenet1k": {
        "b": dict(_IMAGENET, randaugment_magnitude=15, mixup_alpha=0.5),
        "l": dict(_IMAGENET, randaugment_magnitude=15, mixup_alpha=0.5),
    },
    "imagenet21k": {
        "b": dict(_IMAGENET, randaugment_magnitude=10, mixup_alpha=0.2),
        "l": dict(_IMAGENET, randaugment_magnitude=20, mixup_alpha=0.5),
    },
    "jft300m": {
        "s": dict(_JFT, epochs=5, learning_rate=3e-3),
        "b": dict(_JFT, epochs=7, learning_rate=3e-3),
        "l": dict(_JFT, epochs=14, learning_rate=1e-3),  # the paper also gives a 7-epoch row
        "h": dict(_JFT, epochs=14, learning_rate=1e-3),
    },
}


def get_preset(name: str, model: str) -> dict[str, Any]:
    """Return flag -> value of Table 4's row.

    Raises:
        ValueError: for an unknown preset, or a model that the paper did not pre-train on that dataset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: must be one of {', '.join(PRESETS)}, got {name!r}.")
    rows = PRESETS[name]
    if model == "tiny" or model[0] not in rows:
        sizes = ", ".join(size.upper() for size in rows)
        raise ValueError(
            f"preset: the paper pre-trained only {sizes} models on {name}, not {model}; choose another --model."
        )
    return dict(rows[model[0]], dropout_rate=0.0)
