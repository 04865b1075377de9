"""Several mask families as one: each sample draws the family of its hole."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.families.registry import MaskFamily
from maskrobust.augment.random import choose, fold_in


def mixture(families: Sequence[tuple[MaskFamily, float]]) -> MaskFamily:
    """The mask family that draws, for each sample, from one of `families`, chosen by weight. It can be pickled.

    Args:
        families: pairs of a family and its weight, at least 0; the weights need not add up to 1.

    Raises:
        InputError: when drawing: a weight is below 0, or none is above 0.
    """
    return partial(_draw, families=families)


def _draw(keys: Tensor, batch: Batch, *, families: Sequence[tuple[MaskFamily, float]]) -> Tensor:
    chosen = choose(fold_in(keys, 0), [weight for _, weight in families])
    hole_keys = fold_in(keys, 1)
    visible = torch.empty(len(keys), 1, *batch.images.shape[2:], dtype=torch.bool, device=keys.device)
    for position, (family, _) in enumerate(families):
        rows = (chosen == position).nonzero().squeeze(1)
        if len(rows):
            visible[rows] = family(hole_keys[rows], Batch(*(tensor[rows] for tensor in batch)))
    return visible
