"""Input pipelines in tf.data: opening (where examples come from) -> decode and crop -> augment -> batches."""
