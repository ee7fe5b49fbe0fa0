"""The training loop, its data and its run folder."""
