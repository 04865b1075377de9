"""Distillation: a frozen network teaches its own masked views, and labels do not count."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.objectives.registry import objective
from maskrobust.lm_modules.training.training_masks import Learner, PresentedImages, SceneSource


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


@objective("distillation")
def distillation_step(
    learner: Learner, batch: Batch, shown: PresentedImages, teacher: Callable[[Tensor], Tensor], source: object
) -> Tensor:
    """`distillation_loss` of one batch, () float.

    Args:
        learner: gives logits.
        batch: what the teacher sees, but for objects of which the hole leaves nothing.
        shown: what the learner sees.
        teacher: the teacher's logits of images in pixel space.
        source: see `shown_to_teacher`.

    Raises:
        InputError: see `shown_to_teacher`.
    """
    logits = learner(shown.images, shown.visible)
    return distillation_loss(logits, teacher(shown_to_teacher(batch, shown.hides_object, source)))


def shown_to_teacher(batch: Batch, hides_object: Tensor, source: object) -> Tensor:
    """What a teacher is shown (B, C, H, W): the images, without the object where the hole leaves nothing of it.

    Args:
        batch: B samples of the training split.
        hides_object: (B,) bool.
        source: a `SceneSource`, such as the data module; anything where nothing is hidden.

    Raises:
        InputError: an object is hidden, and the source has no pictures without objects.
    """
    ids, is_hidden = torch.stack([batch.ids, hides_object]).cpu()  # scenes are drawn on the host, which waits once
    if not is_hidden.any():
        return batch.images
    scenes = source.without_object("train", ids[is_hidden > 0]) if isinstance(source, SceneSource) else None
    if scenes is None:
        raise InputError(
            "objective 'distillation' needs pictures without the objects that a hole leaves nothing of, but "
            f"{type(source).__name__} has none; choose mask families that do not hide objects, or data such as "
            "Cutouts."
        )
    return batch.images.masked_scatter(hides_object[:, None, None, None], scenes.to(batch.images, non_blocking=True))
