"""Weights: where they come from, what identifies them, checkpoints and the files of a training."""
