"""Deformable sampling in plain PyTorch: the twin of `deform_triton`, and the CPU path. The formula is in `deform`."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Samples per chunk. Samples and coordinates of one chunk stay in the CPU's caches.
CHUNK_SAMPLES = 2**18
# Channels per thread that share one grid of coordinates.
CHANNELS_PER_GRID = 4
# A normalized coordinate far outside the map, which spans [-1, 1] in grid_sample.
OUTSIDE = 4.0


def deform_sample_torch(x: Tensor, offset: Tensor) -> Tensor:
    """`deform_sample` of checked arguments."""
    n, c, h, w = x.shape
    groups = offset.shape[1] // 2
    planes = x.reshape(n * groups, c // groups, h, w), offset.reshape(n * groups, 2, h, w)
    if x.numel() == 0:
        return bilinear_of_nothing(*planes).view(n, c, h, w)
    if torch.compiler.is_compiling():
        # Compilers fuse the whole formula, so chunks would only get in their way.
        return bilinear(*planes, _pixels(x)).view(n, c, h, w)
    return _Sample.apply(*planes).view(n, c, h, w)


def bilinear(x: Tensor, offset: Tensor, position: Tensor) -> Tensor:
    """Sample `x` [B, C, H, W] at the (row, column) `position` [2, h, w] + `offset` [B, 2, h, w] -> [B, C, h, w].

    The offsets stay planar: grid_sample reads the transposed map through a strided grid, so only the grid is copied.
    The grid is shifted by two machine epsilons, so that rounding never moves a whole coordinate into the previous cell.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    size = torch.tensor(x.shape[2:], dtype=dtype, device=x.device).view(2, 1, 1)
    base = (2 * position.to(dtype) + 1) / size - 1 + 2 * torch.finfo(dtype).eps
    grid = torch.addcmul(base, offset.to(dtype), 2 / size)  # [B, 2, h, w], the map spans [-1, 1]
    # Outside the map the gradient of grid_sample is already 0, so autograd need not see this step.
    with torch.no_grad():
        grid.nan_to_num_(OUTSIDE, OUTSIDE, -OUTSIDE)
    sampled = F.grid_sample(x.to(dtype).transpose(2, 3), grid.permute(0, 2, 3, 1), align_corners=False)
    return sampled.to(x.dtype)


def bilinear_of_nothing(x: Tensor, offset: Tensor) -> Tensor:
    """`x` without elements, connected to `offset` so that both receive gradients."""
    return x + offset.sum().to(x.dtype)


class _Sample(torch.autograd.Function):
    """`bilinear` of x [B, C, h, w] at every pixel plus offset [B, 2, h, w], in chunks of B that stay in the caches."""

    @staticmethod
    def forward(ctx, x: Tensor, offset: Tensor) -> Tensor:
        ctx.save_for_backward(x, offset)
        sampling, out = SamplingGrid(x, _pixels(x)), torch.empty_like(x)
        for chunk in _chunks(x):
            out[chunk] = sample(x[chunk].to(sampling.dtype), sampling.grid(offset[chunk]))
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, offset = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Second derivatives were asked for (create_graph=True).
            return derivatives(lambda x, o: bilinear(x, o, _pixels(x)), (x, offset), grad)
        sampling, grad_x, grad_offset = SamplingGrid(x, _pixels(x)), torch.empty_like(x), torch.empty_like(offset)
        for chunk in _chunks(x):
            grid = sampling.grid(offset[chunk])
            part, moved = sample_backward(grad[chunk].to(sampling.dtype), x[chunk].to(sampling.dtype), grid)
            grad_x[chunk], grad_offset[chunk] = part, sampling.pixels(moved)
        return grad_x, grad_offset


class SamplingGrid:
    """Converts offsets from fixed positions in a map to the normalized coordinates of grid_sample.

    Grids are planar, [B, 2, h, w] with (x, y) along axis 1. They share a buffer: each is valid until the next is made.
    """

    def __init__(self, x: Tensor, position: Tensor):
        self.dtype = torch.promote_types(x.dtype, torch.float32)
        size = torch.tensor(x.shape[2:], dtype=self.dtype, device=x.device).view(2, 1, 1)
        self.base = (2 * position.to(self.dtype) + 1) / size - 1 + 2 * torch.finfo(self.dtype).eps
        self.scale = 2 / size
        self.buffer = self.base.new_empty(0)

    def grid(self, offset: Tensor) -> Tensor:
        """The grid of the positions plus (row, column) offsets [B, 2, h, w]."""
        shape, offset = offset.shape, offset.to(self.dtype)
        if self.buffer.numel() < offset.numel():
            self.buffer = offset.new_empty(offset.numel())
        grid = self.buffer[: offset.numel()].view(shape)
        for axis in (0, 1):
            torch.addcmul(self.base[axis], offset[:, axis], self.scale[axis], out=grid[:, 1 - axis])
        return grid.nan_to_num_(OUTSIDE, OUTSIDE, -OUTSIDE)

    def pixels(self, grad: Tensor) -> Tensor:
        """Convert the gradient of a grid [B, h, w, 2] to the gradient of the offsets [B, 2, h, w], in pixels."""
        return torch.stack((grad[..., 1] * self.scale[0], grad[..., 0] * self.scale[1]), dim=1)


def sample(x: Tensor, grid: Tensor) -> Tensor:
    """Sample x [B, C, H, W] by a planar grid [B, 2, h, w] -> [B, C, h, w]."""
    x, grid, shape = _spread(x, grid)
    return torch.grid_sampler_2d(x, grid.permute(0, 2, 3, 1), 0, 0, False).view(shape)


def sample_backward(grad: Tensor, x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `sample` with respect to x and to the grid, the latter as [B, h, w, 2]."""
    shape, planes = x.shape, len(grid)
    x, grid, _ = _spread(x, grid)
    backward = torch.ops.aten.grid_sampler_2d_backward
    grad_x, grad_grid = backward(
        grad.reshape(*x.shape[:2], *grid.shape[2:]), x, grid.permute(0, 2, 3, 1), 0, 0, False, [True, True]
    )
    return grad_x.view(shape), grad_grid.view(planes, -1, *grad_grid.shape[1:]).sum(dim=1)


def _spread(x: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """Turn channels into batch entries, so that grid_sample, which spreads the batch over threads, employs all."""
    (b, c), shape = x.shape[:2], (*x.shape[:2], *grid.shape[2:])
    if c <= CHANNELS_PER_GRID or c % CHANNELS_PER_GRID:
        return x, grid, shape
    parts = c // CHANNELS_PER_GRID
    grid = grid[:, None].expand(b, parts, *grid.shape[1:]).flatten(0, 1)
    return x.reshape(b * parts, CHANNELS_PER_GRID, *x.shape[2:]), grid, shape


def derivatives(function, inputs: tuple[Tensor | None, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiable gradients of `function` with respect to its inputs; None for an input that requires no grad."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(function(*inputs), wanted, grad, create_graph=True))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)


def _pixels(x: Tensor) -> Tensor:
    """The row and column of every pixel of `x` [..., H, W] -> [2, H, W]."""
    rows, columns = (torch.arange(s, device=x.device) for s in x.shape[2:])
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def _chunks(x: Tensor) -> list[slice]:
    """Slices of the batch of `x` [B, C, H, W] with about `CHUNK_SAMPLES` values each, a multiple of the threads."""
    threads = torch.get_num_threads()
    step = -(-CHUNK_SAMPLES // max(1, x[:1].numel()) // threads) * threads
    return [slice(i, i + step) for i in range(0, len(x), step)]
