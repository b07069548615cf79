"""A trained Mixer as files that other programs run: SavedModel, LiteRT, ONNX; docs/export.md."""

from keras_mixer.serving.litert import litert
from keras_mixer.serving.onnx import onnx
from keras_mixer.serving.saved_model import saved_model
from keras_mixer.serving.version_folder import ExportError

__all__ = ["ExportError", "litert", "onnx", "saved_model"]
