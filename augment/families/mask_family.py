"""The registry of mask families: the decorator `mask_family`, and building a family by its name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskrobust.augment.batch import LAYOUTS, Batch, check_visible
from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.random import choose, fold_in, uniform
from maskrobust.augment.registry import AnyFunction, Check, Choice, Chosen, Entry, FunctionRegistry
from maskrobust.errors import InputError

FamilyName = str
"""A name of `FAMILIES`, or "my_module.my_name" for a family that a module of the user's own registers."""

FAMILIES = FunctionRegistry(
    "mask family",
    "mask_family",
    Entry,
    inputs=("keys", "batch", "images", "height", "width", "depth", "object_mask", "labels", "ids", "bank"),
    settings=("hidden_fraction", "patch_size"),
)
"""The mask families by name."""


MaskFamily = Callable[[Tensor, Batch], Tensor]
"""(keys (B,) int64 on the device of the images, batch of B samples) -> `visible`, (B, 1, H, W) bool, one hole a key."""


def mask_family(name: str, *, on_cpu: bool = False, check: Check | None = None) -> Callable[[AnyFunction], AnyFunction]:
    """Register the decorated function as a mask family.

    Its parameters say what it asks for: `keys`, (B,) int64; of the batch `images`, `height`, `width`, `object_mask`,
    `labels`, `ids`, or `batch` itself; `bank`, a `SilhouetteBank`; `hidden_fraction`, (low, high); `patch_size`. Every
    other parameter needs a default, and is an option in configuration files. It returns `visible`, (B, 1, H, W) bool.
    A family that asks for `depth`, too, also draws holes of volumes, (B, 1, D, H, W), and of signals, as of images one
    pixel high without a depth; all others are for images.

    A family that asks for `object_mask` is one of the sample's own object: it hides nothing where there is none.

    Args:
        name: a Python identifier, under which configuration files and commands know the family.
        on_cpu: whether a CPU draws it, whatever device the images are on.
        check: raises InputError for options out of their ranges; its parameters name those that it looks at.

    Raises:
        InputError: another family has the name, or a parameter can neither be filled in nor left out.

    Examples:
        >>> @mask_family("stripes")
        ... def stripes(keys, height, width, *, hidden_fraction, period: int = 8):
        ...     fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
        ...     position = torch.arange(width, device=keys.device) % period / period
        ...     return (position >= fraction[:, None])[:, None, None].expand(-1, 1, height, -1)
    """
    return FAMILIES.register(name, check, on_cpu=on_cpu)


def read_families(choice: Choice, option: str = "mask_family") -> list[Chosen]:
    """Look mask families up, and check weights and options.

    Args:
        choice: a name of `FAMILIES`, or names with weights and options.
        option: the option in which it was given, for messages.

    Raises:
        InputError: a name or an option is unknown, a value is out of its range, or no weight is above 0.
    """
    chosen = FAMILIES.read(choice, option)
    for each in chosen:
        if "hidden_fraction" in each.options:
            check_hidden_fraction(each.options["hidden_fraction"])
    return chosen


def family_needs(choice: Choice, option: str = "mask_family") -> frozenset[str]:
    """What the families of a choice ask for that have a weight: "bank", "object_mask", "labels", and other inputs."""
    return frozenset[str]().union(*(each.entry.inputs for each in read_families(choice, option) if each.weight > 0))


def build_family(
    choice: Choice,
    *,
    hidden_fraction: tuple[float, float] = (0.1, 0.9),
    patch_size: int | tuple[int, ...] = 16,
    bank: SilhouetteBank | None = None,
    option: str = "mask_family",
) -> MaskFamily:
    """One mask family, or a mixture of several. It can be pickled.

    Args:
        choice: a name of `FAMILIES`; or several, with weights and options, as in
            ``{"patches": 2.0, "rectangles": {"weight": 1.0, "count": 3}}``. "slic" and "quickshift" segment each image
            on the CPU, all others are batched tensor code on the device of the keys (but for the circles of
            "enclosing_circles").
        hidden_fraction: (low, high) fraction of the image that is hidden, by the families that can choose it.
        patch_size: side of a patch in pixels, or one for each axis, as (height, width).
        bank: where silhouettes are taken from, on the device of the keys.
        option: the option in which the choice was given, for messages.

    Raises:
        InputError: a name or an option is unknown, a bank is needed and not given, or a value is out of its range.
    """
    check_hidden_fraction(hidden_fraction)
    settings = {"hidden_fraction": hidden_fraction, "patch_size": patch_size}
    families = list[tuple[MaskFamily, float]]()
    for _, entry, weight, options in (each for each in read_families(choice, option) if each.weight > 0):
        if "bank" in entry.inputs and not isinstance(bank, SilhouetteBank):
            given = "none" if bank is None else type(bank).__name__
            raise InputError(
                f"mask family '{entry.name}' draws from a SilhouetteBank, got {given}; build one with "
                "SilhouetteBank.from_batches."
            )
        taken = {name: value for name, value in settings.items() if name in entry.options}
        families.append((_Family(entry, {**taken, **options}, bank), weight))
    return families[0][0] if len(families) == 1 else mixture(families)


def mixture(families: Sequence[tuple[MaskFamily, float]]) -> MaskFamily:
    """The mask family that draws, for each sample, from one of `families`, chosen by weight. It can be pickled.

    Args:
        families: pairs of a family and its weight, at least 0; the weights need not add up to 1.

    Raises:
        InputError: when drawing: a weight is below 0, or none is above 0.
    """
    return _Mixture(tuple(families))


def draw_chosen(visible: Tensor, chosen: Tensor, family: MaskFamily, keys: Tensor, batch: Batch) -> Tensor:
    """`visible` with the holes of a family in the place of some of its samples.

    A hole depends on its key and sample alone. A CPU draws those of the chosen samples; an accelerator draws all, for
    the host would have to wait for which they are. A family that a CPU computes waits anyway.

    Args:
        visible: (B, 1, *size) bool; may be changed.
        chosen: (B,) bool.
        family: draws the holes.
        keys: (B,) int64.
        batch: B samples.
    """
    if not _draws_chosen_alone(visible.device, family):
        return torch.where(chosen.reshape(-1, *[1] * (visible.ndim - 1)), family(keys, batch), visible)
    rows = chosen.nonzero().squeeze(1)
    if len(rows):
        visible[rows] = family(keys[rows], batch.select(rows))
    return visible


def _draws_chosen_alone(device: torch.device, family: MaskFamily) -> bool:
    return device.type == "cpu" or getattr(family, "on_cpu", False)


@dataclass(frozen=True)
class _Mixture:
    families: Sequence[tuple[MaskFamily, float]]

    def __call__(self, keys: Tensor, batch: Batch) -> Tensor:
        chosen = choose(fold_in(keys, 0), [weight for _, weight in self.families])
        hole_keys = fold_in(keys, 1)
        visible = torch.empty(len(keys), 1, *batch.images.shape[2:], dtype=torch.bool, device=keys.device)
        for position, (family, _) in enumerate(self.families):
            visible = draw_chosen(visible, chosen == position, family, hole_keys, batch)
        return visible

    @property
    def on_cpu(self) -> bool:
        return any(getattr(family, "on_cpu", False) for family, _ in self.families)


@dataclass(frozen=True)
class _Family:
    """A registered family with its options."""

    entry: Entry
    options: Mapping[str, Any]
    bank: SilhouetteBank | None

    @property
    def on_cpu(self) -> bool:
        return self.entry.on_cpu

    def __call__(self, keys: Tensor, batch: Batch) -> Tensor:
        axes, size = batch.images.ndim, batch.images.shape[2:]
        if axes != 4 and "depth" not in self.entry.inputs:
            raise InputError(
                f"mask family '{self.entry.name}' is for images (B, C, H, W), got shape {tuple(batch.images.shape)}; "
                "choose another family, such as patches."
            )
        depth, height, width = size if axes == 5 else (None, *(1, *size)[-2:])
        given = {"depth": depth, "height": height, "width": width, "bank": self.bank}
        visible = self.entry.call({"keys": keys, "batch": batch, **given, **batch._asdict()}, self.options)
        visible = visible.squeeze(2) if axes == 3 else visible
        check_visible(batch.images, visible, LAYOUTS)
        return visible


def check_hidden_fraction(hidden_fraction: tuple[float, float]) -> None:
    """Refuse a range that is not 0 <= low <= high <= 1.

    Raises:
        InputError: naming the range given.
    """
    is_range = isinstance(hidden_fraction, Sequence) and len(hidden_fraction) == 2
    if not is_range or not 0.0 <= hidden_fraction[0] <= hidden_fraction[1] <= 1.0:
        raise InputError(
            f"hidden_fraction must be a range 0 <= low <= high <= 1, got {hidden_fraction}; give two fractions, such "
            "as [0.5, 0.5] for 50 %."
        )


def draw_hidden_fraction(keys: Tensor, hidden_fraction: tuple[float, float]) -> Tensor:
    """Draw each sample's hidden fraction, uniform over the range.

    Args:
        keys: (B,) int64 keys.
        hidden_fraction: (low, high) within [0, 1]; equal bounds fix the fraction.

    Returns:
        (B,) float32 in [low, high].

    Raises:
        InputError: the range is not 0 <= low <= high <= 1.
    """
    check_hidden_fraction(hidden_fraction)
    low, high = hidden_fraction
    return low + (high - low) * uniform(keys)
