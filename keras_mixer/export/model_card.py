"""The page about an exported model that lies beside it, for those who get only the folder."""

from collections.abc import Mapping
from typing import Any

from keras_mixer.data import decode_plain, image_limits
from keras_mixer.export.signatures import OUT_OF_RANGE, UNREADABLE

CLASSES_SHOWN = 50


def model_card(facts: dict[str, Any], card: Mapping[str, Any] | None) -> str:
    """Return the text of model_card.md of the facts in export.json, and of more to tell: names, and values or dicts."""
    height, width = facts["image_size"]
    names, top = facts["class_names"], facts["top"]
    shown = ", ".join(_plain(name) for name in names[:CLASSES_SHOWN])
    if len(names) > CLASSES_SHOWN:
        shown += f", and {len(names) - CLASSES_SHOWN:,} more in `assets/class_names.txt`"
    rows = {"Model": f"MLP-Mixer `{facts['model']}`, {facts['parameters']:,} parameters", **(card or {})}
    compiled = ", compiled by XLA for each size of a batch" if facts["jit_compile"] else ""
    rows |= {
        "Weights": rows.get("Weights", "") or "not named",
        "Weights' sha256": f"`{facts['weights_sha256']}`",
        "Stored as": facts["storage"],
        "Computes in": facts["compute"] + compiled,
        "Checked": f"reloaded, and within {facts['largest_difference']:.1e} of the Keras model's probabilities",
        "Made with": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    }
    larger = round(min(height, width) * 8 / 7)
    return _TEXT.format(
        model=_plain(facts["model"]),
        table="\n".join(f"| {_plain(name)} | {_value(value)} |" for name, value in rows.items()),
        classes=f"{len(names):,}: {shown}",
        activation=facts["activation"],
        meaning=_MEANING[facts["activation"]],
        shape=f"(B, {height}, {width}, {facts['channels']})",
        colours="RGB" if facts["channels"] == 3 else "grey",
        answers=f"`probabilities` float32 (B, {len(names)}), `classes` string (B, {top}) best first, "
        f"`scores` float32 (B, {top})",
        features=facts["features"],
        turned="turns a photograph upright by its EXIF data" if facts["exif_rotation"] else "ignores EXIF data",
        alpha=_ALPHA[facts["alpha"]],
        crop=_CROPS[facts["crop"]].format(side=f"{height} x {width}", larger=larger),
        UNREADABLE=UNREADABLE,
        OUT_OF_RANGE=OUT_OF_RANGE,
        decode_plain=decode_plain,
        image_limits=image_limits,
        command=serving_command('"$PWD"'),
    )


def serving_command(folder: str) -> str:
    """Return the shell command that serves the versions in a folder, which is written as the shell should read it."""
    return f"docker run --rm -p 8500:8500 -p 8501:8501 -v {folder}:/models/mixer -e MODEL_NAME=mixer tensorflow/serving"


_TEXT = """# {model}: an image classifier

MLP-Mixer (Tolstikhin et al. 2021, https://arxiv.org/abs/2105.01601), exported for TensorFlow Serving.

| | |
|---|---|
{table}

## Classes

{classes}.
The probabilities of an image are the {activation} of the logits{meaning}.

## Signatures

| signature | `images` | answers |
|---|---|---|
| `serving_default` | uint8 {shape}, {colours} | {answers} |
| `serving_float` | float32 {shape}, {colours} in [0, 255] | the same, and `status` string (B,) |
| `serving_bytes` | string (B,), bytes of JPEG, PNG, still GIF or WebP, plain BMP files | the same, and `status` |
| `features` | uint8 {shape}, {colours} | `pre_logits` float32 (B, {features}) |

B is any number, 0 too. Pixels are given as they are: the model maps [0, 255] to [-1, 1] itself. `serving_bytes`
{turned}, {alpha}, and takes
{crop}.
For the other signatures do the same yourself.

## Status

`ok`, or what is wrong with an image. Such an image has zeros as probabilities and scores and "" as classes, and the
others are as without it.

| `status` | |
|---|---|
| `{UNREADABLE}` | damaged |
| `{decode_plain.NOT_TAKEN}` | convert it, for example an animation to its first frame |
| `{image_limits.TOO_MANY_PIXELS}` | nothing was decoded |
| `{image_limits.TOO_MANY_WEBP_PIXELS}` | nothing was decoded |
| `{image_limits.TOO_MANY_BYTES}` | nothing was decoded |
| `{image_limits.TOO_LONG}` | nothing was decoded |
| `{image_limits.EMPTY}` | a side of 0 pixels |
| `{OUT_OF_RANGE}` | of `serving_float`, NaN too |

Images of another shape or type fail the whole request: `images: must be uint8 of shape {shape}; ...`.

## Serve it

From the folder that holds this version's folder:

```sh
{command}
curl -d '{{"signature_name": "serving_bytes", "instances": [{{"b64": "'$(base64 -w0 photo.jpg)'"}}]}}' \\
  http://localhost:8501/v1/models/mixer:predict
```

## Limits

It names one of its classes, with some probability, whatever the picture shows. Its accuracy above, if there is any, is
that on the named data; measure it on yours. Nothing is known about its fairness or its safety for any use.
"""
_MEANING = {"softmax": ": they sum to 1", "sigmoid": ": each class has its own, and they do not sum to 1"}
_ALPHA = {
    "white": "shows white through transparent pixels",
    "black": "shows black through transparent pixels",
    "drop": "shows the colours stored under transparent pixels",
}
_CROPS = {
    "resmall": "the centre, {side} pixels, after resizing the short side to {larger}",
    "resize": "the centre, {side} pixels, after resizing both sides to 8/7 of that",
    "none": "the whole image, resized to {side} pixels",
}


def _plain(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_plain(name)} {_value(item)}" for name, item in value.items())
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else _plain(value)
