"""Pictures of what a network is shown in place of images: in training, and where their object is hidden."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import make_grid

from maskrobust.augment import Batch, fold_in, object_holes, sample_keys
from maskrobust.lm_modules.methods import MaskingMethod, illustrate, mark_hidden
from maskrobust.lm_modules.reliance.holes.conditions import FILL_STREAM, HOLE_STREAM


def draw_panel(batch: Batch, methods: Sequence[MaskingMethod], mean: Sequence[float], seed: int) -> Tensor:
    """Images, and beside each what `illustrate` shows of it with its object hidden along the outline.

    Args:
        batch: a row for each of its images.
        methods: a column for each, after that of the images.
        mean: C values, for the fill "mean".
        seed: of the suite, which then hides the very same pixels and draws the very same fills.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    keys = sample_keys(seed, batch.ids)
    visible = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask).silhouette_visible
    fill_keys = fold_in(keys, FILL_STREAM)
    shown = [illustrate(method, batch.images, visible, fill_keys, mean) for method in methods]
    return draw_grid(torch.stack([batch.images, *shown], dim=1).flatten(0, 1), columns=1 + len(shown))


def draw_training_panel(images: Tensor, presented: Tensor, visible: Tensor | None) -> Tensor:
    """Training images, and below each what the training step makes of it; `mark_hidden` marks what layer masking hides.

    Args:
        images: (B, C, H, W) float in [0, 1], a column for each.
        presented: (B, C, H, W), the images that are given to the network.
        visible: (B, 1, H, W) bool, what layer masking shows of them; None for all.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    shown = presented if visible is None else mark_hidden(presented, visible)
    return draw_grid(torch.cat([images, shown]), columns=len(images))


def draw_grid(cells: Tensor, columns: int) -> Tensor:
    """Pictures (N, 3, H, W) in [0, 1] in rows of so many columns, with white lines between: (3, height, width)."""
    grid: Tensor = make_grid(cells.float().cpu(), nrow=columns, pad_value=1.0)
    return grid
