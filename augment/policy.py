"""`RandomMasking`, the augmentation policy: draws whether a training image is masked, with which hole and which fill.

The hole may also show another image of the batch: Patch Mixing, Lee et al., "Hardwiring ViT Patch Selectivity into CNNs
using Patch Mixing" (arXiv 2306.17835). It depends on the batch, so it is no fill by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.families.mask_family import MaskFamily, draw_chosen
from maskrobust.augment.fills.colours import check_mean
from maskrobust.augment.fills.drawing import FILLS, check_pixels, draw
from maskrobust.augment.random import choose, fold_in, uniform
from maskrobust.augment.registry import Choice, Chosen, Entry
from maskrobust.errors import InputError, check_within

IMAGENET_MEAN = (0.485, 0.456, 0.406)
OTHER_IMAGE = "other_image"
"""Patch Mixing as a training's fill: it shows another image of the batch, so that no evaluation can use it."""


def draw_partners(keys: Tensor) -> Tensor:
    """A random partner within the batch for each of its images, never the image itself where there is another.

    Image i gets (i + 1 + floor((B - 1) u_i)) mod B, u_i uniform in [0, 1) from its key: uniform over the other images.

    Args:
        keys: (B,) int64 keys.

    Returns:
        (B,) int64 positions in the batch. Several images may share a partner.
    """
    batch_size = keys.shape[0]
    steps = (uniform(keys).double() * (batch_size - 1)).long() + 1
    return (torch.arange(batch_size, device=keys.device) + steps) % max(batch_size, 1)


def mix_images(images: Tensor, visible: Tensor, partners: Tensor) -> Tensor:
    """Show the partner's image in the hole, at the same place.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        partners: (B,) int64 positions in the batch; see `draw_partners`.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What the partner shows carries no
        gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
    """
    check_pixels(images, visible)
    return draw(images, visible, images.detach()[partners])


def own_weight(visible: Tensor) -> Tensor:
    """The fraction of an image that is still its own, for mixing labels: own_weight own + (1 - own_weight) partner's.

    Args:
        visible: (B, 1, H, W) bool.

    Returns:
        (B,) float32 in [0, 1], the visible fraction of the pixels.
    """
    return visible.float().mean(dim=(1, 2, 3))


_FOR_TRAINING = {OTHER_IMAGE: Entry(OTHER_IMAGE, mix_images, frozenset({"images", "visible", "partners"}), {})}


class MaskedImages(NamedTuple):
    """A batch as the augmentation shows it.

    Attributes:
        images: (B, C, H, W) with filled holes.
        visible: (B, 1, H, W) bool, all True where an image was not masked.
        partners: (B,) int64, position in the batch of the image that fills the hole; the image itself where none does.
        own_weight: (B,) float32, how much an image's own label counts against its partner's; 1 where it has none.
    """

    images: Tensor
    visible: Tensor
    partners: Tensor
    own_weight: Tensor


def read_fills(choice: Choice) -> list[Chosen]:
    """Look the fills of a training up, and check weights and options.

    Args:
        choice: a name of `FILLS`, or "other_image"; or several, with weights and options.

    Raises:
        InputError: a name or an option is unknown, a value is out of its range, or no weight is above 0.
    """
    return FILLS.read(choice, "fill", _FOR_TRAINING)


@dataclass(frozen=True)
class RandomMasking:
    """Mask each image with some probability; give back the filled images and where they may be seen.

    Attributes:
        family: draws the hole, for example ``build_family("patches")``, or a `mixture` of several.
        fill: drawn into hidden pixels, see `read_fills`; of several, each image draws its own by weight.
        probability: chance in [0, 1] that an image is masked at all.
        mean: colour in [0, 1] of the fill "mean", one value for each channel.
        exchange_holes: chance in [0, 1] that the pixels without data of another image of the batch are hidden, too; an
            image of which that would leave nothing keeps to its own.
    """

    family: MaskFamily
    fill: Choice = "black"
    probability: float = 1.0
    mean: Sequence[float] = IMAGENET_MEAN
    exchange_holes: float = 0.0
    _fills: Mapping[str, Chosen] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_within("[0, 1]", "probability", self.probability)
        check_within("[0, 1]", "exchange_holes", self.exchange_holes)
        check_mean(self.mean)
        object.__setattr__(self, "_fills", {each.name: each for each in read_fills(self.fill)})

    def __call__(self, keys: Tensor, batch: Batch, is_filled: Tensor | None = None) -> MaskedImages:
        """Mask a batch.

        An image's hole and fill depend on its key and on the image alone, but for exchanged holes and "other_image": an
        image that is to show another one and has none beside it is not masked.

        Args:
            keys: (B,) int64 keys on the device of the images; see `maskrobust.augment.random`.
            batch: images (B, C, H, W) float in [0, 1], with what the family needs to know of them.
            is_filled: (B,) bool, images whose holes are filled; None for all. The holes of the others are in `visible`
                alone.

        Raises:
            InputError: the images have pixels without data, and the fill "other_image" would show those of another one.
        """
        if batch.visible is not None and OTHER_IMAGE in self._fills:
            raise InputError(
                f"fill '{OTHER_IMAGE}' shows pieces of other images, but these have pixels without data; choose "
                "another fill, or masking 'layer_masking'."
            )
        visible = self.draw_visible(keys, batch)
        chosen = choose(fold_in(keys, 3), [each.weight for each in self._fills.values()])
        fill_keys = fold_in(keys, 2)
        itself = torch.arange(len(keys), device=keys.device)
        not_filled = torch.zeros_like(visible) if is_filled is None else ~is_filled[:, None, None, None]
        if OTHER_IMAGE not in self._fills:
            images = self._fill(batch.images, visible | not_filled, fill_keys, chosen)
            return MaskedImages(images, visible, itself, torch.ones(len(keys), device=keys.device))
        to_mix, others = chosen == list(self._fills).index(OTHER_IMAGE), draw_partners(fill_keys)
        visible = visible | (to_mix & (others == itself))[:, None, None, None]
        to_fill = visible | not_filled
        partners = torch.where(to_mix & ~to_fill.flatten(1).all(dim=1), others, itself)
        images = self._fill(mix_images(batch.images, to_fill, partners), to_fill, fill_keys, chosen)
        return MaskedImages(images, visible, partners, own_weight(visible).where(partners != itself, 1.0))

    def draw_visible(self, keys: Tensor, batch: Batch) -> Tensor:
        """Only the holes, with pixels without data: `visible` (B, 1, H, W) bool for the same arguments as in a call."""
        hole_keys = fold_in(keys, 1)
        if self.probability == 1:
            visible = self.family(hole_keys, batch)
        else:
            is_masked = uniform(fold_in(keys, 0)) < self.probability
            everything = torch.ones(len(keys), 1, *batch.images.shape[2:], dtype=torch.bool, device=keys.device)
            visible = draw_chosen(everything, is_masked, self.family, hole_keys, batch)
        return visible if batch.visible is None else visible & self._known(keys, batch.visible)

    def _known(self, keys: Tensor, visible: Tensor) -> Tensor:
        """Which pixels hold data, (B, 1, H, W) bool, in the image and in another one where holes are exchanged."""
        if self.exchange_holes == 0:
            return visible
        both = visible & visible[draw_partners(fold_in(keys, 6))]
        is_given = (uniform(fold_in(keys, 5)) < self.exchange_holes) & both.flatten(1).any(dim=1)
        return torch.where(is_given[:, None, None, None], both, visible)

    def _fill(self, images: Tensor, visible: Tensor, keys: Tensor, chosen: Tensor) -> Tensor:
        """Draw the fills by name; those that chose "other_image" are mixed already."""
        if len(self._fills) == 1:  # nothing to sort the images by
            (only,) = self._fills
            return images if only == OTHER_IMAGE else self._draw(only, images, visible, keys)
        filled = images.clone()
        for position, name in enumerate(self._fills):
            rows = (chosen == position).nonzero().squeeze(1)
            if name != OTHER_IMAGE and len(rows):
                filled[rows] = self._draw(name, images[rows], visible[rows], keys[rows])
        return filled

    def _draw(self, name: str, images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        inputs = {"images": images, "visible": visible, "keys": keys, "mean": self.mean}
        return self._fills[name].entry.call(inputs, self._fills[name].options)
