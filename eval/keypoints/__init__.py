"""Keypoint metrics, from files alone."""
