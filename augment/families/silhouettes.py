"""Object silhouettes drawn from a bank: holes whose outline is that of a real object."""

from torch import Tensor

from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError


@mask_family("silhouettes")
def silhouettes(keys: Tensor, height: int, width: int, *, bank: SilhouetteBank) -> Tensor:
    """Hide the silhouette of a uniformly drawn object of the bank, where that object stood in its own image.

    The class of the image does not matter, so that outline and class are independent.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels; must be the bank's.
        width: image width in pixels; must be the bank's.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the bank's masks have another size, or no object to draw.
    """
    check_mask_size(bank.object_masks, height, width)
    drawn = (uniform(fold_in(keys, 0)).double() * len(bank)).long()
    return ~bank.object_masks[drawn]


def check_mask_size(object_masks: Tensor, height: int, width: int) -> None:
    """Refuse silhouettes that do not fit the images they are to be drawn for.

    Args:
        object_masks: (N, 1, H, W), a bank's.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        InputError: (H, W) is not (height, width).
    """
    size = tuple(object_masks.shape[2:])
    if size != (height, width):
        raise InputError(
            f"the silhouette bank must hold masks of the images' size {(height, width)}, got {size}; build it from "
            "images of that size."
        )
