"""Check the network and the images that `LayerMasking` is given."""

import warnings

import torch
from torch import Tensor, nn

from maskrobust.augment.batch import farthest_value
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import times
from maskrobust.lm_modules.masking.torch_private import within_compiled
from maskrobust.lm_modules.masking.wrapping import takes_shape


def check_network(network: object) -> None:
    """Refuse what is no module.

    Raises:
        TypeError: naming what was given.
    """
    if not isinstance(network, nn.Module):
        given = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise TypeError(f"network must be a torch.nn.Module, got {given}; give the network itself.")


def network_to_mask(network: nn.Module) -> nn.Module:
    """The network that `torch.compile` was given; any other as it is.

    Warns:
        UserWarning: it is another one than was given.
    """
    within = within_compiled(network)
    if within is None:
        return network
    warnings.warn(
        "network was compiled by torch.compile, which takes no masked features, so layer masking computes the network "
        "within; compile the masked network instead, as in torch.compile(LayerMasking(network)).",
        stacklevel=3,
    )
    return within


def check_images(images: Tensor) -> None:
    """Refuse images that are still bytes.

    Raises:
        TypeError: naming the dtype given.
    """
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, as the network expects them, got {images.dtype}; divide by 255 and "
            "normalise."
        )


def warn_of_bytes(images: Tensor, visible: Tensor) -> None:
    """Warn of values that no normalised image has; a network of its own may want them, so they are not refused.

    Nothing is looked at on an accelerator, and in compiled code; see `farthest_value`.
    """
    if (value := farthest_value(images, visible)) is not None:
        warnings.warn(
            f"images should be normalised as the network was trained, got a pixel of {value:.4g}; divide bytes by 255 "
            "and normalise, or ignore this where the network takes such numbers.",
            stacklevel=3,
        )


def why_it_failed(network: nn.Module, images: Tensor, error: RuntimeError) -> InputError | None:
    """What is wrong with images on which a network fails with or without a mask; None where they seem right.

    Args:
        network: under layer masking it has raised an error.
        images: (B, C, H, W) that it was given.
        error: of the network.
    """
    first = next((each for each in network.modules() if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    if first is None or _takes(network, images):
        return None
    device, dtype, channels = first.weight.device, first.weight.dtype, images.shape[1]
    if device != images.device:
        return InputError(f"images are on {images.device} but the network is on {device}; move both to one device.")
    if dtype != images.dtype and not torch.is_autocast_enabled(images.device.type):
        return InputError(
            f"images must have the dtype of the network's weights, {dtype}, got {images.dtype}; convert them, as with "
            f"images.to({dtype})."
        )
    if first.in_channels != channels:
        is_grey = channels == 1 and images.ndim == 4
        remedy = "repeat grey, as with images.expand(-1, 3, -1, -1)" if is_grey else "give as many"
        return InputError(
            f"images must have the {first.in_channels} channels of the network's first convolution, got {channels}; "
            f"{remedy}."
        )
    size = images.shape[2:]
    common = [_COMMON] * len(size)
    if takes_shape(network, (2, channels, *common)) and not takes_shape(network, (2, channels, *size)):
        return InputError(
            f"{type(network).__name__} takes images of {times(common)} pixels, but none of {times(size)} "
            f"({str(error).splitlines()[0]}); resize them, or leave them out."
        )
    return None


_COMMON = 224
"""Side of images that most networks take."""


@torch.no_grad()
def _takes(network: nn.Module, images: Tensor) -> bool:
    try:
        network(images)
    except RuntimeError:
        return False
    return True
