"""Training objectives (losses): the decorator `objective`, and those that are shipped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.augment.registry import AnyFunction, Entry, FunctionRegistry
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.training_masks import Learner, PresentedImages, SceneSource

INPUTS = ("learner", "batch", "shown", "teacher", "source", "label_smoothing", "class_weights", "consistency_weight")
"""Parameters of an objective that are filled in by name; see `objective`."""


@dataclass(frozen=True)
class Objective(Entry):
    """A registered training objective: its function returns the loss () of one batch.

    Attributes:
        needs_holes: whether it needs images of which something is hidden.
        takes_mixed_labels: whether it takes images whose hole shows another image, with a label of its own.
    """

    needs_holes: bool = True
    takes_mixed_labels: bool = False


OBJECTIVES = FunctionRegistry("objective", "objective", Objective, inputs=INPUTS)
"""The training objectives by name."""


def objective(
    name: str, *, needs_holes: bool = True, takes_mixed_labels: bool = False
) -> Callable[[AnyFunction], AnyFunction]:
    """Register the decorated function as a training objective, for `--model.objective`.

    It returns the loss () of one batch. The help of a shipped one is its docstring. It takes those of these parameters
    that it needs; others need a default, which no option of a training changes.

    - `learner`: (images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool or None) -> logits (B, num_classes); called
      once in a step.
    - `batch`: the `Batch` with nothing hidden; where it has `visible`, pixels without data are black.
    - `shown`: the same images with their holes, as `PresentedImages`.
    - `teacher`: images -> logits of the network as it started out, which stand for the labels in validation, too.
    - `source`: the data module, or None.
    - `label_smoothing`, `consistency_weight`: arguments of the classifier.
    - `class_weights`: (num_classes,), or None.

    Args:
        name: a Python identifier.
        needs_holes: whether it is refused where `masking` is "none".
        takes_mixed_labels: whether the fill "other_image", which mixes two images and their labels, may be used.

    Raises:
        InputError: another objective has the name, a parameter can neither be filled in nor left out, or one is called
            weight.
    """
    return OBJECTIVES.register(name, needs_holes=needs_holes, takes_mixed_labels=takes_mixed_labels)


def mixed_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    partner_labels: Tensor,
    own_weight: Tensor,
    label_smoothing: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of images that show a second image in their hole.

    loss = mean over the batch of w CE(logits, labels) + (1 - w) CE(logits, partner_labels), as in CutMix (Yun et al.,
    ICCV 2019, section 3.1), each CE times the weight of its label.

    Args:
        logits: (B, num_classes).
        labels: (B,) int64, the image's own.
        partner_labels: (B,) int64, of the image in the hole.
        own_weight: (B,) float w in [0, 1]; 1 gives the ordinary cross-entropy.
        label_smoothing: amount of label smoothing, in [0, 1).
        class_weights: (num_classes,); None for 1.

    Returns:
        () loss.
    """
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
    other = F.cross_entropy(logits, partner_labels, reduction="none", label_smoothing=label_smoothing)
    if class_weights is not None:
        own, other = own * class_weights[labels], other * class_weights[partner_labels]
    return (own_weight * own + (1 - own_weight) * other).mean()


@objective("cross_entropy", needs_holes=False, takes_mixed_labels=True)
def cross_entropy_step(
    learner: Learner,
    batch: Batch,
    shown: PresentedImages,
    label_smoothing: float,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy on the masked view (`mixed_cross_entropy`).

    Args:
        learner: gives logits.
        batch: the batch; only its labels count.
        shown: what the learner sees of it.
        label_smoothing: amount of label smoothing, in [0, 1).
        class_weights: (num_classes,); None for 1.
    """
    logits, partner_labels = learner(shown.images, shown.visible), batch.labels[shown.partners]
    labels, own_weight = batch.labels, shown.own_weight
    return mixed_cross_entropy(logits, labels, partner_labels, own_weight, label_smoothing, class_weights)


def check_class_weights(given: Literal["balanced"] | Sequence[float], num_classes: int) -> None:
    """Refuse weights of classes that are not one number above 0 for each.

    Raises:
        InputError: they are not.
    """
    if isinstance(given, str):
        if given != "balanced":
            raise InputError(f"class_weights must be balanced or a number for each class, got '{given}'; correct it.")
    elif len(given) != num_classes or not all(0 < weight < inf for weight in given):
        raise InputError(
            f"class_weights must be {num_classes} numbers above 0, one for each class, got {[*given]}; correct them."
        )


@runtime_checkable
class LabelSource(Protocol):
    """A data module that may know the labels of a split without reading its images."""

    def labels(self, split: Literal["train"]) -> Tensor | None:
        """(N,) int64, one for each image of the split; None where they are not known."""


def build_class_weights(
    given: Literal["balanced"] | Sequence[float] | None, num_classes: int, source: object
) -> Tensor | None:
    """The weights of classes in a loss, (num_classes,) float32; None to weigh images alike.

    Args:
        given: the weights; or "balanced" for N / (K n), with n of N training images in a class of K.
        num_classes: K.
        source: a `LabelSource` for "balanced"; otherwise anything.

    Raises:
        InputError: "balanced" is asked for, and labels are not known, or a class has no image.
    """
    if given is None or not isinstance(given, str):
        return None if given is None else torch.tensor(given, dtype=torch.float32)
    labels = source.labels("train") if isinstance(source, LabelSource) else None
    if labels is None:
        raise InputError(
            f"class_weights 'balanced' needs the labels of all training images, which {type(source).__name__} does not "
            "know ahead; give a number for each class."
        )
    counts = labels.bincount(minlength=num_classes)
    if len(counts) > num_classes or not counts.all():
        raise InputError(
            f"class_weights 'balanced' needs images of every class, got {counts.tolist()} of the {num_classes}; give a "
            "number for each class."
        )
    return len(labels) / (num_classes * counts).float()


def consistency_loss(clean_logits: Tensor, masked_logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Cross-entropy on the clean view, plus agreement of the masked view with it.

    loss = CE(clean, labels) + weight x CE(masked, softmax(clean) with its gradient stopped), averaged over the batch.
    Source: Heo et al., "Masking meets Supervision: A Strong Learning Alliance" (MaskSub), CVPR 2025, section 3.

    Args:
        clean_logits: (B, num_classes).
        masked_logits: (B, num_classes), of the same images with a part hidden.
        labels: (B,) int64.
        weight: weight of the second term, at least 0.

    Returns:
        () loss.
    """
    target = clean_logits.detach().softmax(dim=1)
    return F.cross_entropy(clean_logits, labels) + weight * F.cross_entropy(masked_logits, target)


@objective("consistency")
def consistency_step(learner: Learner, batch: Batch, shown: PresentedImages, consistency_weight: float) -> Tensor:
    """Cross-entropy on the clean view, plus agreement of the masked view with it (`consistency_loss`).

    Args:
        learner: gives logits.
        batch: the clean view.
        shown: the masked view.
        consistency_weight: weight of the agreement in the loss, at least 0.
    """
    # Both views in one batch: two forward passes before one backward break DDP with batch norm.
    everything = torch.ones_like(batch.object_mask)
    both_visible = None if shown.visible is None else torch.cat([everything, shown.visible])
    clean, masked = learner(torch.cat([batch.images, shown.images]), both_visible).chunk(2)
    return consistency_loss(clean, masked, batch.labels, consistency_weight)


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
    """The network as it starts out, frozen, is the teacher of its own masked views (`distillation_loss`).

    Labels do not count, and validation counts answers that are the teacher's. The teacher sees the whole picture, or
    where the hole leaves nothing of the object the picture without it, which the data module must know.

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
        InputError: an object is hidden, and the source has no pictures without their object.
    """
    ids, is_hidden = torch.stack([batch.ids, hides_object]).cpu()  # scenes are drawn on the host, which waits once
    if not is_hidden.any():
        return batch.images
    scenes = source.without_object("train", ids[is_hidden > 0]) if isinstance(source, SceneSource) else None
    if scenes is None:
        raise InputError(
            "objective 'distillation' needs pictures without the objects that a hole leaves nothing of, but "
            f"{type(source).__name__} has none; choose mask families that do not hide objects, or give the data a "
            "method without_object."
        )
    return batch.images.masked_scatter(hides_object[:, None, None, None], scenes.to(batch.images, non_blocking=True))
