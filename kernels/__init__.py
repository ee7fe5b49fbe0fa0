"""Triton kernels, each beside its PyTorch twin: CUDA and HIP tensors take Triton, CPU tensors the twin."""
