"""How a fill gets its name, and how it is drawn by that name."""

from collections.abc import Callable, Sequence

from torch import Tensor

from maskrobust.augment.registry import AnyFunction, Check, Entry, FunctionRegistry

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
    configuration files. It returns the images with something in the hole; end it in
    `maskrobust.augment.fills.drawing.draw`, which keeps visible pixels bit for bit.

    Args:
        name: a Python identifier, under which configuration files and commands know the fill.
        looks_into_hole: whether the result depends on what was hidden.
        on_cpu: whether it works on the CPU, image by image; a training then has its loader processes draw it.
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
        name: one of `FILLS`.
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
