"""Standalone evaluation scripts, one per benchmark."""
