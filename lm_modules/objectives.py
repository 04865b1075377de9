"""Training objectives on one batch of logits."""

import torch.nn.functional as F
from torch import Tensor


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
