"""R(2+1)D-18 (Tran et al., CVPR 2018): each 3-d convolution is one over space, then one over time.

The parameters are those of torchvision's `r2plus1d_18`, so that its state dicts, of Kinetics for instance, load by
name.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

# Frames, and their side in pixels, that torchvision's weights were trained on, and its mean and deviation of RGB.
FRAMES, SIDE = 16, 112
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


class FactorizedConv(nn.Sequential):
    """[N, C, T, H, W]: a 1x3x3 convolution to `middle` channels, BatchNorm, ReLU, and one of 3x1x1."""

    def __init__(self, inputs: int, outputs: int, middle: int, stride: int = 1):
        super().__init__(
            nn.Conv3d(inputs, middle, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
        )


class Block(nn.Module):
    """Two factorized convolutions with a residual. `middle` channels give as many weights as 3x3x3 ones have."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        middle = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)
        first = FactorizedConv(inputs, outputs, middle, stride)
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(FactorizedConv(outputs, outputs, middle), nn.BatchNorm3d(outputs))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv3d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.conv2(self.conv1(x)) + shortcut)


class R2Plus1D(nn.Module):
    """Clips [N, 3, T, H, W], RGB normalized by MEAN and STD -> class logits [N, classes].

    width: channels of the first layers; 64 is torchvision's. blocks: of each of the four layers.
    """

    def __init__(self, classes: int, width: int = 64, blocks: Sequence[int] = (2, 2, 2, 2)):
        super().__init__()
        middle = 45 * width // 64
        self.stem = nn.Sequential(
            nn.Conv3d(3, middle, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(middle),
            nn.ReLU(inplace=True),
            nn.Conv3d(middle, width, (3, 1, 1), 1, (1, 0, 0), bias=False),
            nn.BatchNorm3d(width),
            nn.ReLU(inplace=True),
        )
        self.layer1 = _layer(width, width, blocks[0], 1)
        self.layer2 = _layer(width, 2 * width, blocks[1], 2)
        self.layer3 = _layer(2 * width, 4 * width, blocks[2], 2)
        self.layer4 = _layer(4 * width, 8 * width, blocks[3], 2)
        self.fc = nn.Linear(8 * width, classes)

    def features(self, clips: Tensor) -> Tensor:
        """[N, 8 width], what the last layer reads: the mean over time and space."""
        x = self.stem(clips)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3, 4))

    def forward(self, clips: Tensor) -> Tensor:
        return self.fc(self.features(clips))


def _layer(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = Block(inputs, outputs, stride)
    return nn.Sequential(first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))
