"""Masking methods: how an image with a hole is presented to a network, by a fill or with the hole itself."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from maskrobust.augment import FILLS, apply_fill
from maskrobust.augment.batch import check_floating, check_visible
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, PaddingRule
from maskrobust.lm_modules.token_dropping import TokenDropping

MaskingMethod = str
"""A name of `augment.FILLS`, "my_module.my_name" for an own fill, or a name of `WRAPPERS`; where pictures to centre by
are at hand (see `centred`), any of these and `CENTRED`, as in "black+centred"."""

LAYER_MASKING, TOKEN_DROPPING = "layer_masking", "token_dropping"

LAYER_MASKINGS: Mapping[PaddingRule, MaskingMethod] = {
    "mean": LAYER_MASKING,
    "mirror": "layer_masking_mirror",
    "zeros": "layer_masking_zeros",
}
"""Layer masking by its padding."""

CENTRED = "+centred"
"""Ends the name of a method whose answers are centred."""

_LOWEST, _HIGHEST, _BYTES = -0.5, 1.5, 16
_LIGHT_CELL, _DARK_CELL = 0.82, 0.68
Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool, keys (B,) int64) -> logits (B, num_classes)."""

BACKGROUNDS = 8
"""How many unrelated pictures an evaluation centres by."""


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, without what makes it take `visible`."""
    return network.network if isinstance(network, LayerMasking | TokenDropping) else network


def _with_layer_masking(network: nn.Module, padding: PaddingRule) -> LayerMasking:
    """A network that has layer masking keeps its other options."""
    if isinstance(network, LayerMasking):
        return network.with_padding(padding)
    return LayerMasking(unwrapped(network), padding=padding)


WRAPPERS: dict[MaskingMethod, Callable[[nn.Module], LayerMasking | TokenDropping]] = {
    **{method: partial(_with_layer_masking, padding=padding) for padding, method in LAYER_MASKINGS.items()},
    TOKEN_DROPPING: lambda network: TokenDropping(unwrapped(network)),
}
"""Masking methods that give the hole to the network: what makes a network take `visible` beside the images."""


def masking_methods() -> tuple[MaskingMethod, ...]:
    """Names of all masking methods: every registered fill, and those of `WRAPPERS`."""
    return (*FILLS, *WRAPPERS)


def uncentred(method: MaskingMethod) -> MaskingMethod:
    """The method whose answers are centred; a method without `CENTRED` as it is."""
    return method.removesuffix(CENTRED)


def is_fill(method: MaskingMethod) -> bool:
    """Whether a method, centred or not, fills the hole; those of `WRAPPERS` give it to the network."""
    return uncentred(method) not in WRAPPERS


def check_methods(methods: Sequence[str], option: str, *, may_be_centred: bool = False) -> None:
    """Refuse an unknown masking method, or one that comes twice; one named after a module of the user's is imported.

    Args:
        methods: names of the methods.
        option: the option in which they were given, for messages.
        may_be_centred: whether their names may end in `CENTRED`.

    Raises:
        InputError: a name is unknown, or comes twice.
    """
    if len(set(methods)) < len(methods):
        raise InputError(f"{option} must name different methods, got {', '.join(methods)}; name each once.")
    for method in map(uncentred, methods) if may_be_centred else methods:
        if method not in WRAPPERS:
            FILLS.find(method, option, besides=tuple(WRAPPERS))


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std, channel by channel.

    Args:
        images: (B, C, H, W) float in [0, 1].
        mean: C values.
        std: C values above 0.

    Returns:
        (B, C, H, W), dtype and memory format of `images`.

    Raises:
        TypeError: `images` are integers, as a loader yields them.
    """
    check_floating(images)
    by_channel = _by_channel.__wrapped__ if torch.compiler.is_compiling() else _by_channel  # keep no fake tensors
    shift, scale = (by_channel(tuple(values), images.dtype, images.device) for values in (mean, std))
    return (images - shift).div_(scale)


@lru_cache(maxsize=16)
def _by_channel(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(C, 1, 1), made once: each copy to an accelerator waits for it."""
    with torch.inference_mode(False):  # the same tensor is for gradients, too
        return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


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
            or its padding is that of another method of `LAYER_MASKINGS`.
    """
    check_methods((method,), "method")
    if method in WRAPPERS and isinstance(network, nn.Module) and not _takes_visible(network):
        raise InputError(
            f"method '{method}' needs a network that takes images and visible, got {type(network).__name__}, which "
            f"takes images alone; wrap it, as in {'TokenDropping' if method == TOKEN_DROPPING else 'LayerMasking'}"
            "(network)."
        )
    if isinstance(network, LayerMasking) and method in LAYER_MASKINGS.values():
        padding = network.options.padding
        if LAYER_MASKINGS.get(padding, method) != method:
            raise InputError(
                f"method '{method}' needs the padding of its name, got a network with padding '{padding}'; wrap it "
                "anew, or name the other method."
            )

    is_checked = tuple(mean) == (0.0,) * len(mean) and tuple(std) == (1.0,) * len(std)

    def predict(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        nonlocal is_checked
        if not is_checked and images.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_pixels(images, visible)  # an accelerator would wait for it in each step
            is_checked = True
        if method in WRAPPERS:
            return network(normalise(images, mean, std), visible)
        filled = apply_fill(method, images, visible, keys=keys, mean=mean)
        return network(normalise(filled, mean, std))

    return predict


def _takes_visible(network: nn.Module) -> bool:
    try:
        inspect.signature(network.forward).bind(None, None)
    except TypeError:
        return False
    return True


def _check_pixels(images: Tensor, visible: Tensor) -> None:
    """Refuse images of which visible pixels are far from [0, 1], further than resizing overshoots."""
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
        method: a fill's name, or one of `WRAPPERS`; centred or not.
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys of random fills.
        mean: the dataset's mean colour, for the fill "mean".

    Returns:
        (B, C, H, W), dtype of `images`.
    """
    if not is_fill(method):
        return mark_hidden(images, visible)
    return apply_fill(uncentred(method), images, visible, keys=keys, mean=mean)


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


def centred(ask: Predictor, backgrounds: Tensor) -> Predictor:
    """A predictor that subtracts the mean effect of the same hole, with the same fill, on fixed pictures.

    With l(x, M) the answer about image x under hole M, l(b) that about the whole picture b, and means over b, it is

        l(x, M) - mean l(b, M) + mean l(b),

    and l(x) itself, bit for bit, where nothing is hidden. It takes off what of the hole's effect does not depend on the
    image: all of it for a network to whose answers holes add something, none of what a hole and an image do together.
    There is nothing to train. It costs a pass for each b beside the one for the images, and one for the whole pictures.

    Args:
        ask: a predictor.
        backgrounds: (n, C, H, W) float in [0, 1], n at least 1, of the images' size: without an object, and none of the
            pictures that are asked about, whose own effect would be taken off.

    Returns:
        A function like `ask`. It raises InputError for images of another size.
    """

    def ask_centred(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        if backgrounds.shape[1:] != images.shape[1:]:
            raise InputError(
                f"pictures to centre by must have the shape {tuple(images.shape[1:])} of the images, got "
                f"{tuple(backgrounds.shape[1:])}; render both at one size."
            )
        pictures = backgrounds.to(images)
        count = len(pictures)
        whole = ask(pictures, visible.new_ones(count, *visible.shape[1:]), keys.new_zeros(count)).mean(dim=0)
        masked = torch.stack([ask(picture.expand_as(images), visible, keys) for picture in pictures]).mean(dim=0)
        answers = ask(images, visible, keys)
        return torch.where(visible.flatten(1).all(dim=1, keepdim=True), answers, answers - masked + whole)

    return ask_centred
