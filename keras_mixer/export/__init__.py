"""A trained Mixer as files that other programs run: SavedModel, LiteRT, ONNX, a web page; docs/guides/exporting.md."""

from keras_mixer.export.onnx_file import onnx
from keras_mixer.export.serving_folder import saved_model
from keras_mixer.export.tflite import litert
from keras_mixer.export.version_folder import ExportError
from keras_mixer.export.web import web

__all__ = ["ExportError", "litert", "onnx", "saved_model", "web"]
