"""Pictures without objects of a data module: those that plans ask about, and those by which methods are centred."""

from collections.abc import Iterable

import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import BACKGROUNDS, MaskingMethod, uncentred
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.types import Split


def pictures_to_centre_by(data: AnnotatedDataModule, split: Split, methods: Iterable[MaskingMethod]) -> Tensor | None:
    """Photographs without an object for `methods.centred`, of another split than the images that are asked about.

    Other scenes where the data have no photographs.

    Args:
        data: whose scenes do not wait for `setup`.
        split: of the images.
        methods: masking methods, centred ones among them or not.

    Returns:
        (BACKGROUNDS, 3, H, W) float32 in [0, 1]; None where no method is centred.

    Raises:
        InputError: a method is centred, and the data have no such scenes.
    """
    centred = next((method for method in methods if method != uncentred(method)), None)
    if centred is None:
        return None
    found = data.empty_scenes("val" if split == "train" else "train", len(SCENE_KINDS) * BACKGROUNDS)
    if found is None:
        raise InputError(
            f"'{centred}' takes off what a hole does to pictures without objects, but {type(data).__name__} has none; "
            f"ask under '{uncentred(centred)}' alone, or give data whose empty_scenes returns some."
        )
    photographs = torch.tensor([kind == "photographs" for kind in found.kinds])
    return found.images[photographs if photographs.any() else slice(None)][:BACKGROUNDS]


def scenes_to_ask_about(
    data: AnnotatedDataModule, split: Split, plans: Iterable[ReliancePlan], device: torch.device
) -> EmptyScenes | None:
    """As many scenes without an object as any plan asks about, on a device; None where no plan does or there are none.

    Args:
        data: whose scenes do not wait for `setup`.
        split: of the images.
        plans: what networks are asked.
        device: of the networks.
    """
    count = max(plan.scenes for plan in plans)
    found = data.empty_scenes(split, count) if count else None
    return None if found is None else found._replace(images=found.images.to(device))
