"""A network of a few layers that holds all a training has to keep: batch statistics, and random numbers for dropout."""

from torch import nn


class Tiny(nn.Sequential):
    """Two convolutions, the second of them followed by a mean over all positions, dropout and a linear head."""

    def __init__(self, num_classes: int = 8) -> None:
        super().__init__(
            nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, kernel_size=3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, num_classes),
        )  # fmt: skip
