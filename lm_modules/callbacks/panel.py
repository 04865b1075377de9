"""Pictures of what a network is shown in place of images: in training, and where their object is hidden."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import make_grid

from maskrobust.augment import Batch, apply_fill, fold_in, object_holes, sample_keys
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.conditions import FILL_STREAM, HOLE_STREAM


def draw_panel(batch: Batch, methods: Sequence[MaskingMethod], mean: Sequence[float], seed: int) -> Tensor:
    """Images and what stands behind the silhouette hole of each; hidden is grey under layer masking.

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
    columns, fill_keys = [batch.images], fold_in(keys, FILL_STREAM)
    for method in methods:
        if method == "layer_masking":
            columns.append(_with_grey_holes(batch.images, visible))
        else:
            columns.append(apply_fill(method, batch.images, visible, keys=fill_keys, mean=mean))
    return _grid(torch.stack(columns, dim=1).flatten(0, 1), columns=len(columns))


def draw_training_panel(images: Tensor, presented: Tensor, visible: Tensor | None) -> Tensor:
    """Training images, and below each what the training step makes of it; hidden is grey under layer masking.

    Args:
        images: (B, C, H, W) float in [0, 1], a column for each.
        presented: (B, C, H, W), the images that are given to the network.
        visible: (B, 1, H, W) bool, what layer masking shows of them; None for all.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    shown = presented if visible is None else _with_grey_holes(presented, visible)
    return _grid(torch.cat([images, shown]), columns=len(images))


def _with_grey_holes(images: Tensor, visible: Tensor) -> Tensor:
    return torch.where(visible, images, 0.5)


def _grid(cells: Tensor, columns: int) -> Tensor:
    grid: Tensor = make_grid(cells.float().cpu(), nrow=columns, pad_value=1.0)
    return grid
