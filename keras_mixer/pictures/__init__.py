"""Pictures of training batches, curves, confusions and weights; drawn with matplotlib, which is imported when used."""
