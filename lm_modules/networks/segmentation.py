"""Networks that give each pixel a class: by name, and as they are called once they are trained."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model, list_models, segmentation

from maskrobust.errors import InputError, did_you_mean, library_needed
from maskrobust.lm_modules.networks.architectures import build_own_network, is_own_class, take_channels
from maskrobust.lm_modules.networks.named import fetched
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.networks.weights import load_weights

SMP_PREFIX, TORCHVISION_PREFIX = "smp/", "torchvision/"
ENCODER_WEIGHTS = "imagenet"
"""In place of a file: the weights of an encoder that its library has."""


class SegmentationNetwork(TrainedNetwork):
    """As `TrainedNetwork`, for networks that return logits of each pixel, (B, number of outputs, H, W).

    They may lie under "out" of a dictionary, as torchvision's do.

    Attributes:
        ignore_index: label of pixels that have none in the data of its training.
    """

    ignore_index: int = 255

    def _select(self, found: object) -> Tensor:
        logits = self._as_float(found["out"] if isinstance(found, Mapping) and "out" in found else found)
        if logits.ndim != 4 or logits.shape[1] != self._num_outputs:
            raise InputError(
                f"'{self.name}' must return logits of each pixel, (B, {self._num_outputs}, H, W), alone or as 'out' of "
                f"a dictionary, got shape {tuple(logits.shape)}; give it as many outputs."
            )
        return logits if self._answers is None else logits[:, self._answers]


def segmentation_network(
    architecture: str | nn.Module, num_classes: int, options: dict[str, Any] | None, weights: str | None, bands: int
) -> nn.Module:
    """A segmentation network by its name, or the given one, with the weights that a training starts from.

    Args:
        architecture: "smp/Unet:resnet18", an architecture and an encoder of segmentation_models_pytorch;
            "torchvision/deeplabv3_resnet50", a segmentation network of torchvision's; a class or function of the user's
            own, as in "my_module.MyNet"; or a network.
        num_classes: number of outputs for each pixel, of an architecture that takes it.
        options: further keyword arguments of the architecture.
        weights: "imagenet" for an encoder with the weights of its library, or a file; None for neither.
        bands: channels of the images.

    Raises:
        MissingFileError, InputError: there is no such network or file, or they do not fit.
    """
    is_fetched = weights == ENCODER_WEIGHTS and isinstance(architecture, str) and not is_own_class(architecture)
    if isinstance(architecture, str) and is_own_class(architecture):
        architecture = build_own_network(architecture, num_classes, options, bands)
    elif isinstance(architecture, str):
        build = partial(_named, architecture, num_classes, options or {}, bands, pretrained=is_fetched)
        architecture = fetched(f"{architecture}:{weights}", build) if is_fetched else build()
    if weights is not None and not is_fetched:
        load_weights(architecture, weights)
    return architecture


def check_segmenter(name: str) -> None:
    """Refuse a name of neither library; which architectures smp has is known when one is built."""
    known = [TORCHVISION_PREFIX + each for each in list_models(segmentation)]
    if not name.startswith(SMP_PREFIX) and name not in known:
        raise InputError(
            f"architecture must name a segmentation network, got '{name}'{did_you_mean(name, known)}; use "
            "smp/Unet:resnet18, torchvision/deeplabv3_resnet50 and the like, or a class of your own, as in "
            "my_module.MyNet."
        )


def _named(name: str, num_classes: int, options: dict[str, Any], bands: int, *, pretrained: bool) -> nn.Module:
    """A network of one of the two libraries, with random weights, or an encoder's from its library."""
    if given := {"weights", "weights_backbone", "encoder_weights"} & options.keys():
        raise InputError(f"architecture_options must name no weights, got {min(given)}; give weights 'imagenet'.")
    check_segmenter(name)
    network: nn.Module
    try:
        if name.startswith(SMP_PREFIX):
            with library_needed():
                import segmentation_models_pytorch as smp

            kind, _, encoder = name.removeprefix(SMP_PREFIX).partition(":")
            arguments = {"encoder_weights": ENCODER_WEIGHTS if pretrained else None, "in_channels": bands, **options}
            network = smp.create_model(kind, encoder or "resnet18", classes=num_classes, **arguments)
            return network
        backbone, bare = "DEFAULT" if pretrained else None, name.removeprefix(TORCHVISION_PREFIX)
        network = get_model(bare, weights=None, weights_backbone=backbone, num_classes=num_classes, **options)
        if bands != 3:
            take_channels(network, bands)
        return network
    except (TypeError, KeyError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"'{name}' cannot be made with the options {options} ({said}); correct it.") from error
