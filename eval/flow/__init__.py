"""Measuring motion: pairs with known displacements, estimators, fits, tracks, masks and pictures."""
