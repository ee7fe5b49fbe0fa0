"""Synthetic clips: rendered people who act in rendered scenes, with exact labels."""
