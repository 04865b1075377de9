"""Pictures by which masking methods are centred, taken from a data module."""

from collections.abc import Iterable

from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.centring import BACKGROUNDS
from maskrobust.lm_modules.methods import MaskingMethod, uncentred
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.types import Split


def pictures_to_centre_by(data: AnnotatedDataModule, split: Split, methods: Iterable[MaskingMethod]) -> Tensor | None:
    """Scenes without an object for `lm_modules.centring`, of another split than the images that are asked about.

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
    found = data.empty_scenes("val" if split == "train" else "train", BACKGROUNDS)
    if found is None:
        raise InputError(
            f"'{centred}' takes off what a hole does to pictures without objects, but {type(data).__name__} has none; "
            f"ask under '{uncentred(centred)}' alone, or give data whose empty_scenes returns some."
        )
    return found
