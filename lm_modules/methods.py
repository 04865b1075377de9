"""Masking methods: how an image with a hole is presented to a network, by a fill or with the hole itself."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from maskrobust.augment import FILLS, apply_fill
from maskrobust.augment.batch import check_floating, check_visible
from maskrobust.errors import InputError, check_distinct
from maskrobust.lm_modules.masking import LayerMasking, PaddingRule

MaskingMethod = str
"""A name of `augment.FILLS`, "my_module.my_name" for an own fill, or a name of `WRAPPERS`."""

LAYER_MASKING, TOKEN_DROPPING = "layer_masking", "token_dropping"

LAYER_MASKINGS: Mapping[PaddingRule, MaskingMethod] = {
    "mean": LAYER_MASKING,
    "mirror": "layer_masking_mirror",
    "zeros": "layer_masking_zeros",
}
"""Layer masking by its padding."""

_LOWEST, _HIGHEST, _BYTES = -0.5, 1.5, 16
_LIGHT_CELL, _DARK_CELL = 0.82, 0.68
Found = TypeVar("Found")
Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool, keys (B,) int64) -> logits (B, num_classes)."""


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without what makes it take `visible`."""
    return network.network if isinstance(network, LayerMasking) else network


def _with_layer_masking(network: nn.Module, padding: PaddingRule) -> LayerMasking:
    """A network that has layer masking keeps its other options."""
    if isinstance(network, LayerMasking):
        return network.with_padding(padding)
    return LayerMasking(unwrapped(network), padding=padding)


WRAPPERS: dict[MaskingMethod, Callable[[nn.Module], LayerMasking]] = {
    **{method: partial(_with_layer_masking, padding=padding) for padding, method in LAYER_MASKINGS.items()},
    TOKEN_DROPPING: lambda network: LayerMasking(unwrapped(network), partial_patches="hidden"),
}
"""Masking methods that give the hole to the network: what makes a network take `visible` beside the images."""


def masking_methods() -> tuple[MaskingMethod, ...]:
    """Names of all masking methods: every registered fill, and those of `WRAPPERS`."""
    return (*FILLS, *WRAPPERS)


def is_fill(method: MaskingMethod) -> bool:
    """Whether a method fills the hole; those of `WRAPPERS` give it to the network."""
    return method not in WRAPPERS


def check_methods(methods: Sequence[str], option: str) -> None:
    """Refuse an unknown masking method, one that comes twice, or none; the module of one of the user's own is imported.

    Args:
        methods: names of the methods.
        option: the option in which they were given, for messages.

    Raises:
        InputError: a name is unknown, or comes twice, or there is none.
    """
    check_distinct(option, methods)
    for method in methods:
        if method not in WRAPPERS:
            FILLS.find(method, option, besides=tuple(WRAPPERS))


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std, channel by channel.

    Args:
        images: (B, C, *size) float in [0, 1].
        mean: C values.
        std: C values above 0.

    Returns:
        (B, C, *size), dtype and memory format of `images`.

    Raises:
        TypeError: `images` are integers, as a loader yields them.
    """
    check_floating(images)
    by_channel = _by_channel.__wrapped__ if torch.compiler.is_compiling() else _by_channel  # keep no fake tensors
    axes = images.ndim - 2
    shift, scale = (by_channel(tuple(values), axes, images.dtype, images.device) for values in (mean, std))
    return (images - shift).div_(scale)


@lru_cache(maxsize=16)
def _by_channel(values: tuple[float, ...], axes: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(C, 1, 1), as many as there are axes of positions, made once: each copy to an accelerator waits for it."""
    with torch.inference_mode(False):  # the same tensor is for gradients, too
        return torch.tensor(values, dtype=dtype, device=device).reshape(-1, *[1] * axes)


def predictor(
    network: Callable[..., Tensor], method: MaskingMethod, mean: Sequence[float], std: Sequence[float]
) -> Predictor:
    """What a network predicts for images with a hole, under one masking method.

    Args:
        network: takes normalised images; under a method of `WRAPPERS` it is one of these, and takes `visible` as well.
        method: a fill's name, or one of `WRAPPERS`.
        mean: mean of the pixels, for normalisation and for the fill "mean".
        std: standard deviation of the pixels, for normalisation.

    Returns:
        A function of images in pixel space, `visible` and keys (used by random fills). Its first call on a CPU raises
        an InputError where visible pixels lie far from [0, 1], as bytes or normalised ones do; not where `mean` and
        `std` say that pixels are used as they are.

    Raises:
        InputError: the method is unknown; the network is a module that takes no `visible` under a method of `WRAPPERS`;
            or its padding is that of another method of `LAYER_MASKINGS`, or it pads partly hidden patches under
            "token_dropping".
    """
    check_methods((method,), "method")
    if method in WRAPPERS and isinstance(network, nn.Module) and not _takes_visible(network):
        raise InputError(
            f"method '{method}' needs a network that takes images and visible, got {type(network).__name__}, which "
            "takes images alone; wrap it, as in LayerMasking(network)."
        )
    if isinstance(network, LayerMasking) and method in LAYER_MASKINGS.values():
        padding = network.options.padding
        if LAYER_MASKINGS.get(padding, method) != method:
            raise InputError(
                f"method '{method}' needs the padding of its name, got a network with padding '{padding}'; wrap it "
                "anew, or name the other method."
            )

    if method == TOKEN_DROPPING and isinstance(network, LayerMasking) and network.options.partial_patches == "padded":
        raise InputError(f"method '{method}' needs LayerMasking(network, partial_patches='hidden'); wrap it anew.")

    def predict(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        if method in WRAPPERS:
            return network(normalise(images, mean, std), visible)
        filled = apply_fill(method, images, visible, keys=keys, mean=mean)
        return network(normalise(filled, mean, std))

    return checking_pixels(predict, mean, std)


def checking_pixels(
    predict: Callable[[Tensor, Tensor, Tensor], Found], mean: Sequence[float], std: Sequence[float]
) -> Callable[[Tensor, Tensor, Tensor], Found]:
    """The same, which refuses wrong pixels at its first call; see `check_pixels`."""
    is_checked = False

    def checked(images: Tensor, visible: Tensor, keys: Tensor) -> Found:
        nonlocal is_checked
        if not is_checked:
            check_pixels(images, visible, mean, std)
            is_checked = True
        return predict(images, visible, keys)

    return checked


def _takes_visible(network: nn.Module) -> bool:
    try:
        inspect.signature(network.forward).bind(None, None)
    except TypeError:
        return False
    return True


def check_pixels(images: Tensor, visible: Tensor, mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse images of which visible pixels are far from [0, 1], further than resizing overshoots.

    Nothing is looked at in compiled code or on an accelerator, which would wait for it, nor where `mean` and `std` say
    that pixels are used as they are.

    Args:
        images: (B, C, H, W).
        visible: (B, 1, H, W) bool.
        mean: mean of the pixels, for normalisation.
        std: their standard deviation, for normalisation.

    Raises:
        TypeError, InputError: shapes or types do not fit, or the pixels are bytes or normalised.
    """
    is_as_it_is = tuple(mean) == (0.0,) * len(mean) and tuple(std) == (1.0,) * len(std)
    if is_as_it_is or images.device.type != "cpu" or torch.compiler.is_compiling():
        return
    check_visible(images, visible)
    check_floating(images)
    if images.numel() == 0:
        return
    low, high = map(float, torch.where(visible, images.detach(), 0.5).aminmax())
    if low < _LOWEST or high > _HIGHEST:
        given = "bytes" if high > _BYTES else "normalised"
        raise InputError(
            f"images must lie in [0, 1], got pixels from {low:.3g} to {high:.3g}, which look {given}; "
            f"{'divide them by 255' if given == 'bytes' else 'leave that to mean and std'}."
        )


def illustrate(method: MaskingMethod, images: Tensor, visible: Tensor, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """What people are shown of images under one masking method; see `mark_hidden` for those without a fill.

    Args:
        method: a fill's name, or one of `WRAPPERS`.
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys of random fills.
        mean: the dataset's mean colour, for the fill "mean".

    Returns:
        (B, C, H, W), dtype of `images`.
    """
    if not is_fill(method):
        return mark_hidden(images, visible)
    return apply_fill(method, images, visible, keys=keys, mean=mean)


def mark_hidden(images: Tensor, visible: Tensor) -> Tensor:
    """Images with a grey checkerboard in the hole: a network that is given the hole itself is shown nothing there.

    Args:
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; the cells are about a sixteenth of the shorter side.
    """
    height, width = images.shape[2:]
    cell = max(1, round(min(height, width) / 16))
    row = torch.arange(height, device=images.device)[:, None] // cell
    column = torch.arange(width, device=images.device) // cell
    board = torch.where((row + column) % 2 == 0, _LIGHT_CELL, _DARK_CELL).to(images.dtype)
    return torch.where(visible, images, board)
