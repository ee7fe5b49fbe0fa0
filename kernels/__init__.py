"""Triton kernels, each beside its PyTorch twin: CUDA and HIP tensors take Triton, CPU tensors the twin."""

from dimofs.kernels.deform import deform_sample
from dimofs.kernels.deform_conv import deform_conv2d
from dimofs.kernels.nms import batched_nms
from dimofs.kernels.roi_align import roi_align

__all__ = ["batched_nms", "deform_conv2d", "deform_sample", "roi_align"]
