"""The packages that formats need beside the default install, and the extra that brings them."""

import importlib.util

_ONNX = "onnx", ("onnx", "onnxruntime", "tf2onnx")
NEEDED = {"litert": ("litert", ("ai_edge_litert",)), "onnx": _ONNX, "web": _ONNX}


def missing(form: str) -> str | None:
    """Return one sentence where a package that a format needs is not installed, else None.

    Example:
        >>> missing("saved_model") is None
        True
    """
    extra, names = NEEDED.get(form, ("", ()))
    name = next((name for name in names if importlib.util.find_spec(name) is None), None)
    if name is None:
        return None
    return f"{form}: needs the package {name.replace('_', '-')}; install it with pip install 'keras_mixer[{extra}]'."


def check(form: str) -> None:
    """Raise an ImportError with that sentence."""
    sentence = missing(form)
    if sentence is not None:
        raise ImportError(sentence)
