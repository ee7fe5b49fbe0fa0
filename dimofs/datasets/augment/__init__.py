"""Augmentation of training pairs, and the mixture of data sets that a run draws from."""
