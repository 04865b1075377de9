"""Training objectives on one batch of logits."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Literal["cross_entropy", "consistency", "abstention", "distillation"]


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


def distillation_loss(logits: Tensor, target_logits: Tensor) -> Tensor:
    """Divergence of a network's answers from those of a teacher, which needs no labels.

    loss = mean over the batch of KL(softmax(target) || softmax(logits)), as in Hinton et al., "Distilling the Knowledge
    in a Neural Network", arXiv 1503.02531, section 2, at temperature 1.

    Args:
        logits: (B, num_classes).
        target_logits: (B, num_classes), the teacher's.

    Returns:
        () loss, at least 0; 0 where both answer alike.
    """
    target = target_logits.detach().log_softmax(dim=1)
    return F.kl_div(logits.log_softmax(dim=1), target, reduction="batchmean", log_target=True)


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partner_labels: Tensor, own_weight: Tensor, label_smoothing: float
) -> Tensor:
    """Cross-entropy of images that show a second image in their hole.

    loss = mean over the batch of w CE(logits, labels) + (1 - w) CE(logits, partner_labels), as in CutMix (Yun et al.,
    ICCV 2019, section 3.1).

    Args:
        logits: (B, num_classes).
        labels: (B,) int64, the image's own.
        partner_labels: (B,) int64, of the image in the hole.
        own_weight: (B,) float w in [0, 1]; 1 gives the ordinary cross-entropy.
        label_smoothing: in [0, 1).

    Returns:
        () loss.
    """
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    other = F.cross_entropy(logits, partner_labels, reduction="none", label_smoothing=label_smoothing)
    return (own_weight * own + (1 - own_weight) * other).mean()


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
