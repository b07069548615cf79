"""Checkpoints: the released ones and other files, loaded strictly, saved, and made fit another image size."""
