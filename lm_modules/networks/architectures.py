"""Networks by name: the toolkit's own small ResNet, torchvision's and timm's classifiers, and a user's own classes."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from maskrobust.augment.registry import import_named
from maskrobust.errors import InputError, check_at_least, did_you_mean, library_needed

TIMM_PREFIX = "timm/"
"""Prefix of the names of timm's networks."""


class SmallResNet(nn.Module):
    """A ResNet for images of 32 to 96 pixels: a 3x3 stem of stride 2, then three stages of basic blocks.

    Source of the blocks: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 3.3. The stages
    have width, 2 width and 4 width channels at strides 2, 4 and 8 of the image.

    Args:
        num_classes: outputs of the linear head.
        width: channels of the stem and of the first stage, at least 16: with fewer, torch's backward pass of a strided
            1x1 convolution over channels-last features corrupts memory on CPUs (seen with torch 2.13).
        blocks: basic blocks in each stage.
        in_chans: channels of the images.

    Raises:
        InputError: `width` is below 16.
    """

    def __init__(self, num_classes: int = 10, *, width: int = 16, blocks: int = 1, in_chans: int = 3) -> None:
        super().__init__()
        check_at_least("width", width, 16)
        self.conv1 = nn.Conv2d(in_chans, width, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, blocks, stride=1)
        self.layer2 = _stage(width, 2 * width, blocks, stride=2)
        self.layer3 = _stage(2 * width, 4 * width, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) of images (B, in_chans, H, W)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.fc(self.flatten(self.avgpool(features)))
        return logits


def build_network(
    architecture: str, num_classes: int, options: dict[str, Any] | None = None, in_channels: int = 3
) -> nn.Module:
    """A network with random weights.

    Args:
        architecture: "small_resnet", a torchvision classifier ("resnet50"), or "timm/" and a timm name
            ("timm/resnet10t").
        num_classes: outputs of the head.
        options: further keyword arguments of the constructor, for example ``{"width": 32}``.
        in_channels: bands of the images.

    Raises:
        InputError: the name is unknown (the nearest names are given), num_classes < 2, or an option is not taken.
    """
    check_at_least("num_classes", num_classes, 2)
    check_known(architecture)
    arguments = {"num_classes": num_classes, **(options or {})}
    if in_channels != 3 and (architecture == "small_resnet" or architecture.startswith(TIMM_PREFIX)):
        arguments["in_chans"] = in_channels
    try:
        if architecture == "small_resnet":
            return SmallResNet(**arguments)
        network: nn.Module
        if architecture.startswith(TIMM_PREFIX):
            with library_needed():
                import timm

            network = timm.create_model(architecture.removeprefix(TIMM_PREFIX), **arguments)
        else:
            import torchvision

            network = torchvision.models.get_model(architecture, weights=None, **arguments)
            if in_channels != 3:
                take_channels(network, in_channels)
        return network
    except TypeError as error:
        raise InputError(f"architecture '{architecture}' does not take the options {options}: {error}.") from error


def take_channels(network: nn.Module, in_channels: int) -> None:
    """Give a network of torchvision's another first convolution, with random weights."""
    path, first = next((path, each) for path, each in network.named_modules() if isinstance(each, nn.Conv2d))
    options: Any = {name: getattr(first, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    network.set_submodule(path, nn.Conv2d(in_channels, first.out_channels, bias=first.bias is not None, **options))


def adapted_to(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights of images in three colours, with the first convolution for as many bands as a network takes.

    They are timm's `adapt_input_conv`: the sum over colours for one band, and else these in turn, times 3 / bands.

    Args:
        weights: a state dict.
        network: the network that they are for.
    """
    from timm.models import adapt_input_conv

    expected = network.state_dict()
    return {
        name: adapt_input_conv(expected[name].shape[1], each) if _differs_in_bands(each, expected.get(name)) else each
        for name, each in weights.items()
    }


def _differs_in_bands(weight: Tensor, expected: Tensor | None) -> bool:
    if expected is None or weight.ndim != 4 or expected.ndim != 4 or weight.shape[1] != 3:
        return False
    return expected.shape[1] != 3 and weight.shape[::2] == expected.shape[::2] and len(weight) == len(expected)


def is_own_class(architecture: str) -> bool:
    """Whether it is written as a class or function in a module of the user's own, such as "my_module.MyNet"."""
    return "." in architecture and "/" not in architecture


def build_own_network(
    architecture: str, num_classes: int | None = None, options: dict[str, Any] | None = None, in_channels: int = 3
) -> nn.Module:
    """A network of the user's own class or function, whose module is imported.

    For a name that the user gives, never for one that a file does; nor for options that a file gives.

    Args:
        architecture: such as "my_module.MyNet".
        num_classes: passed where it has a parameter of that name; None for as many outputs as it has by itself.
        options: further keyword arguments.
        in_channels: bands of the images, passed where they are not three and it has a parameter of that name.

    Raises:
        InputError: there is no such class or function, it does not take the arguments, or makes something else.
    """
    module, _, own_name = architecture.rpartition(".")
    import_named(module, architecture, "network")
    make = getattr(importlib.import_module(module), own_name, None)
    if not callable(make):
        raise InputError(f"network must name a class, but module '{module}' has no '{own_name}'; correct it.")
    arguments = dict(options or {})
    if in_channels != 3 and "in_channels" in inspect.signature(make).parameters:
        arguments.setdefault("in_channels", in_channels)
    if num_classes is not None and "num_classes" in inspect.signature(make).parameters:
        arguments.setdefault("num_classes", num_classes)
    try:
        network = make(**arguments)
    except InputError:
        raise
    except Exception as error:  # it is the user's own
        given = f"with {', '.join(arguments)} alone" if arguments else "without arguments"
        raise InputError(
            f"network must name a class that can be made {given}, but '{architecture}' cannot ({error}); name a "
            "function of yours that makes it."
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"'{architecture}' must make an nn.Module, got {type(network).__name__}; return the network.")
    return network


def build_outline(architecture: str, num_classes: int, options: dict[str, Any] | None = None) -> nn.Module:
    """A network whose parameters have shapes but no values (device "meta"): enough to read it, at next to no cost.

    A constructor that computes with its parameters gets real ones.

    Args:
        architecture: an architecture as in `build_network`, as are the other arguments.
        num_classes: outputs of the head.
        options: further keyword arguments of the constructor.

    Raises:
        InputError: as `build_network`.
    """

    def without_values(_module: nn.Module, _name: str, parameter: nn.Parameter) -> nn.Parameter:
        return parameter if parameter.is_meta else nn.Parameter(parameter.data.to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(without_values)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torchvision's, on how it will draw initial values
            return build_network(architecture, num_classes, options)
    except RuntimeError:
        hook.remove()
        return build_network(architecture, num_classes, options)
    finally:
        hook.remove()


def check_known(architecture: str) -> None:
    """Refuse a name that `build_network` does not know, and give the nearest one."""
    import torchvision

    known = ["small_resnet", *torchvision.models.list_models(module=torchvision.models)]
    if architecture in known:  # without timm, whose import takes a second
        return
    bare = architecture.removeprefix(TIMM_PREFIX)
    if bare == architecture and (near := did_you_mean(architecture, known)):
        raise InputError(_about_unknown(architecture, near))
    with library_needed():
        import timm

    known += [TIMM_PREFIX + name for name in timm.list_models()]
    if architecture not in known and (bare == architecture or not timm.is_model_pretrained(bare)):
        raise InputError(_about_unknown(architecture, did_you_mean(architecture, known)))


def _about_unknown(architecture: str, near: str) -> str:
    return (
        f"architecture must be the name of a known network, got '{architecture}'{near}; use small_resnet, a "
        "torchvision name, timm/NAME, or a class of your own, as in my_module.MyNet."
    )


def head_of(network: nn.Module) -> str | None:
    """Path of the last linear layer, which is a classifier's head; None where there is no linear layer."""
    linear: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


def with_features(network: nn.Module, num_outputs: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """A function of a network's inputs that returns its outputs and, of one pass, features (B, D) ahead of its head.

    They are what the last linear layer is given, if it has as many outputs as the network and is given one vector for
    each image. Otherwise (as where a network has no head) they are the network's outputs.

    Args:
        network: maps images, and what else it takes, to (B, num_outputs).
        num_outputs: number of its outputs.
    """
    path = head_of(network)
    head = None if path is None else network.get_submodule(path)
    if head is None or head.out_features != num_outputs:
        return lambda *inputs: (outputs := network(*inputs), outputs)

    def call(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        given: list[Tensor] = []

        def keep(_: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            given.append(arguments[0] if arguments else named["input"])

        with head.register_forward_pre_hook(keep, with_kwargs=True):
            outputs: Tensor = network(*inputs)
        return outputs, given[-1] if given and given[-1].ndim == 2 else outputs

    return call


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock

    downsample = None
    if stride != 1 or in_channels != channels:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(channels)
        )
    first = BasicBlock(in_channels, channels, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))
