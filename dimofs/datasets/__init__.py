"""Data sets of poses in images and videos, one a file."""
