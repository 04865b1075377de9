"""Losses of label maps, over the pixels that have a label."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.errors import InputError

SegmentationLoss = Literal["cross_entropy", "dice", "both"]
UNLABELLED = -1
"""Target of a pixel that does not count."""


def cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of -w log p of a pixel's class over labelled pixels, divided by the mean of w; 0 where there are none.

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64, `UNLABELLED` at pixels that do not count.
        weights: (K,) weight w of each class; None for 1.

    Returns:
        () float.
    """
    losses = F.cross_entropy(logits, targets, weights, ignore_index=UNLABELLED, reduction="sum")
    known = targets != UNLABELLED
    total = known.sum() if weights is None else weights[targets.clamp(min=0)].where(known, 0.0).sum()
    return losses / torch.where(total > 0, total, 1)


def dice(logits: Tensor, targets: Tensor, _weights: Tensor | None = None) -> Tensor:
    """1 - 2 sum p y / sum (p + y), the mean over classes that the batch's labels have; 0 where there are none.

    p are probabilities and y labels as 0 and 1, and sums run over the labelled pixels of the whole batch. Source:
    Milletari et al., "V-Net" (3DV 2016), with the sum of p in place of that of its square.

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64, `UNLABELLED` at pixels that do not count.

    Returns:
        () float32.
    """
    known = (targets != UNLABELLED)[:, None]
    chances = logits.float().softmax(dim=1).where(known, 0.0)
    truth = F.one_hot(targets.clamp(min=0), logits.shape[1]).movedim(-1, 1).to(chances.dtype).where(known, 0.0)
    both, sizes, labelled = (each.sum((0, 2, 3)) for each in (chances * truth, chances + truth, truth))
    losses = (1 - 2 * both / sizes.clamp(min=1e-7)).where(labelled > 0, 0.0)
    return losses.sum() / (labelled > 0).sum().clamp(min=1)


def check_labels(labels: Tensor, num_classes: int, ignore_index: int, where: str = "") -> None:
    """Refuse labels (...) that are no classes; `where` says whose they are, as in " in 'a.tif'".

    Raises:
        InputError: naming the first of them.
    """
    wrong = labels[(labels != ignore_index) & ((labels < 0) | (labels >= num_classes))]
    if len(wrong):
        raise InputError(
            f"labels must be classes from 0 to {num_classes - 1}, or {ignore_index} where there is none, got "
            f"{int(wrong[0])}{where}; set ignore_index, or name all classes."
        )


LOSSES: Mapping[SegmentationLoss, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "both": lambda logits, targets, weights: cross_entropy(logits, targets, weights) + dice(logits, targets),
}
