"""Input pipelines in tf.data: sources (where examples come from) -> decode and crop -> augment -> batches."""
