"""Did each training work? Every network under the masks of every training."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.training_masks import PresentedImages
from maskrobust.train.claim.config import ClaimConfig

CHECK_IMAGES = 256
"""How many images of the measured split, from its first on, each check asks a network about."""


def check_in_words(model: Mapping[str, Any]) -> str:
    """The quantity that is measured for a training with these arguments of `MaskRobustClassifier`."""
    if model["objective"] == "consistency":
        return "Same answer behind its training masks as with nothing hidden"
    if model["objective"] == "abstention":
        return "Entropy of the prediction where the object is hidden by a decoy, of the largest possible"
    if model["worst_of"] > 1:
        return f"Accuracy behind the worst of {model['worst_of']} of its training masks"
    return "Accuracy behind its training masks"


def manipulation_check(config: ClaimConfig, classifier: MaskRobustClassifier, few: Batch) -> dict[str, float | None]:
    """How well a network does in the task of each arm's training, in [0, 1]; see `check_in_words`.

    Every image is masked, by holes that follow from the evaluation's seed and the sample id.

    Args:
        config: the claim, whose data are set up.
        classifier: the network, in eval mode.
        few: images on its device.

    Returns:
        By the name of each arm that trains on masks; None where no image is masked so that it can be told.
    """
    return {arm: _check(config, model, classifier, few) for arm, model in config.manipulation_checks.items()}


def _check(config: ClaimConfig, model: Mapping[str, Any], classifier: MaskRobustClassifier, few: Batch) -> float | None:
    data, masks = config.data, {"mask_probability": 1.0, "mask_ramp": 0.0}
    pupil = MaskRobustClassifier(
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        **{**model, **masks, "seed": config.evaluation.seed, "weights": None},
    )
    pupil.network = classifier.network
    pupil.to(classifier.device).eval()
    pupil.build_masks(data)
    with torch.inference_mode():
        shown = pupil.present(few)
        scores, counted = _scores(pupil, few, shown)
    return scores[counted].double().mean().item() if counted.any() else None


def _scores(pupil: MaskRobustClassifier, few: Batch, shown: PresentedImages) -> tuple[Tensor, Tensor]:
    """A number in [0, 1] for each image, and which of them count: (B,) and (B,) bool."""
    logits = pupil(shown.images, shown.visible)
    if pupil.objective.name == "consistency":
        return logits.argmax(dim=1) == pupil(few.images).argmax(dim=1), shown.is_masked
    if pupil.objective.name == "abstention":
        surprise = torch.special.entr(logits.softmax(dim=1)).sum(dim=1)
        return surprise / math.log(logits.shape[1]), shown.hides_object
    return logits.argmax(dim=1) == few.labels, shown.is_masked
