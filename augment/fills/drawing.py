"""The registry of fills, `apply_fill`, and `draw`, which joins visible pixels and a fill.

Pixels are float in [0, 1] or uint8 in [0, 255]; every fill is computed as numbers in [0, 1].
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from maskrobust.augment.batch import check_visible, farthest_value, in_unit_range
from maskrobust.augment.registry import AnyFunction, Check, Entry, FunctionRegistry
from maskrobust.errors import InputError

FillName = str
"""A name of `FILLS`, or "my_module.my_name" for a fill that a module of the user's own registers."""

FILLS = FunctionRegistry("fill", "fill", Entry, inputs=("images", "visible", "keys", "mean"))
"""The fills by name. Patch Mixing is none of them: it depends on the batch; see `maskrobust.augment.policy`."""


def fill(
    name: str, *, looks_into_hole: bool = False, on_cpu: bool = False, check: Check | None = None
) -> Callable[[AnyFunction], AnyFunction]:
    """Register the decorated function as a fill.

    Its parameters say what it asks for: `images`, (B, C, H, W) float in [0, 1] or uint8; `visible`, (B, 1, H, W) bool;
    `keys`, (B,) int64; `mean`, the dataset's mean colour. Every other parameter needs a default, and is an option in
    configuration files. It returns the images with something in the hole; end it in `draw`, which keeps visible pixels
    bit for bit.

    Args:
        name: a Python identifier, under which configuration files and commands know the fill.
        looks_into_hole: whether the result depends on what was hidden.
        on_cpu: whether a CPU computes it, whatever device the images are on.
        check: raises InputError for options out of their ranges; its parameters name those that it looks at.

    Raises:
        InputError: another fill has the name, or a parameter can neither be filled in nor left out.

    Examples:
        >>> @fill("grey")
        ... def fill_grey(images, visible, *, value: float = 0.5):
        ...     return draw(images, visible, torch.full_like(images, value))
    """
    return FILLS.register(name, check, looks_into_hole=looks_into_hole, on_cpu=on_cpu)


def apply_fill(name: FillName, images: Tensor, visible: Tensor, *, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the fill `name` into hidden pixels.

    What is drawn for an image depends on its key, its pixels and its `visible` alone, not on the rest of the batch.

    Args:
        name: name of the fill, one of `FILLS`.
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys, used by random fills.
        mean: the dataset's mean colour in [0, 1], one value for each channel, used by "mean", and where nothing is
            visible by "image_mean", "linear_imputation", "inpainting" and "exemplar".

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. The gradient with respect to `images` is
        1 where visible and 0 in the hole: what is drawn carries none.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: the name is unknown, or `mean` has not one value for each channel.
    """
    inputs = {"images": images, "visible": visible, "keys": keys, "mean": mean}
    return FILLS.find(name, "fill").call(inputs, {})


def check_pixels(images: Tensor, visible: Tensor) -> None:
    """Refuse what cannot be filled, before anything is computed with it.

    Args:
        images: must be (B, C, H, W), float or uint8.
        visible: must be (B, 1, H, W), bool, on the same device.

    Raises:
        TypeError, InputError: `visible` does not fit `images`; see `maskrobust.augment.check_visible`.
        TypeError: `images` is neither float nor uint8.
        InputError: on a CPU, a visible value of the first image lies beyond -16 or 16: far from [0, 1].
    """
    check_visible(images, visible)
    if not (images.is_floating_point() or images.dtype == torch.uint8):
        raise TypeError(
            f"images must be float in [0, 1] or uint8 in [0, 255], got {images.dtype}; convert them to one of the two."
        )
    if (value := farthest_value(images, visible)) is not None:
        raise InputError(f"images must be float in [0, 1], got a pixel of {value:.4g}; divide bytes by 255.")


def from_pixels(images: Tensor) -> Tensor:
    """Pixels as float32 numbers in [0, 1], or float64 ones where they are float64."""
    numbers = in_unit_range(images)
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def to_pixels(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Float numbers in [0, 1] as pixels: round(255 x), limited to [0, 255], for uint8, the nearest float otherwise."""
    if dtype == torch.uint8:
        return (numbers * 255).round_().clamp_(0, 255).to(torch.uint8)
    return numbers.to(dtype)


def draw(images: Tensor, visible: Tensor, fill: Tensor) -> Tensor:
    """`images` where `visible`, `fill` elsewhere, bit for bit (NaN, -0.0).

    Args:
        images: (B, C, H, W) float or uint8.
        visible: (B, 1, H, W) bool.
        fill: dtype of `images`, broadcastable to their shape; carries no gradient.

    Returns:
        (B, C, H, W), dtype and memory format of `images`. Its gradient is 1 where visible and 0 in the hole.
    """
    return torch.where(visible, images, fill)
