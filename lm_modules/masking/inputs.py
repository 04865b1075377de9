"""Check the network and the images that `LayerMasking` is given."""

import warnings

from torch import Tensor, nn

from maskrobust.augment.batch import farthest_value
from maskrobust.lm_modules.masking.torch_private import within_compiled


def network_to_mask(network: object) -> nn.Module:
    """The network that `torch.compile` was given; any other as it is.

    Raises:
        TypeError: it is no module, naming what was given.

    Warns:
        UserWarning: it is another one than was given.
    """
    if not isinstance(network, nn.Module):
        given = f"the class {network.__name__}" if isinstance(network, type) else type(network).__name__
        raise TypeError(f"network must be a torch.nn.Module, got {given}; give the network itself.")
    within = within_compiled(network)
    if within is None:
        return network
    warnings.warn(
        "network was compiled by torch.compile, which takes no masked features, so layer masking computes the network "
        "within; compile the masked network instead, as in torch.compile(LayerMasking(network)).",
        stacklevel=3,
    )
    return within


def check_images(images: Tensor, visible: Tensor) -> None:
    """Refuse images that are still bytes, and warn of values that no normalised image has.

    A network of its own may want these, so they are not refused. Nothing is looked at on an accelerator, and in
    compiled code; see `farthest_value`.

    Raises:
        TypeError: naming the dtype given.
    """
    if not images.is_floating_point():
        raise TypeError(
            f"images must be floating point, as the network expects them, got {images.dtype}; divide by 255 and "
            "normalise."
        )
    if (value := farthest_value(images, visible)) is not None:
        warnings.warn(
            f"images should be normalised as the network was trained, got a pixel of {value:.4g}; divide bytes by 255 "
            "and normalise, or ignore this where the network takes such numbers.",
            stacklevel=3,
        )
