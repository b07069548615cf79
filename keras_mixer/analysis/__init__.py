"""Measurements and pictures: speed of the input pipeline, contact sheets of augmented batches."""
