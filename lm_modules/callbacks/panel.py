"""A picture of what a network is shown in place of images whose object is hidden."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import make_grid

from augment import Batch, apply_fill, fold_in, object_holes, sample_keys
from lm_modules.methods import MaskingMethod
from lm_modules.reliance import FILL_STREAM, HOLE_STREAM


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
            columns.append(torch.where(visible, batch.images, 0.5))
        else:
            columns.append(apply_fill(method, batch.images, visible, keys=fill_keys, mean=mean))
    cells = torch.stack(columns, dim=1).flatten(0, 1)
    grid: Tensor = make_grid(cells.float().cpu(), nrow=len(columns), pad_value=1.0)
    return grid
