"""How much of a box is visible, and which anchors belong to each image alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from maskrobust.lm_modules.masking.layer_masking import MaskedMap

_TOLERANCE = 1e-6


def visible_fraction(boxes: Tensor, visible: Tensor) -> Tensor:
    """The visible fraction of the area of boxes, as far as they lie within the image.

    Exact for corners between pixels, too: an integral image is bilinear within each pixel.

    Args:
        boxes: (N, 4) float, (x1, y1, x2, y2) in pixels.
        visible: (1, H, W) bool.

    Returns:
        (N,) float64 in [0, 1]; 1 for a box of which nothing lies within the image.
    """
    height, width = visible.shape[1:]
    sums = F.pad(visible[0].double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x1, x2 = (boxes[:, at].clamp(0, width).double() for at in (0, 2))
    y1, y2 = (boxes[:, at].clamp(0, height).double() for at in (1, 3))

    def up_to(x: Tensor, y: Tensor) -> Tensor:
        column, row = x.long().clamp(max=width - 1), y.long().clamp(max=height - 1)
        above, below = (torch.lerp(sums[at, column], sums[at, column + 1], x - column) for at in (row, row + 1))
        return torch.lerp(above, below, y - row)

    area = (x2 - x1) * (y2 - y1)
    shown = up_to(x2, y2) - up_to(x1, y2) - up_to(x2, y1) + up_to(x1, y1)
    return torch.where(area > 0, shown / area.clamp(min=1e-9), 1.0)


def is_visible(boxes: Tensor, visible: Tensor, min_visible: float) -> Tensor:
    """Boxes of which something is visible, and at least the fraction `min_visible`.

    Args:
        boxes: (N, 4) float.
        visible: (1, H, W) bool.
        min_visible: in [0, 1].

    Returns:
        (N,) bool.
    """
    return is_enough(visible_fraction(boxes.detach(), visible), min_visible)


def is_enough(fraction: Tensor, min_visible: float) -> Tensor:
    """Where a visible fraction, float64 of any shape, is more than 0, and at least `min_visible`, but for rounding."""
    return (fraction > _TOLERANCE) & (fraction >= min_visible - _TOLERANCE)


def anchors_of_each(generator: nn.Module, batch: ImageList, sizes: Tensor, maps: list[MaskedMap]) -> list[Tensor]:
    """Anchors of each image as if it were alone, laid out as those of the batch.

    The strides of torchvision's anchors depend on the canvas: a map of 3 positions has a stride of 53 on 160 pixels.

    Args:
        generator: of the detector.
        batch: the transformed images on their canvas.
        sizes: (B, 2) int64, the canvas that each image has alone.
        maps: one for each level.

    Returns:
        For each image (N, 4) float; those beyond the image mean nothing.
    """
    features = [each.features for each in maps]
    anchors: list[Tensor] = generator(batch, features)
    if not isinstance(generator, AnchorGenerator):  # SSD's depend on the size of the image alone, which is fixed
        return anchors
    counts = generator.num_anchors_per_location()
    for index, own in enumerate(sizes.tolist()):
        if own == [*batch.tensors.shape[2:]]:
            continue
        extents = [each.sizes[index].tolist() for each in maps]
        alone = [x[:1, :, :height, :width] for x, (height, width) in zip(features, extents, strict=True)]
        canvas = ImageList(batch.tensors[:1, :, : own[0], : own[1]], [batch.image_sizes[index]])
        lengths = [height * width * count for (height, width), count in zip(extents, counts, strict=True)]
        levels = generator(canvas, alone)[0].split(lengths)
        placed = []
        for x, level, (height, width), count in zip(features, levels, extents, counts, strict=True):
            grid = level.new_tensor([0.0, 0.0, 1.0, 1.0]).repeat(*x.shape[2:], count, 1)
            grid[:height, :width] = level.view(height, width, count, 4)
            placed.append(grid.view(-1, 4))
        anchors[index] = torch.cat(placed)
    return anchors
