"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from maskrobust.errors import InputError

OptimiserName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "cosine"]

_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
"""What FSDP, activation checkpointing and `torch.compile` put into the names of parameters."""


def defaults_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What a training takes for the optimiser, learning_rate, schedule and backbone_factor that are None.

    Where `weights` are fine-tuned and no learning rate is given: adamw at 1e-3 (sgd at 0.01), a tenth of that ahead of
    the head, constant. Otherwise: sgd at 0.1 (adamw at 1e-3) for all of the network, along a cosine.
    """
    fine_tunes = arguments["weights"] is not None and arguments["learning_rate"] is None
    optimiser = arguments["optimiser"] or ("adamw" if fine_tunes else "sgd")
    found = {
        "optimiser": optimiser,
        "learning_rate": 1e-3 if optimiser == "adamw" else 0.01 if fine_tunes else 0.1,
        "schedule": "constant" if fine_tunes else "cosine",
        "backbone_factor": 0.1 if fine_tunes else 1.0,
    }
    return {name: value for name, value in found.items() if arguments[name] is None}


def train_only(network: nn.Module, paths: Collection[str]) -> None:
    """Leave the parameters of some modules alone trainable.

    Args:
        network: changed in place.
        paths: paths of the modules to train, with all that is in them, such as "layer4" and "fc" of a ResNet.

    Raises:
        InputError: no path is given, or the network has no module with parameters at one.
    """
    modules = dict(network.named_modules())
    wrong = [path for path in paths if path not in modules or not any(True for _ in modules[path].parameters())]
    if wrong or not paths:
        raise InputError(
            f"trainable must be paths of modules of {type(network).__name__} with parameters, got "
            f"'{wrong[0] if wrong else ''}'; choose from {', '.join(name for name, _ in network.named_children())} and "
            "what is in them."
        )
    network.requires_grad_(False)
    for path in paths:
        modules[path].requires_grad_(True)


def axes_of_parameters(module: nn.Module) -> dict[str, int]:
    """The number of axes of each parameter of a module, by name; to be asked before anything is wrapped or sharded."""
    return {plain_name(name): parameter.ndim for name, parameter in module.named_parameters()}


def build_optimiser(
    module: nn.Module,
    axes: Mapping[str, int],
    name: OptimiserName,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
    backbone: Collection[str] = (),
    backbone_factor: float = 1.0,
) -> optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; vectors (biases, norms) are not decayed.

    Args:
        module: whose parameters are trained, if they require a gradient.
        axes: what `axes_of_parameters` says of the module as it was: the shards of FSDP are flat.
        name: "sgd" or "adamw".
        learning_rate: above 0.
        weight_decay: at least 0, for parameters of two or more axes.
        momentum: momentum of "sgd", in [0, 1).
        backbone: names of the parameters that learn at another rate.
        backbone_factor: that rate over `learning_rate`; they are groups of their own unless it is 1.

    Raises:
        InputError: a parameter has another name than before.
    """
    trained = {plain_name(path): each for path, each in module.named_parameters() if each.requires_grad}
    if unknown := sorted(trained.keys() - axes.keys()):
        raise InputError(
            f"the optimiser needs parameters by the names that they have when a fit begins, got '{unknown[0]}'; give "
            "FSDP use_orig_params=True, and replace layers before the fit."
        )
    slower = {*backbone} if backbone_factor != 1 else set[str]()
    groups = [
        {
            "params": [each for path, each in trained.items() if (axes[path] > 1, path in slower) == (decays, slow)],
            "weight_decay": weight_decay if decays else 0.0,
            "lr": learning_rate * (backbone_factor if slow else 1.0),
        }
        for slow in ((False, True) if slower else (False,))
        for decays in (True, False)
    ]
    if name == "sgd":
        return optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    return optim.AdamW(groups, lr=learning_rate)


def plain_name(name: str) -> str:
    """The name of a parameter without those of what wraps its modules."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def rate_factor(name: ScheduleName, total_steps: int, warmup_fraction: float) -> Callable[[int], float]:
    """The fraction of the peak learning rate after so many optimiser steps; see `build_schedule`."""
    warmup = round(warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return 0.01 + 0.99 * step / warmup
        if name == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup))) / 2

    return factor


def build_schedule(
    optimiser: optim.Optimizer, name: ScheduleName, total_steps: int, warmup_fraction: float
) -> LambdaLR:
    """A schedule that is stepped after every optimiser step.

    Linear warm-up from a hundredth of the learning rate over warmup_fraction x total_steps; then constant, or half a
    cosine down to 0. Each rate follows from the number of steps taken, so that a training which goes on with another
    length has the rates of that length.

    Args:
        optimiser: whose learning rates are scheduled.
        name: "constant" or "cosine".
        total_steps: optimiser steps of the whole training.
        warmup_fraction: fraction of the steps, in [0, 1).
    """
    return LambdaLR(optimiser, rate_factor(name, total_steps, warmup_fraction))
