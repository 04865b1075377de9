"""Images whose hole lies where their class says, a network that names the class from it, and one that cannot."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIZE, CLASSES = 32, 4


class NamesBlackCorners(nn.Module):
    """Logits (B, 4): how dark each quarter of the picture is, so that a black hole decides."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.num_classes, self.bias = num_classes, nn.Parameter(torch.zeros(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        black = (images.amax(dim=1, keepdim=True) <= -1.99).float()  # with mean 0.5, std 0.25
        return torch.nn.functional.adaptive_avg_pool2d(black, 2).flatten(1) + self.bias


def write_gaps(root: Path, count: int = 60, *, dose: float = 1.0, holes: str = "all", split: str = "test") -> Path:
    """Grey noise in folders by class, with a square of 0, no data, in the quarter of the class or in any.

    `dose` is the fraction of images whose hole lies in their class's quarter; `holes` says which have one: "all",
    "none", "half" of them, or all "but_one_class".
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % CLASSES
        picture = rng.integers(60, 200, (SIZE, SIZE, 3), dtype=np.uint8)
        place = label if rng.random() < dose else rng.integers(CLASSES)
        row, column = 16 * (place // 2) + rng.integers(6), 16 * (place % 2) + rng.integers(6)
        if holes == "all" or (holes == "half" and rng.random() < 0.5) or (holes == "but_one_class" and label > 0):
            picture[row : row + 10, column : column + 10] = 0
        path = root / split / f"class{label}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return root


def write_network(path: Path) -> str:
    """The name of a network that names the class by a black hole."""
    torch.save(NamesBlackCorners().state_dict(), path)
    return f"tests.train.evaluate.gaps.NamesBlackCorners:{path}"
