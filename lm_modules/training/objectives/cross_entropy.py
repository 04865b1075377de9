"""Cross-entropy on the masked view, whose hole may show a second image."""

import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.objectives.registry import objective
from maskrobust.lm_modules.training.training_masks import Learner, PresentedImages


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


@objective("cross_entropy", needs_holes=False, takes_mixed_labels=True)
def cross_entropy_step(learner: Learner, batch: Batch, shown: PresentedImages, label_smoothing: float) -> Tensor:
    """`mixed_cross_entropy` of one batch, () float.

    Args:
        learner: gives logits.
        batch: of which the labels count.
        shown: what the learner sees of it.
        label_smoothing: in [0, 1).
    """
    logits, partner_labels = learner(shown.images, shown.visible), batch.labels[shown.partners]
    return mixed_cross_entropy(logits, batch.labels, partner_labels, shown.own_weight, label_smoothing)
