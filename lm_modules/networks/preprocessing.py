"""`Preprocessing`: crop, size and colours that a network expects of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError

IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic"]

_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a picture before a network sees it; it is the same for the picture and for the hole in it.

    Attributes:
        mean: channel means in [0, 1], for normalisation and for the fill "mean".
        std: channel standard deviations, above 0.
        size: height and width in pixels at which the network sees the picture; None for the picture's own.
        crop: fraction in (0, 1] of a photograph, along the side that limits it, that the network's training showed.
            Whoever reads a photograph crops it, as data modules and commands do, or `cut`; a network crops nothing.
        interpolation: the interpolation with which a picture is brought to `size`, with antialiasing.

    Raises:
        InputError: a value leaves its range.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    size: tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("mean", _are_numbers(self.mean) and all(0 <= each <= 1 for each in self.mean), "numbers in [0, 1]"),
            ("std", _are_numbers(self.std) and all(0 < each < inf for each in self.std), "numbers above 0"),
            ("std", len(self.std) == len(self.mean), f"as many numbers as mean, {len(self.mean)}"),
            ("size", self.size is None or _is_size(self.size), f"height and width from 1 to {_LARGEST_SIDE}, or none"),
            ("crop", _is_number(self.crop) and 0 < self.crop <= 1, "a number in (0, 1]"),
            ("interpolation", self.interpolation in get_args(Interpolation), "bilinear or bicubic"),
        ):
            if not holds:
                raise InputError(f"{name} of a preprocessing must be {expected}, got {getattr(self, name)}; change it.")

    def with_changes(self, changes: Mapping[str, Any]) -> "Preprocessing":
        """The same with other values of some attributes, as a user or a file gives them.

        Args:
            changes: by attribute: lists for tuples, and one number for a square `size`.

        Raises:
            InputError: there is no such attribute, or a value leaves its range.
        """
        known = [field.name for field in fields(self)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise InputError(f"a preprocessing has {', '.join(known)}, got '{unknown[0]}'; correct it.")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
        }
        if _is_number(given.get("size")):
            given["size"] = (given["size"], given["size"])
        return replace(self, **given)

    def cut(self, photographs: Tensor) -> Tensor:
        """What the network's training would have shown of whole photographs: a rectangle of the proportions of `size`.

        Args:
            photographs: (B, C, H, W).

        Returns:
            (B, C, H', W') around the same centre, the fraction `crop` of the limiting side.
        """
        return self._centre(photographs, self.crop)

    def _centre(self, pixels: Tensor, fraction: float = 1.0) -> Tensor:
        """The central rectangle of the target's proportions that takes a fraction of the limiting side."""
        if self.size is None and fraction == 1.0:  # whose sizes an export may leave open
            return pixels
        height, width = pixels.shape[2:]
        target_height, target_width = self.size or (height, width)
        scale = fraction * min(height / target_height, width / target_width)
        rows, columns = max(1, round(target_height * scale)), max(1, round(target_width * scale))
        top, left = (height - rows) // 2, (width - columns) // 2
        return pixels[:, :, top : top + rows, left : left + columns]

    def resize(self, images: Tensor) -> Tensor:
        """Pictures without a hole as the network sees them, before normalisation: the part of its proportions, resized.

        Args:
            images: (B, C, H, W) float in [0, 1].

        Returns:
            (B, C, *size) float in [0, 1].
        """
        images = self._centre(images)
        return images if self._fits(images) else self._interpolated(images).clamp(0.0, 1.0)

    def resize_masked(self, images: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures with a hole as the network sees them, before the hole is filled and before normalisation.

        With R the interpolation, a position of the result is visible where R(visible) >= 0.5, and shows
        R(images x visible) / R(visible) there: no hidden pixel has a part in a visible one, and the hole keeps its
        place and its size. A hidden position shows R(images), for fills that look into the hole. A picture of which
        everything is visible is as from `resize`; one that has the size already stays as it is.

        Args:
            images: (B, C, H, W) float in [0, 1]; hidden pixels may hold anything.
            visible: (B, 1, H, W) bool.

        Returns:
            (B, C, *size) float and (B, 1, *size) bool.
        """
        images, visible = self._centre(images), self._centre(visible)
        if self._fits(images):
            return images, visible
        weight = self._interpolated(visible.to(images.dtype))
        still_visible = weight >= 0.5
        weighted = self._interpolated(torch.where(visible, images, 0.0)) / weight.clamp(min=0.5)
        is_whole = visible.flatten(1).all(dim=1)[:, None, None, None]
        shown = torch.where(still_visible & ~is_whole, weighted, self._interpolated(images))
        return shown.clamp(0.0, 1.0), still_visible

    def _fits(self, images: Tensor) -> bool:
        return self.size is None or tuple(images.shape[2:]) == self.size

    def _interpolated(self, pixels: Tensor) -> Tensor:
        """At `size`; one picture that stands for a whole batch (`Tensor.expand`) is interpolated once."""
        different = pixels[:1] if pixels.stride(0) == 0 else pixels
        found = F.interpolate(different, self.size, mode=self.interpolation, antialias=True, align_corners=False)
        return found.expand(len(pixels), -1, -1, -1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_training_view(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Size and crop of the pictures that a checkpoint was trained on; empty where it does not say them.

    Args:
        checkpoint: content of a checkpoint, as the classifier writes it.

    Raises:
        InputError: a value leaves its range.
    """
    found = checkpoint.get("training_view", {})
    view = {name: found[name] for name in ("size", "crop") if isinstance(found, Mapping) and name in found}
    Preprocessing().with_changes(view)
    return view


def read_reading(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """How the data of a training read files, as its checkpoint says; whoever uses a value checks it."""
    found = checkpoint.get("read_as")
    return dict(found) if isinstance(found, Mapping) else {}


def _are_numbers(values: object) -> bool:
    return isinstance(values, tuple) and len(values) > 0 and all(map(_is_number, values))


def _is_size(value: object) -> bool:
    sides = value if isinstance(value, tuple) else ()
    return len(sides) == 2 and all(type(each) is int and 1 <= each <= _LARGEST_SIDE for each in sides)
