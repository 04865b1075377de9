"""A `LightningDataModule` that knows nothing of this package, with what a training asks of its data."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.model_helpers import is_overridden

from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.train.data.base import AnnotatedDataModule, Colour


def described(data: pl.LightningDataModule) -> Any:
    """The data module itself, with the attributes of `AnnotatedDataModule` that a training reads.

    What it does not say is set: class_names from num_classes or the other way round, the splits that have a loader, and
    as mean and std those of the weights that are trained further, or ImageNet's.

    Args:
        data: any; an `AnnotatedDataModule` is returned as it is.

    Raises:
        InputError: it says neither num_classes nor class_names.
    """
    if isinstance(data, AnnotatedDataModule) or hasattr(data, "take_colours"):
        return data
    known: Any = data
    names, number = getattr(known, "class_names", None), getattr(known, "num_classes", None)
    if names is None and number is None:
        raise InputError(
            f"{type(data).__name__} must say how many outputs the network has, but has neither num_classes nor "
            "class_names; set one of these in its __init__."
        )
    known.class_names = tuple(names or map(str, range(int(number or 0))))
    known.num_classes = len(known.class_names)
    known.splits = tuple(split for split in ("train", "val") if is_overridden(f"{split}_dataloader", data))
    is_given = hasattr(known, "mean") and hasattr(known, "std")
    if not is_given:
        known.mean, known.std = IMAGENET_MEAN, IMAGENET_STD

    def take_colours(mean: Colour, std: Colour, source: str) -> None:
        if not is_given:
            rank_zero_info(f"mean colour and standard deviation are those of {source}")
            known.mean, known.std = mean, std

    known.take_colours = take_colours
    return data
