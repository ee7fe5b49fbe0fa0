"""Metrics of action detection, computed from boxes: frame-mAP, tubes and video-mAP. Imports no model."""
