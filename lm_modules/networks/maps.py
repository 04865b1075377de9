"""Find which modules of a network return maps, and at which strides."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from maskrobust.augment.batch import LAYOUTS
from maskrobust.errors import InputError

_SIZES = (256, 224, 64, 32)
"""Sides of the images that a network is tried with: some take images of one size alone."""

_LEAST_STRIDE = 4


class MapLayers(NamedTuple):
    """Modules of a network that each return a map of another stride.

    Attributes:
        paths: paths of the modules, by ascending stride.
        channels: channels of the maps, by stride.
        image_channels: channels of the images.
        axes: how many axes the positions of the images have.
        parameters: names of the network's parameters that the maps depend on.
    """

    paths: tuple[str, ...]
    channels: dict[int, int]
    image_channels: int
    axes: int
    parameters: frozenset[str]


def map_layers(network: nn.Module, layers: Sequence[str] | None = None) -> MapLayers:
    """Find modules that return a map, with one forward and backward pass on tensors without values.

    Args:
        network: a network that takes images (B, 3, H, W), or those that its first convolution takes.
        layers: paths of the modules; None for the last module of each stride from 4 on, of those at the top of the
            network or in an `nn.Sequential` there: blocks, but not their parts.

    Raises:
        InputError: the network takes no such images, or a module is not there, or does not return a map (B, C, h, w)
            whose stride is the same along each axis, divides the images and is not that of another.
    """
    channels, axes = _images_of(network)
    twin, failures = copy.deepcopy(network).to("meta").train(), []
    modules = dict(_outer_modules(twin) if layers is None else twin.named_modules())
    tried = {path: module for path, module in modules.items() if layers is None or path in layers}
    for size in _SIZES:
        try:
            maps = _maps_of(twin, tried, (2, channels, *[size] * axes))
        except Exception as error:  # of a network that takes images of another size
            failures.append(f"{error}")
            continue
        by_stride = {size // each.shape[-1]: (path, each) for path, each in maps.items()}
        if layers is None:
            by_stride = {stride: each for stride, each in by_stride.items() if stride >= _LEAST_STRIDE}
        wrong = sorted(set(layers or ()) - {path for path, _ in by_stride.values()})
        if wrong or not by_stride:
            raise InputError(
                f"layers must be modules of {type(network).__name__} that return maps (B, C, h, w), each of another "
                f"stride that divides images of {size} pixels, got {repr(wrong[0]) if wrong else 'no such module'}; "
                "choose from its named_modules()."
            )
        strides = sorted(by_stride)
        paths, chosen = zip(*(by_stride[each] for each in strides), strict=True)
        of_maps = {stride: each.shape[1] for stride, each in zip(strides, chosen, strict=True)}
        return MapLayers(paths, of_maps, channels, axes, _parameters_of(chosen, twin))
    layout = LAYOUTS[axes + 2].replace("C", f"{channels}")
    raise InputError(f"{type(network).__name__} must take images {layout}, but does not ({failures[0]}); change it.")


def _images_of(network: nn.Module) -> tuple[int, int]:
    """How many channels the images of a network have, and how many axes their positions, by its first convolution."""
    kinds = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
    found = ((each.in_channels, kinds[kind]) for each in network.modules() for kind in kinds if isinstance(each, kind))
    return next(found, (3, 2))


def _outer_modules(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        yield prefix + name, module
        if isinstance(module, nn.Sequential):
            yield from _outer_modules(module, f"{prefix}{name}.")


def _maps_of(twin: nn.Module, modules: dict[str, nn.Module], shape: Sequence[int]) -> dict[str, Tensor]:
    """The maps that modules return, in the order of their last calls."""
    found: dict[str, Tensor] = {}

    def keep(path: str, _module: nn.Module, _images: Any, output: Any) -> None:
        found.pop(path, None)
        if isinstance(output, Tensor) and _is_map(output, shape):
            found[path] = output.clone()

    with ExitStack() as hooks, torch.device("meta"):
        for path, module in modules.items():
            hooks.enter_context(module.register_forward_hook(partial(keep, path)))
        twin(torch.empty(*shape))
    return found


def _is_map(output: Tensor, shape: Sequence[int]) -> bool:
    """Whether it is a map of square images, not pooled over all positions, whose stride divides these."""
    if output.ndim != len(shape) or len(output) != shape[0]:
        return False
    size, side = shape[-1], output.shape[-1]
    return {*output.shape[2:]} == {side} and 1 < side <= size and size % side == 0


def _parameters_of(maps: Sequence[Tensor], twin: nn.Module) -> frozenset[str]:
    """Names of the trainable parameters that maps depend on."""
    named = {name: each for name, each in twin.named_parameters() if each.requires_grad}
    total = torch.stack([each.sum() for each in maps]).sum()
    gradients = torch.autograd.grad(total, [*named.values()], allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)
