"""The kernels alone, on numbers that can be checked by hand.

    python examples/kernels_alone.py

Each runs as a Triton kernel on a GPU's tensors and as plain PyTorch on a CPU's; all except `batched_nms` have
gradients. It prints

    deform_sample, half a pixel to the right: [5.0, 15.0, 25.0, 15.0]
    deform_conv2d, twice the pixel to the left: [0.0, 0.0, 20.0, 40.0]
    roi_align, means of the left and the right half: [0.5, 2.5]
    batched_nms, the boxes that are kept: [0, 2]
    gradient of the first sample by its dx: [10.0]
"""

import torch

from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align


def rounded(values: torch.Tensor) -> list[float]:
    """All values as a flat list, to three decimals."""
    return [round(value, 3) for value in values.flatten().tolist()]


def main() -> None:
    row = torch.tensor([[[[0.0, 10, 20, 30]]]])  # [N, C, H, W] = [1, 1, 1, 4]

    # Each pixel looks half a pixel to its right; beyond the last pixel the map counts as 0.
    offset = torch.zeros(1, 2, 1, 4)
    offset[:, 1] = 0.5
    print("deform_sample, half a pixel to the right:", rounded(deform_sample(row, offset)))

    # A 1x1 convolution of weight 2 whose tap looks one pixel to the left.
    offset = torch.zeros(1, 2, 1, 4)
    offset[:, 1] = -1
    weight = torch.full((1, 1, 1, 1), 2.0)
    print("deform_conv2d, twice the pixel to the left:", rounded(deform_conv2d(row, offset, weight)))

    # The mean over the left and the right half of a box of 4 x 4 pixels in which x grows from 0 to 3.
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    boxes = [torch.tensor([[0.0, 0, 4, 4]])]
    halves = roi_align(ramp, boxes, output_size=(1, 2), sampling_ratio=2, aligned=True)
    print("roi_align, means of the left and the right half:", rounded(halves))

    # The second box covers 90 % of the first and has a lower score; the third is of another class.
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]])
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 2]), iou_threshold=0.5)
    print("batched_nms, the boxes that are kept:", kept.tolist())

    # The gradient of the first sample with respect to its offset is the slope of the row, 10 a pixel.
    offset = torch.zeros(1, 2, 1, 4)
    offset[:, 1] = 0.5
    offset.requires_grad_()
    deform_sample(row, offset)[..., 0].sum().backward()
    assert offset.grad is not None
    print("gradient of the first sample by its dx:", rounded(offset.grad[0, 1, 0, 0]))


if __name__ == "__main__":
    main()
