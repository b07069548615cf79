"""Names and shapes of a checkpoint's arrays: the released layout, and the three others that are read."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_mixer.paper import VARIANTS
from keras_mixer.types import Grid, Sizes, Spec
from keras_mixer.weights.npz import ArrayFile

_SHOWN = 12  # lines of a +/- list
PARALLEL = "module."
Patterns = list[tuple[str, str]]  # of a name in the file, and what it becomes


def released_shapes(sizes: Sizes, tokens: int, classes: int | None, channels: int = 3) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the released layout; without a head where `classes` is None.

    Example:
        >>> released_shapes(VARIANTS["b16"], tokens=196, classes=1000)["head/kernel"]
        (768, 1000)
    """
    patch_size, hidden_dim = sizes["patch_size"], sizes["hidden_dim"]
    shapes = {"stem/kernel": (patch_size, patch_size, channels, hidden_dim), "stem/bias": (hidden_dim,)}
    for i in range(sizes["num_blocks"]):
        block = f"MixerBlock_{i}"
        for norm in ("LayerNorm_0", "LayerNorm_1"):
            shapes[f"{block}/{norm}/scale"] = shapes[f"{block}/{norm}/bias"] = (hidden_dim,)
        for mlp, size in (("token", tokens), ("channel", hidden_dim)):
            hidden = sizes[f"{mlp}s_mlp_dim"]
            for i_dense, (inputs, outputs) in enumerate(((size, hidden), (hidden, size))):
                shapes[f"{block}/{mlp}_mixing/Dense_{i_dense}/kernel"] = (inputs, outputs)
                shapes[f"{block}/{mlp}_mixing/Dense_{i_dense}/bias"] = (outputs,)
    shapes["pre_head_layer_norm/scale"] = shapes["pre_head_layer_norm/bias"] = (hidden_dim,)
    if classes is not None:
        shapes["head/kernel"] = (hidden_dim, classes)
        shapes["head/bias"] = (classes,)
    return shapes


def variant_of(**sizes: int | None) -> str | None:
    """Return the name of the variant that has these sizes, or None; D_S is left out, for it grows with the image."""
    names = [name for name, variant in VARIANTS.items() if all(variant[key] == size for key, size in sizes.items())]
    return names[0] if names else None


def check_specs(file: ArrayFile, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise a ValueError unless an ArrayFile holds exactly these arrays, as float32.

    Its first line says which sizes differ; then comes a +/- list of arrays, in the order of the forward pass.
    """
    found, expected = file.specs, {name: (shape, "float32") for name, shape in shapes.items()}
    if found == expected:
        return
    names = sorted([*expected, *sorted({*found} - {*expected})], key=_place)
    differing = [name for name in names if found.get(name) != expected.get(name)]
    lines = [
        f"{sign} {name} {spec[0]} {spec[1]}"
        for name in differing
        for sign, spec in (("-", expected.get(name)), ("+", found.get(name)))
        if spec is not None
    ]
    shown = lines[:_SHOWN] + ([f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    if any(name.startswith("layers/") for name in found):  # Keras' names, of which a Mixer's would be translated
        shown.append(
            "What begins with layers/ is of other layers than a Mixer's: load the file with load_weights into a model "
            "that is built as the one that was saved, and write its Mixer with keras_mixer.save_checkpoint."
        )
    raise ValueError(
        f"weights: {file.source} {_difference(found, expected, len(differing))}.\n"
        "Arrays (- the model needs, + the file has):\n" + "\n".join(shown)
    )


def _place(name: str) -> tuple[int, int]:
    """Sort key of the forward pass: stem, blocks, pre_head_layer_norm, head, then what belongs to none of them."""
    part = name.split("/")[0]
    block = re.fullmatch(r"MixerBlock_(\d+)", part)
    places = {"stem": 0, "pre_head_layer_norm": 2, "head": 3}
    return (1, int(block[1])) if block else (places.get(part, 4), 0)


def _difference(found: Mapping[str, Spec], expected: Mapping[str, Spec], count: int) -> str:
    """Say, as the end of a sentence about the file, in which sizes it differs from the model."""
    if not {*found} & {*expected}:
        return "holds none of this model's arrays"
    has, needs = sizes_of(found), sizes_of(expected)
    sizes = [
        f"{key} is {has[key]} in the file, {needs[key]} in the model"
        for key in needs
        if None not in (has[key], needs[key]) and has[key] != needs[key]
    ]
    text = "does not hold this model's arrays: "
    text += "; ".join(sizes) if sizes else f"{count} of them missing, too many, or of another shape or dtype"
    variant = variant_of(**{key: has[key] for key in ("patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim")})
    return f"{text}; the file has the sizes of Mixer{variant.upper()}" if variant and sizes else text


def sizes_of(specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Return each size by name, None where the array that tells it is missing; biases tell it in any order of axes."""
    ones = {name: shape[0] for name, (shape, _) in specs.items() if len(shape) == 1}
    stem, _ = specs.get("stem/kernel", ((), ""))
    known = len(stem) == 4 and stem[0] == stem[1]
    return {
        "patch_size": stem[0] if known else None,
        "image channels": stem[2] if known else None,
        "num_blocks": len({name.split("/")[0] for name in specs if name.startswith("MixerBlock_")}),
        "hidden_dim": ones.get("stem/bias"),
        "tokens_mlp_dim": ones.get("MixerBlock_0/token_mixing/Dense_0/bias"),
        "channels_mlp_dim": ones.get("MixerBlock_0/channel_mixing/Dense_0/bias"),
        "patches": ones.get("MixerBlock_0/token_mixing/Dense_1/bias"),
        "classes": ones.get("head/bias"),
    }


# (pattern, released name); what no pattern matches keeps its name, and is then reported as extra.
_OLDER = [
    (r"embedding/(kernel|bias)", r"stem/\1"),
    (r"Mixer/encoder_norm/(scale|bias)", r"pre_head_layer_norm/\1"),
    (r"Mixer/encoderblock_(\d+)/(LayerNorm_\d+/(?:scale|bias))", r"MixerBlock_\1/\2"),
    (r"Mixer/encoderblock_(\d+)/(token|channel)_mixing_phase_0/(kernel|bias)1", r"MixerBlock_\1/\2_mixing/Dense_0/\3"),
    (r"Mixer/encoderblock_(\d+)/(token|channel)_mixing_phase_0/(kernel|bias)2", r"MixerBlock_\1/\2_mixing/Dense_1/\3"),
]
_TIMM = [
    (r"stem\.proj\.(weight|bias)", r"stem/\1"),
    (r"norm\.(weight|bias)", r"pre_head_layer_norm/\1"),
    (r"head\.(weight|bias)", r"head/\1"),
    (r"blocks\.(\d+)\.norm1\.(weight|bias)", r"MixerBlock_\1/LayerNorm_0/\2"),
    (r"blocks\.(\d+)\.norm2\.(weight|bias)", r"MixerBlock_\1/LayerNorm_1/\2"),
    (r"blocks\.(\d+)\.mlp_(token|channel)s\.fc1\.(weight|bias)", r"MixerBlock_\1/\2_mixing/Dense_0/\3"),
    (r"blocks\.(\d+)\.mlp_(token|channel)s\.fc2\.(weight|bias)", r"MixerBlock_\1/\2_mixing/Dense_1/\3"),
]
# Keras names a layer in a .weights.h5 file by its class and its position among that class, not by its name.
_KERAS_H5 = [
    (r"layers/patch_embed/conv/vars/([01])", r"stem/#\1"),
    (r"layers/mixer_block(?:_(\d+))?/layer_norm_([01])/vars/([01])", r"MixerBlock_\1/LayerNorm_\2/#\3"),
    (
        r"layers/mixer_block(?:_(\d+))?/(token|channel)_mixing/dense_([01])/vars/([01])",
        r"MixerBlock_\1/\2_mixing/Dense_\3/#\4",
    ),
    (r"layers/layer_normalization/vars/([01])", r"pre_head_layer_norm/#\1"),
    (r"layers/dense/vars/([01])", r"head/#\1"),
]


def in_released_layout(file: ArrayFile) -> ArrayFile:
    """Return an ArrayFile with the released layout's names, axes and dtypes, whatever known layout `file` is in."""
    file = _in_float32(_without_prefix(file))
    if any(name.startswith(("embedding/", "Mixer/")) for name in file.specs):
        return _translated(file, _OLDER, "read from the older key layout", squeeze=True)
    if "stem.proj.weight" in file.specs:
        note = "read from a timm state dict, which timm runs with the exact GELU and this model with the tanh GELU"
        return _translated(file, _TIMM, note, channels_first=True)
    if any(name.startswith("layers/") for name in file.specs):
        return _translated(file, _KERAS_H5, "read by class and position from a Keras weights file")
    return file


def _without_prefix(file: ArrayFile) -> ArrayFile:
    """Drop what PyTorch puts before every name of a model that was trained on several devices."""
    if not file.specs or not all(name.startswith(PARALLEL) for name in file.specs):
        return file
    specs = {name.removeprefix(PARALLEL): spec for name, spec in file.specs.items()}
    note = f"names without their {PARALLEL!r}"
    return ArrayFile(file.source, specs, lambda name: file.read(PARALLEL + name), file.grid, (*file.notes, note))


def _in_float32(file: ArrayFile) -> ArrayFile:
    """Cast arrays of half precision, which holds no value that float32 has not."""
    half = {dtype for _, dtype in file.specs.values()} & {"float16", "bfloat16"}
    if not half:
        return file
    specs = {name: (shape, "float32" if dtype in half else dtype) for name, (shape, dtype) in file.specs.items()}
    read = lambda name: file.read(name).astype(np.float32) if file.specs[name][1] in half else file.read(name)
    return ArrayFile(file.source, specs, read, file.grid, (*file.notes, f"cast from {' and '.join(sorted(half))}"))


def _translated(
    file: ArrayFile, patterns: Patterns, note: str, channels_first: bool = False, squeeze: bool = False
) -> ArrayFile:
    names = {name: _rename(name, patterns) for name in file.specs}
    if squeeze:
        names = _renumber_norms(names)
    sources: dict[str, tuple[str, tuple[int, ...], tuple[int, ...]]] = {}
    specs: dict[str, Spec] = {}
    for name, (shape, dtype) in file.specs.items():
        new = names[name]
        axes = tuple(range(len(shape)))
        if channels_first and name.endswith(".weight"):  # OIHW to HWIO, (out, in) to (in, out)
            axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), axes)
        if new in sources:
            raise ValueError(
                f"weights: {file.source} holds both {sources[new][0]!r} and {name!r}, which are one array."
            )
        new_shape = tuple(shape[axis] for axis in axes)
        if squeeze and new != name:  # the older code kept axes of size one in its Dense layers
            new_shape = tuple(side for side in new_shape if side != 1)
        sources[new] = (name, axes, new_shape)
        specs[new] = (new_shape, dtype)

    def read(new: str) -> np.ndarray:
        name, axes, shape = sources[new]
        return file.read(name).transpose(axes).reshape(shape)

    return ArrayFile(file.source, specs, read, file.grid, (*file.notes, note))


def _rename(name: str, patterns: Patterns) -> str:
    for pattern, replacement in patterns:
        match = re.fullmatch(pattern, name)
        if match:
            new = match.expand(replacement).replace("MixerBlock_/", "MixerBlock_0/")
            norm = "norm" in new.rsplit("/", 1)[0].lower()
            new = new.replace("/#0", "/weight").replace("/#1", "/bias")
            return new.replace("/weight", "/scale" if norm else "/kernel")
    return name


def _renumber_norms(names: dict[str, str]) -> dict[str, str]:
    """Number a block's LayerNorms 0 and 1 in their order: the older code counted all of a block's layers together."""
    numbers: dict[str, set[int]] = {}
    for new in names.values():
        if match := re.fullmatch(r"(MixerBlock_\d+/LayerNorm_)(\d+)/\w+", new):
            numbers.setdefault(match[1], set()).add(int(match[2]))

    def renumber(match: re.Match[str]) -> str:
        return f"{match[1]}{sorted(numbers[match[1]]).index(int(match[2]))}/"

    return {old: re.sub(r"(MixerBlock_\d+/LayerNorm_)(\d+)/", renumber, new) for old, new in names.items()}


def check_grid(grid: Any) -> Grid:
    """Return the argument `grid` as (rows, columns) of int; raise a ValueError unless it is two positive integers."""
    sides = grid if isinstance(grid, (tuple, list)) else ()
    whole = [isinstance(side, (int, np.integer)) and not isinstance(side, bool) and side > 0 for side in sides]
    if whole != [True, True]:
        raise ValueError(
            f"load_checkpoint: grid must be (rows, columns) of patches, two positive integers, got {grid!r}."
        )
    return int(sides[0]), int(sides[1])
