"""Operators as Triton kernels, each with a PyTorch twin.

CUDA and HIP tensors run the Triton kernel (`*_triton.py`), CPU tensors the twin (`*_torch.py`).
"""

from dimofs.kernels.correlate import correlate
from dimofs.kernels.deform import deform_sample
from dimofs.kernels.deform_conv import deform_conv2d
from dimofs.kernels.nms import batched_nms
from dimofs.kernels.roi_align import roi_align

__all__ = ["batched_nms", "correlate", "deform_conv2d", "deform_sample", "roi_align"]
