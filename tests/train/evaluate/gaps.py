"""Images whose hole lies where their class says, a network that names the class from it, and one that cannot."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tests.train.data.layouts import save

SIZE, CLASSES = 32, 4


class NamesBlackCorners(nn.Module):
    """Logits (B, 4): how dark each quarter of the picture is, so that a black hole decides."""

    def __init__(self, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.num_classes, self.bias = num_classes, nn.Parameter(torch.zeros(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        black = (images.amax(dim=1, keepdim=True) <= -1.99).float()  # with mean 0.5, std 0.25
        return torch.nn.functional.adaptive_avg_pool2d(black, 2).flatten(1)[:, : self.num_classes] + self.bias


class NamesBlackHalves(NamesBlackCorners):
    """The same of two classes, (B, 2), by the upper quarters."""

    def __init__(self) -> None:
        super().__init__(2)


def write_gaps(
    root: Path, count: int = 60, *, dose: float = 1.0, holes: str = "all", split: str = "test",
    size: int = SIZE, classes: int = CLASSES,
) -> Path:  # fmt: skip
    """Grey noise in folders by class, with a square of 0, no data, in the quarter of the class or in any.

    `dose` is the fraction of images whose hole lies in their class's quarter; `holes` says which have one: "all",
    "none", "half" of them, or all "but_one_class".
    """
    rng = np.random.default_rng(0)
    for number in range(count):
        label = number % classes
        picture = rng.integers(60, 200, (size, size, 3), dtype=np.uint8)
        place = label if rng.random() < dose else rng.integers(classes)
        row, column = (size // 2 * each + rng.integers(size // 5) for each in divmod(place, 2))
        if holes == "all" or (holes == "half" and rng.random() < 0.5) or (holes == "but_one_class" and label > 0):
            picture[row : row + size // 3, column : column + size // 3] = 0
        path = root / split / f"class{label}" / f"{number}.png"
        save(picture, path)
    return root


def write_network(path: Path, kind: type[NamesBlackCorners] = NamesBlackCorners) -> str:
    """The name of a network that names the class by a black hole."""
    torch.save(kind().state_dict(), path)
    return f"tests.train.evaluate.gaps.{kind.__name__}:{path}"
