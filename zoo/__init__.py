"""Models: backbones, offset net, heads, detectors, checkpoints and the training loop."""
