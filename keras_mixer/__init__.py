"""MLP-Mixer (Tolstikhin et al. 2021) for Keras 3."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_mixer._version import __version__ as __version__

if TYPE_CHECKING:
    from keras_mixer import export as export
    from keras_mixer.class_names import decode_predictions
    from keras_mixer.layers import MixerBlock, MlpBlock, PatchEmbed, StochasticDepth
    from keras_mixer.models import (
        MixerB16,
        MixerB32,
        MixerH14,
        MixerL16,
        MixerL32,
        MixerS8,
        MixerS16,
        MixerS32,
        MLPMixer,
        preprocess_input,
    )
    from keras_mixer.runs import load_run
    from keras_mixer.weights.checkpoint import load_checkpoint, save_checkpoint
    from keras_mixer.weights.released import list_weights

__all__ = [
    "MLPMixer",
    "MixerB16",
    "MixerB32",
    "MixerBlock",
    "MixerH14",
    "MixerL16",
    "MixerL32",
    "MixerS8",
    "MixerS16",
    "MixerS32",
    "MlpBlock",
    "PatchEmbed",
    "StochasticDepth",
    "decode_predictions",
    "list_weights",
    "load_checkpoint",
    "load_run",
    "preprocess_input",
    "save_checkpoint",
]
_MODULES = {
    "decode_predictions": "class_names",
    **dict.fromkeys(("MixerBlock", "MlpBlock", "PatchEmbed", "StochasticDepth"), "layers"),
    "list_weights": "weights.released",
    "load_run": "runs",
    **dict.fromkeys(("load_checkpoint", "save_checkpoint"), "weights.checkpoint"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that what needs no framework, such as a plot, loads none."""
    if name == "export":
        return importlib.import_module("keras_mixer.export")
    if name not in __all__:
        raise AttributeError(f"module 'keras_mixer' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_mixer.{_MODULES.get(name, 'models')}"), name)
    importlib.import_module("keras_mixer.models")  # with the first name all classes are registered
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "export"])


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Imports the models right after Keras, which loads a saved model only where its classes are registered.

    Not where a module of this package imports Keras itself: it is not whole yet, and models may need it.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if not _is_importing():
                    importlib.import_module("keras_mixer.models")

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _is_importing() -> bool:
    """Whether some module of this package has begun its import and not ended it."""
    ours = [module for name, module in list(sys.modules.items()) if name.startswith("keras_mixer.")]
    return any(getattr(module.__spec__, "_initializing", False) for module in ours)


if "keras" in sys.modules:
    importlib.import_module("keras_mixer.models")
else:
    sys.meta_path.insert(0, _AfterKeras())
