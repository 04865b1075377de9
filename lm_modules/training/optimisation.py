"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Collection
from typing import Literal

from torch import nn, optim
from torch.optim.lr_scheduler import LambdaLR

from maskrobust.errors import InputError

OptimiserName = Literal["sgd", "adamw"]
ScheduleName = Literal["constant", "cosine"]


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


def build_optimiser(
    network: nn.Module, name: OptimiserName, learning_rate: float, weight_decay: float, momentum: float
) -> optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; vectors (biases, norms) are not decayed.

    Args:
        network: whose parameters are trained.
        name: "sgd" or "adamw".
        learning_rate: above 0.
        weight_decay: at least 0, for parameters of two or more axes.
        momentum: momentum of "sgd", in [0, 1).
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0)
    return optim.AdamW(groups, lr=learning_rate)


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
    warmup = round(warmup_fraction * total_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return 0.01 + 0.99 * step / warmup
        if name == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup))) / 2

    return LambdaLR(optimiser, factor)
