"""PyTorch twin of the Triton kernels of deformable sampling, and the CPU path; the formula is in `deform`."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**18  # samples at a time: with their coordinates they stay in the caches
TOGETHER = 4  # channels that a thread samples by the same coordinates
OUTSIDE = 4.0  # in the normalized coordinates of grid_sample, where the map spans [-1, 1]


def deform_sample_torch(x: Tensor, offset: Tensor) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path."""
    n, c, h, w = x.shape
    groups = offset.shape[1] // 2
    planes = x.reshape(n * groups, c // groups, h, w), offset.reshape(n * groups, 2, h, w)
    if torch.compiler.is_compiling():  # compilers fuse the whole formula
        return bilinear(*planes, _pixels(x)).view(n, c, h, w)
    return _Sample.apply(*planes).view(n, c, h, w)


def bilinear(x: Tensor, offset: Tensor, position: Tensor) -> Tensor:
    """Sample `x` [B, C, H, W] at the (row, column) `position` [2, h, w] + `offset` [B, 2, h, w] -> [B, C, h, w].

    The offsets stay planar: grid_sample sees the transposed image and a strided grid, so nothing is copied but the grid
    itself. The grid lies two roundings beyond the position, so that a whole coordinate never lands in the cell before.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    size = torch.tensor(x.shape[2:], dtype=dtype, device=x.device).view(2, 1, 1)
    base = (2 * position.to(dtype) + 1) / size - 1 + 2 * torch.finfo(dtype).eps
    grid = torch.addcmul(base, offset.to(dtype), 2 / size)  # [B, 2, h, w], the map spans [-1, 1]
    with torch.no_grad():  # outside the map the gradient of grid_sample is 0 already
        grid.nan_to_num_(OUTSIDE, OUTSIDE, -OUTSIDE)
    sampled = F.grid_sample(x.to(dtype).transpose(2, 3), grid.permute(0, 2, 3, 1), align_corners=False)
    return sampled.to(x.dtype)


class _Sample(torch.autograd.Function):
    """`bilinear` at every pixel, in chunks of planes that stay in the caches: x [B, C, h, w], offset [B, 2, h, w]."""

    @staticmethod
    def forward(ctx, x: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset)
        frame, out = SamplingGrid(x, _pixels(x)), torch.empty_like(x)
        for chunk in _chunks(x):
            out[chunk] = sample(x[chunk].to(frame.dtype), frame.grid(offset[chunk]))
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, offset = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody differentiates twice
            return derivatives(lambda x, o: bilinear(x, o, _pixels(x)), (x, offset), grad)
        frame, grad_x, grad_offset = SamplingGrid(x, _pixels(x)), torch.empty_like(x), torch.empty_like(offset)
        for chunk in _chunks(x):
            grid = frame.grid(offset[chunk])
            part, moved = sample_backward(grad[chunk].to(frame.dtype), x[chunk].to(frame.dtype), grid)
            grad_x[chunk], grad_offset[chunk] = part, frame.pixels(moved)
        return grad_x, grad_offset


class SamplingGrid:
    """The normalized coordinates of grid_sample for a map and the pixels around which offsets move.

    Grids are planar and of swapped axes, [B, 2, h, w] with (x, y) along axis 1. Each is valid until the next is made.
    """

    def __init__(self, x: Tensor, position: Tensor):
        self.dtype = torch.promote_types(x.dtype, torch.float32)
        size = torch.tensor(x.shape[2:], dtype=self.dtype, device=x.device).view(2, 1, 1)
        self.base = (2 * position.to(self.dtype) + 1) / size - 1 + 2 * torch.finfo(self.dtype).eps
        self.scale = 2 / size
        self.buffer = self.base.new_empty(0)

    def grid(self, offset: Tensor) -> Tensor:
        """Where (row, column) offsets [B, 2, h, w] lead."""
        shape, offset = offset.shape, offset.to(self.dtype)
        if self.buffer.numel() < offset.numel():
            self.buffer = offset.new_empty(offset.numel())
        grid = self.buffer[: offset.numel()].view(shape)
        for axis in (0, 1):
            torch.addcmul(self.base[axis], offset[:, axis], self.scale[axis], out=grid[:, 1 - axis])
        return grid.nan_to_num_(OUTSIDE, OUTSIDE, -OUTSIDE)

    def pixels(self, grad: Tensor) -> Tensor:
        """The gradient of a grid [B, h, w, 2] as the one of the offsets [B, 2, h, w]."""
        return torch.stack((grad[..., 1] * self.scale[0], grad[..., 0] * self.scale[1]), dim=1)


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """x [B, C, H, W] sampled by a planar grid [B, 2, h, w] -> [B, C, h, w]."""
    x, grid, shape = _spread(x, grid)
    return torch.grid_sampler_2d(x, grid.permute(0, 2, 3, 1), 0, 0, False).view(shape)


def sample_backward(grad: Tensor, x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `sample`'s x and, as [B, h, w, 2], its grid."""
    shape, planes = x.shape, len(grid)
    x, grid, _ = _spread(x, grid)
    backward = torch.ops.aten.grid_sampler_2d_backward
    grad_x, grad_grid = backward(
        grad.reshape(*x.shape[:2], *grid.shape[2:]), x, grid.permute(0, 2, 3, 1), 0, 0, False, [True, True]
    )
    return grad_x.view(shape), grad_grid.view(planes, -1, *grad_grid.shape[1:]).sum(dim=1)


def _spread(x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The same planes with fewer channels, so that threads, which share out planes, all have some."""
    (b, c), shape = x.shape[:2], (*x.shape[:2], *grid.shape[2:])
    if c <= TOGETHER or c % TOGETHER:
        return x, grid, shape
    parts = c // TOGETHER
    grid = grid[:, None].expand(b, parts, *grid.shape[1:]).flatten(0, 1)
    return x.reshape(b * parts, TOGETHER, *x.shape[2:]), grid, shape


def derivatives(function, inputs: tuple[Tensor | None, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `function` to its inputs, themselves differentiable; None where an input needs none."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)


def _pixels(x: Tensor) -> Tensor:
    """Row and column of every pixel of `x` [..., H, W] -> [2, H, W]."""
    rows, columns = (torch.arange(s, device=x.device) for s in x.shape[2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _chunks(x: Tensor) -> list[slice]:
    """Slices of the planes of `x` [B, C, H, W] that together hold about `CHUNK` values each."""
    threads = torch.get_num_threads()  # each takes as many planes
    step = -(-CHUNK // max(1, x[:1].numel()) // threads) * threads
    return [slice(i, i + step) for i in range(0, len(x), step)]
