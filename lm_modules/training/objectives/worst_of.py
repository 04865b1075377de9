"""Worst of several holes: one round of a greedy search for the masks under which a network is most wrong."""

from collections.abc import Sequence
from itertools import starmap

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.training.presented_images import Learner, PresentedImages


@torch.no_grad()
def worst_presented(learner: Learner, candidates: Sequence[PresentedImages], labels: Tensor) -> PresentedImages:
    """Of several holes of each image the one behind which a network is most wrong; the first of equal ones.

    Source: Saha et al., "Revisiting Image Classifier Training for Improved Certified Robust Defense against Adversarial
    Patches", arXiv 2306.12610.

    Args:
        learner: gives logits, by which the cross-entropy of each image is computed.
        candidates: the same images behind one hole each, at least one; all mask the same images.
        labels: (B,) int64.
    """
    rows, image = candidates[0].is_masked.nonzero().squeeze(1), torch.arange(len(labels), device=labels.device)
    worst = torch.zeros_like(image)
    losses = [
        F.cross_entropy(
            learner(each.images[rows], None if each.visible is None else each.visible[rows]),
            labels[rows],
            reduction="none",
        )
        for each in candidates
    ]
    worst[rows] = torch.stack(losses).argmax(dim=0)

    def chosen(*values: Tensor) -> Tensor:
        return torch.stack(values)[worst, image]

    visible = [each.visible for each in candidates if each.visible is not None]
    others = zip(*((each.partners, each.own_weight, each.kept) for each in candidates), strict=True)
    partners, own_weight, kept = starmap(chosen, others)
    return PresentedImages(
        chosen(*(each.images for each in candidates)),
        chosen(*visible) if visible else None,
        partners,
        own_weight,
        kept,
        candidates[0].object_mask,
    )
