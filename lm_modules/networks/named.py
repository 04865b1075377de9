"""Networks that a training starts from: by name with weights of torchvision or timm, or from a file.

torchvision, timm and huggingface_hub fetch weights as they always do, with their own caches and offline switches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.networks.architectures import (
    TIMM_PREFIX,
    adapted_to,
    build_network,
    build_outline,
    build_own_network,
    check_known,
    is_own_class,
)
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.weights import load_tensors, read_state_dict

PRETRAINED = "pretrained"
"""In place of weights: timm's own of that name."""

HUB_PREFIX = "hf-hub:"
WEIGHT_FILES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")

Made = TypeVar("Made")


def read_weights(architecture: str | None, weights: str) -> dict[str, Tensor]:
    """A state dict by the name of weights of an architecture, or from a file.

    Args:
        architecture: name of torchvision's or timm's; None for another network, whose weights are in a file.
        weights: the name of torchvision's weights for it, such as "IMAGENET1K_V2"; "pretrained" for timm's; or a file.

    Raises:
        MissingFileError, InputError: see `load_network`.
    """
    if architecture is None or is_file(weights):
        return read_state_dict(weights)
    check_known(architecture)
    if weights not in (names := weight_names(architecture)):
        choice = " or ".join([*names, "a file"])
        raise InputError(f"weights of '{architecture}' must be {choice}, got '{weights}'; choose among these.")
    return with_named_weights(architecture, weights).state_dict()


def network_to_train(
    architecture: str | nn.Module,
    num_classes: int,
    options: dict[str, Any] | None,
    weights: str | None,
    *,
    in_channels: int = 3,
    new_head: bool = False,
) -> nn.Module:
    """A network by its name, or the given one, with the weights that a training starts from.

    Args:
        architecture: name for `build_network`; or a class or function of the user's own; or a network.
        num_classes: number of outputs of an architecture that takes it.
        options: further keyword arguments of the architecture.
        weights: see `read_weights`; None to leave them as they are.
        in_channels: bands of the images; weights of three colours are adapted to them.
        new_head: start the last linear layer at zero.

    Raises:
        MissingFileError, InputError: see `build_network`, `build_own_network`, `read_weights` and `load_tensors`.
    """
    named = architecture if isinstance(architecture, str) and not is_own_class(architecture) else None
    if isinstance(architecture, str):
        build = build_network if named else build_own_network
        architecture = build(architecture, num_classes, options, in_channels)
    if weights is not None:
        found = adapted_to(read_weights(named, weights), architecture)
        load_tensors(architecture, found, weights, new_head=new_head)
    return architecture


def is_file(weights: str) -> bool:
    """Whether weights are named by a file, whether or not it is there."""
    return weights.endswith(WEIGHT_FILES) or Path(weights).is_file()


def check_name(name: str) -> None:
    """Refuse a name of `load_network` whose file is missing or whose architecture is unknown, before anything is built.

    Raises:
        MissingFileError, InputError: it is.
    """
    if name.startswith(HUB_PREFIX) or Path(name).is_file():
        return
    if Path(name).is_dir():
        raise MissingFileError(f"'{Path(name)}' is a folder, which may hold several networks; name a file in it.")
    architecture, colon, _ = name.partition(":")
    if not colon and name.endswith(WEIGHT_FILES):
        raise MissingFileError(f"the checkpoint '{name}' does not exist; check the path.")
    if not is_own_class(architecture):
        check_known(architecture)


def weight_names(architecture: str) -> list[str]:
    """The names of torchvision's or timm's own weights for an architecture of theirs."""
    if architecture.startswith(TIMM_PREFIX):
        import timm

        return [PRETRAINED] if timm.is_model_pretrained(architecture.removeprefix(TIMM_PREFIX)) else []
    from torchvision.models import get_model_weights

    return [] if architecture == "small_resnet" else [each.name for each in get_model_weights(architecture)]


def with_named_weights(architecture: str, weights: str) -> nn.Module:
    """A network of torchvision's or timm's with their own weights."""
    import timm
    from torchvision.models import get_model

    def fetch() -> nn.Module:
        network: nn.Module
        if architecture.startswith(TIMM_PREFIX):
            network = timm.create_model(architecture.removeprefix(TIMM_PREFIX), pretrained=True)
        else:
            network = get_model(architecture, weights=weights)
        return network

    return fetched(f"{architecture}:{weights}", fetch)


def default_preprocessing(architecture: str) -> Preprocessing:
    """That of an architecture's default weights; ImageNet's colours for small_resnet and a class of one's own."""
    from torchvision.models import get_model_weights

    if architecture == "small_resnet" or is_own_class(architecture):
        return Preprocessing()
    if architecture.startswith(TIMM_PREFIX):
        return shown_by_timm(build_outline(architecture, 2))
    return shown_by_torchvision(get_model_weights(architecture)["DEFAULT"])


def shown_by_torchvision(weights: Any) -> Preprocessing:
    """What weights of torchvision's want to be shown."""
    transforms = weights.transforms()
    (cut,), (resized,) = transforms.crop_size[:1], transforms.resize_size[:1]
    return Preprocessing(
        tuple(transforms.mean), tuple(transforms.std), (cut, cut), cut / resized, transforms.interpolation.value
    )


def shown_by_timm(network: nn.Module) -> Preprocessing:
    """What a network of timm's wants to be shown, by the configuration of its weights; of 3 channels."""
    from timm.data.config import resolve_model_data_config

    found = resolve_model_data_config(network)  # type: ignore[no-untyped-call]
    channels, height, width = found["input_size"]
    if channels != 3:
        raise InputError(f"networks are shown 3 channels, but {type(network).__name__} takes {channels}; name another.")
    return Preprocessing(
        tuple(found["mean"]), tuple(found["std"]), (height, width), found["crop_pct"], found["interpolation"]
    )


def fetched(name: str, fetch: Callable[[], Made]) -> Made:
    """What torchvision, timm or the hub returns, from its cache or from its place."""
    try:
        return fetch()
    except Exception as error:  # there are as many kinds of errors as ways to fetch
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        architecture = name.removeprefix(HUB_PREFIX).partition(":")[0]
        as_file = "my_module.MyNet:FILE" if name.startswith(HUB_PREFIX) else f"{architecture}:FILE"
        raise InputError(
            f"'{name}' cannot be fetched, and is not in the cache ({reason.rstrip('.')}); check the name and the "
            f"connection, or bring the weights as a file, which --network takes as '{as_file}' and --model.weights as "
            "FILE."
        ) from error
