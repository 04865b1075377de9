"""Abstention: cross-entropy, but an even prediction where the hole leaves nothing of the object."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.objectives.registry import objective
from maskrobust.lm_modules.training.training_masks import Learner, PresentedImages


def abstention_loss(logits: Tensor, labels: Tensor, hides_object: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy that asks for an even prediction where nothing of the object is to be seen.

    loss = mean over the batch of CE(logits, labels), or of CE(logits, uniform over the classes) where `hides_object`.

    Args:
        logits: (B, num_classes).
        labels: (B,) int64.
        hides_object: (B,) bool.
        label_smoothing: in [0, 1).

    Returns:
        () loss, at least ln(num_classes) for an image whose object is hidden.
    """
    told = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    even = F.cross_entropy(logits, torch.full_like(logits, 1.0 / logits.shape[1]), reduction="none")
    return torch.where(hides_object, even, told).mean()


@objective("abstention")
def abstention_step(learner: Learner, batch: Batch, shown: PresentedImages, label_smoothing: float) -> Tensor:
    """`abstention_loss` of one batch, () float.

    Args:
        learner: gives logits.
        batch: of which the labels count.
        shown: what the learner sees of it.
        label_smoothing: in [0, 1).
    """
    return abstention_loss(learner(shown.images, shown.visible), batch.labels, shown.hides_object, label_smoothing)
