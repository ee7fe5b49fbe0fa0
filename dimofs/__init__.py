"""dimofs: poses, tracks and motion from video by Discriminative Motion Features (Bertasius et al.)."""

__version__ = "0.1.0"
