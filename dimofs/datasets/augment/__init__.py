"""Augmentation of training pairs, and the mixture of data sets from which a training run draws."""
