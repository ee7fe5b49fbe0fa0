"""C3D (Tran et al., ICCV 2015): eight 3x3x3 convolutions and two hidden layers, on 16 frames of 112 x 112 pixels.

Tensors have the names of the common PyTorch files of its Sports-1M weights: conv1, conv2, conv3a ... conv5b, fc6 to
fc8. Those weights expect values of 0 to 255 less the mean image, with the channels in the order blue, green, red.
"""

from __future__ import annotations

from torch import Tensor, nn

FRAMES, SIDE = 16, 112
# Channels in units of the width; where a letter ends, or there is none, pooling follows.
CONVS = {"1": 1, "2": 2, "3a": 4, "3b": 4, "4a": 8, "4b": 8, "5a": 8, "5b": 8}
DROPOUT = 0.5


class C3D(nn.Module):
    """Clips [N, 3, frames, side, side] -> class logits [N, classes].

    width: channels of the first convolution, the paper's 64. hidden: width of the two hidden layers, the paper's 4096.
    ValueError: fewer than 16 frames or pixels.
    """

    def __init__(self, classes: int, width: int = 64, hidden: int = 4096, frames: int = FRAMES, side: int = SIDE):
        super().__init__()
        if min(frames, side) < 16:
            raise ValueError(f"{frames} frames of {side} pixels: expected at least 16 of each")
        inputs = 3
        for name, factor in CONVS.items():
            setattr(self, f"conv{name}", nn.Conv3d(inputs, factor * width, 3, padding=1))
            inputs = factor * width
        # Four times halved, and padded before the last time: of 112 pixels 4 cells are left.
        cells = (side // 16) // 2 + 1
        self.fc6 = nn.Linear(8 * width * (frames // 16) * cells * cells, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)
        self.relu, self.dropout = nn.ReLU(), nn.Dropout(DROPOUT)
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.pool = nn.MaxPool3d(2)
        self.pool5 = nn.MaxPool3d(2, padding=(0, 1, 1))
        # Without BatchNorm, PyTorch's usual weights would let the signal fade from layer to layer.
        for layer in self.children():
            if isinstance(layer, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, clips: Tensor) -> Tensor:
        x = clips
        for name in CONVS:
            x = self.relu(getattr(self, f"conv{name}")(x))
            if not name.endswith("a"):
                pool = {"1": self.pool1, "5b": self.pool5}.get(name, self.pool)
                x = pool(x)
        x = self.dropout(self.relu(self.fc6(x.flatten(1))))
        x = self.dropout(self.relu(self.fc7(x)))
        return self.fc8(x)
