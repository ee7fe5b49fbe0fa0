"""The detector of people and poses, part by part."""
