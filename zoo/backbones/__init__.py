"""Backbones: images to feature pyramids."""
