"""A trained Mixer as files that other programs run: SavedModel, LiteRT, ONNX."""
