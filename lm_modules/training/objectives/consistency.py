"""Consistency: cross-entropy on the clean view, and agreement of the masked view with it (MaskSub)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.objectives.registry import objective
from maskrobust.lm_modules.training.training_masks import Learner, PresentedImages


def consistency_loss(clean_logits: Tensor, masked_logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Cross-entropy on the clean view, plus agreement of the masked view with it.

    loss = CE(clean, labels) + weight x CE(masked, softmax(clean) with its gradient stopped), averaged over the batch.
    Source: Heo et al., "Masking meets Supervision: A Strong Learning Alliance" (MaskSub), CVPR 2025, section 3.

    Args:
        clean_logits: (B, num_classes).
        masked_logits: (B, num_classes), of the same images with a part hidden.
        labels: (B,) int64.
        weight: of the second term, at least 0.

    Returns:
        () loss.
    """
    target = clean_logits.detach().softmax(dim=1)
    return F.cross_entropy(clean_logits, labels) + weight * F.cross_entropy(masked_logits, target)


@objective("consistency")
def consistency_step(learner: Learner, batch: Batch, shown: PresentedImages, consistency_weight: float) -> Tensor:
    """`consistency_loss` of one batch, () float.

    Args:
        learner: gives logits.
        batch: the clean view.
        shown: the masked view.
        consistency_weight: of the agreement, at least 0.
    """
    # Both views in one batch: two forward passes before one backward break DDP with batch norm.
    everything = torch.ones_like(batch.object_mask)
    both_visible = None if shown.visible is None else torch.cat([everything, shown.visible])
    clean, masked = learner(torch.cat([batch.images, shown.images]), both_visible).chunk(2)
    return consistency_loss(clean, masked, batch.labels, consistency_weight)
