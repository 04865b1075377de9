"""The holes of training images: from names and numbers in a configuration to a mask family."""

from collections.abc import Iterable
from functools import partial
from typing import Literal, Protocol, assert_never, runtime_checkable

import torch

from augment import Batch, MaskFamily, SilhouetteBank, patches, rectangles, silhouettes

MaskFamilyName = Literal["patches", "rectangles", "silhouettes"]


@runtime_checkable
class SilhouetteSource(Protocol):
    """A data module whose training objects can lend their silhouettes."""

    def training_batches(self) -> Iterable[Batch]:
        """Batches of the training split in a fixed order, without augmentation."""


def build_mask_family(
    name: MaskFamilyName,
    *,
    hidden_fraction: tuple[float, float],
    patch_size: int,
    silhouette_source: object,
    device: torch.device,
) -> MaskFamily:
    """A mask family by name.

    Args:
        name: "patches", "rectangles" or "silhouettes".
        hidden_fraction: (low, high) share of the image hidden by patches and rectangles.
        patch_size: side of a patch in pixels.
        silhouette_source: a `SilhouetteSource`; anything where the family is not "silhouettes".
        device: of the keys that the family will be called with.

    Raises:
        ValueError: silhouettes are asked for and the source has none to give.
    """
    match name:
        case "patches":
            return partial(patches, hidden_fraction=hidden_fraction, patch_size=patch_size)
        case "rectangles":
            return partial(rectangles, hidden_fraction=hidden_fraction)
        case "silhouettes":
            return partial(silhouettes, bank=_silhouette_bank(silhouette_source, device))
        case _:
            assert_never(name)


def _silhouette_bank(source: object, device: torch.device) -> SilhouetteBank:
    if not isinstance(source, SilhouetteSource):
        raise ValueError(
            "mask_family 'silhouettes' needs a data module with training_batches() to take silhouettes from, got "
            f"{type(source).__name__}; train with one of train.data, or choose another mask family."
        )
    return SilhouetteBank.from_batches(source.training_batches()).to(device)
