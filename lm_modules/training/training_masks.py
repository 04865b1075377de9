"""Draw the masks of training images, as a configuration describes them.

That is images with filled holes, or with holes that layer masking ignores.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from maskrobust.augment import (
    FILLS,
    OTHER_IMAGE,
    Batch,
    Choice,
    FillName,
    RandomMasking,
    SilhouetteBank,
    build_family,
    family_needs,
    fold_in,
    read_families,
    read_fills,
    sample_keys,
    uniform,
)
from maskrobust.augment.batch import in_unit_range
from maskrobust.augment.families.bank import one_object_each
from maskrobust.errors import InputError

TrainingMasking = Literal["none", "fill", "layer_masking", "mixture"]
BY_LAYER_MASKING: tuple[TrainingMasking, ...] = ("layer_masking", "mixture")
"""Those under which layer masking hides pixels, of all images or of some."""

Learner = Callable[[Tensor, Tensor | None], Tensor]
"""(images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool or None) -> logits (B, num_classes)."""

_LOOKED_AT = 64
"""Training images of which one must have a hole, where these are to be exchanged."""

_PRESENTATION_STREAM = 4  # of a sample's key; the policy draws from streams 0 to 3, 5 and 6


@runtime_checkable
class SilhouetteSource(Protocol):
    """A data module whose training objects can lend their silhouettes."""

    def annotated_batches(self, split: Literal["train"]) -> Iterable[Batch]:
        """Batches that hold every object mask of the training split, without augmentation."""


@runtime_checkable
class ImageSource(Protocol):
    """A data module that shows a few of its images."""

    def some_images(self, split: Literal["train"], count: int) -> Iterable[Batch]:
        """Batches of up to so many images of a split, in the view of evaluation."""


@runtime_checkable
class SceneSource(Protocol):
    """A data module that may know its pictures without their objects."""

    def without_object(self, split: str, ids: Tensor) -> Tensor | None:
        """Pictures (N, C, H, W) in [0, 1] of samples (N,), on the CPU, of a split; None where there are none."""


def build_masking(arguments: Mapping[str, Any], source: object, device: torch.device) -> RandomMasking:
    """The mask policy of a training.

    Args:
        arguments: mask_family, hidden_fraction, patch_size, mask_probability, fill, mean and, where there is one,
            exchange_holes, as of `MaskRobustClassifier`.
        source: a `SilhouetteSource`; anything where no family draws silhouettes.
        device: device of the keys that the policy will be called with.

    Raises:
        InputError: an argument is out of its range, silhouettes are asked for and the source has none to give,
            `check_objects` refuses data whose objects are to be hidden, or `check_holes` data whose holes are to be
            exchanged.
    """
    mask_family, (low, high) = arguments["mask_family"], arguments["hidden_fraction"]
    bank = build_silhouette_bank(mask_family, source, device)
    if "object_mask" in family_needs(mask_family):
        check_objects(source, "a mask family that hides the image's own object")
    family = build_family(mask_family, hidden_fraction=(low, high), patch_size=int(arguments["patch_size"]), bank=bank)
    if arguments.get("exchange_holes", 0.0) > 0:
        check_holes(source)
    probability, exchanged = float(arguments["mask_probability"]), float(arguments.get("exchange_holes", 0.0))
    return RandomMasking(family, arguments["fill"], probability, tuple(arguments["mean"]), exchanged)


def computes_on_cpu(arguments: Mapping[str, Any], masking: TrainingMasking) -> bool:
    """Whether a CPU computes holes or fills of a training, or waits for which images have which of several fills.

    Args:
        arguments: those of `build_masking`.
        masking: how holes are presented; layer masking draws no fill.
    """
    chosen = [each for each in read_families(arguments["mask_family"]) if each.weight > 0]
    fills = [] if masking == "layer_masking" else [each for each in read_fills(arguments["fill"]) if each.weight > 0]
    return len(fills) > 1 or any(each.entry.on_cpu for each in chosen + fills)


def evaluation_fill(fill: Choice) -> FillName:
    """The fill that a network trained with `fill` is validated with: the heaviest that does not depend on the batch.

    Of equal weights the first in `FILLS` counts; "mean" stands in for "other_image" alone. Options that the training
    gives to the fill do not apply.
    """
    order = list(FILLS)
    usable = [each for each in read_fills(fill) if each.weight > 0 and each.name != OTHER_IMAGE]
    usable.sort(key=lambda each: (-each.weight, order.index(each.entry.name)))
    return usable[0].name if usable else "mean"


def build_silhouette_bank(mask_family: Choice, source: object, device: torch.device) -> SilhouetteBank | None:
    """The silhouettes of the training objects; None where no family with a weight above 0 draws from them.

    Args:
        mask_family: see `maskrobust.augment.build_family`.
        source: a `SilhouetteSource`; anything where no family needs it.
        device: device of the keys that the families will be called with.

    Raises:
        InputError: silhouettes are asked for and the source has none to give.
    """
    chosen = [each for each in read_families(mask_family) if each.weight > 0]
    needing = [each.entry.name for each in chosen if "bank" in each.entry.inputs]
    if not needing:
        return None
    if not isinstance(source, SilhouetteSource):
        raise InputError(
            f"mask_family '{needing[0]}' needs a data module with annotated_batches() to take silhouettes from, got "
            f"{type(source).__name__}; train with one of maskrobust.train.data, or choose another mask family."
        )
    object_of = getattr(source, "object_of", one_object_each)
    bank = SilhouetteBank.from_batches(source.annotated_batches("train"), object_of)
    return bank.to(device)


def check_objects(source: object, user: str) -> None:
    """Refuse a training that depends on objects where no training image has an object mask: it would be another one.

    Args:
        source: a `SilhouetteSource`, which is asked; of anything else nothing is known.
        user: what depends on objects, for the message.

    Raises:
        InputError: no training image has an object mask.
    """
    if not isinstance(source, SilhouetteSource):
        return
    with torch.random.fork_rng(devices=[]):  # loaders draw from the generator of the training
        found = any(batch.object_mask.any() for batch in source.annotated_batches("train"))
    if not found:
        raise InputError(
            f"{user} needs object masks, but no training image has one; give masks, as with --data.mask_root for a "
            "Folder, or train without."
        )


def check_holes(source: object) -> None:
    """Refuse to exchange holes where the training images have none.

    Args:
        source: an `ImageSource`, of which a few images are looked at; of anything else nothing is known.

    Raises:
        InputError: no image says which of its pixels hold data.
    """
    if not isinstance(source, ImageSource):
        return
    with torch.random.fork_rng(devices=[]):
        found = any(batch.visible is not None for batch in source.some_images("train", _LOOKED_AT))
    if not found:
        raise InputError(
            "exchange_holes needs training images with holes of their own, but these have none; say which pixels hold "
            "no data, as with --data.visible of a Folder, or leave it out."
        )


class PresentedImages(NamedTuple):
    """What a network sees of a batch in training, and what it is to say.

    Attributes:
        images: (B, C, H, W).
        visible: (B, 1, H, W) bool for layer masking; None where everything is to be seen.
        partners: (B,) int64, the image of the batch whose label counts for the rest; the image itself where none.
        own_weight: (B,) float in [0, 1], weight of the image's own label.
        kept: (B, 1, H, W) bool, False in the hole, however it is presented.
        object_mask: (B, 1, H, W) bool, True on the image's object.
    """

    images: Tensor
    visible: Tensor | None
    partners: Tensor
    own_weight: Tensor
    kept: Tensor
    object_mask: Tensor

    def to(self, device: torch.device) -> "PresentedImages":
        """The same on a device, with images in [0, 1], as `Batch.to`."""
        there = partial(Tensor.to, device=device, non_blocking=device.type != "cpu")
        moved = PresentedImages._make(None if each is None else there(each) for each in self)
        return moved._replace(images=in_unit_range(moved.images))

    @property
    def is_masked(self) -> Tensor:
        """(B,) bool, whether anything is hidden."""
        return ~self.kept.flatten(1).all(dim=1)

    @property
    def hides_object(self) -> Tensor:
        """(B,) bool, whether the image has an object, and the hole leaves nothing of it."""
        left = (self.object_mask & self.kept).flatten(1).any(dim=1)
        return self.object_mask.flatten(1).any(dim=1) & ~left


def present_whole(batch: Batch) -> PresentedImages:
    """A batch of which nothing is hidden."""
    everything = torch.ones_like(batch.object_mask)
    return PresentedImages(batch.images, None, *_unmixed(batch.ids), everything, batch.object_mask)


def present_masked(masks: RandomMasking, masking: TrainingMasking, keys: Tensor, batch: Batch) -> PresentedImages:
    """A batch with one of the holes that its keys draw.

    Args:
        masks: draws the holes and their fills.
        masking: "fill", "layer_masking", or "mixture": each image one of these two, evenly.
        keys: (B,) int64 keys.
        batch: B samples.
    """
    if masking == "layer_masking":
        visible = masks.draw_visible(keys, batch)
        return PresentedImages(batch.images, visible, *_unmixed(keys), visible, batch.object_mask)
    by_fill = None if masking == "fill" else uniform(fold_in(keys, _PRESENTATION_STREAM)) < 0.5
    images, hole, partners, own_weight = masks(keys, batch, by_fill)
    shown = None if by_fill is None else hole | by_fill[:, None, None, None]
    return PresentedImages(images, shown, partners, own_weight, hole, batch.object_mask)


class PresentedBatch(NamedTuple):
    """A batch as a loader yields it that draws holes.

    Attributes:
        batch: what was loaded.
        shown: what the network sees of it.
    """

    batch: Batch
    shown: PresentedImages


@dataclass(frozen=True)
class DrawsInLoader:
    """Draws the holes of batches where they are loaded; each follows from (seed, sample id, epoch) alone.

    Attributes:
        masks: the policy, whose inputs are on the CPU. Fills of uint8 images are rounded to their steps of 1/255.
        masking: as of `present_masked`.
        seed: seed of the holes.
        epoch: () int64 in shared memory, so that loader processes that stay see it change.
    """

    masks: RandomMasking
    masking: TrainingMasking
    seed: int
    epoch: Tensor

    def __call__(self, batch: Batch) -> PresentedBatch:
        """A batch with the holes that it has in this epoch."""
        keys = fold_in(sample_keys(self.seed, batch.ids), int(self.epoch))
        return PresentedBatch(batch, present_masked(self.masks, self.masking, keys, batch))


def _unmixed(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The partners and weights of (B,) images that show no other one."""
    return torch.arange(len(ids), device=ids.device), torch.ones(len(ids), device=ids.device)
