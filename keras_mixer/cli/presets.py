"""The paper's Table 4 as flags."""

from typing import Any

from keras_mixer.paper import PRESETS


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
