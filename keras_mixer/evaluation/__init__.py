"""Evaluation: exact accuracy over every image of a dataset."""
