"""The commands, one file each: `python recipes/X.py`, `keras-mixer X` or `python -m keras_mixer X`."""
