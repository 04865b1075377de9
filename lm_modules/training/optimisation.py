"""Optimisers and learning-rate schedules by name."""

from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

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
) -> LRScheduler:
    """A schedule that is stepped after every optimiser step.

    Linear warm-up from a hundredth of the learning rate over warmup_fraction x total_steps; then constant, or half a
    cosine down to 0.

    Args:
        optimiser: whose learning rates are scheduled.
        name: "constant" or "cosine".
        total_steps: optimiser steps of the whole training.
        warmup_fraction: fraction of the steps, in [0, 1).
    """
    warmup_steps = round(warmup_fraction * total_steps)
    main: LRScheduler
    if name == "cosine":
        main = CosineAnnealingLR(optimiser, T_max=max(1, total_steps - warmup_steps))
    else:
        main = LinearLR(optimiser, start_factor=1.0, total_iters=1)
    if warmup_steps == 0:
        return main
    warmup = LinearLR(optimiser, start_factor=0.01, total_iters=warmup_steps)
    return SequentialLR(optimiser, [warmup, main], milestones=[warmup_steps])


def follow_length(
    schedule: dict[str, Any], optimiser: dict[str, Any], name: ScheduleName, total_steps: int, warmup_fraction: float
) -> None:
    """Change saved states in place to those of a training of `total_steps`, where they belong to one of another length.

    Left alone, a cosine that has come down to 0 goes up again, and one that is cut short never comes down.

    Args:
        schedule: state of a `build_schedule`.
        optimiser: state of its optimiser.
        name: name of the schedule, as in `build_schedule`.
        total_steps: number of steps, as in `build_schedule`.
        warmup_fraction: fraction of the steps that warm up, as in `build_schedule`.
    """
    groups = optimiser["param_groups"]
    stand_in = optim.SGD([{"params": [torch.zeros(1)], "lr": group["initial_lr"]} for group in groups])
    wanted = build_schedule(stand_in, name, total_steps, warmup_fraction)
    if _lengths(wanted.state_dict()) == _lengths(schedule):
        return
    for _ in range(schedule["last_epoch"]):
        stand_in.step()
        wanted.step()
    schedule.clear()
    schedule.update(wanted.state_dict())
    for group, moved in zip(groups, stand_in.param_groups, strict=True):
        group["lr"] = moved["lr"]


def _lengths(schedule: dict[str, Any]) -> list[Any]:
    parts = [_lengths(part) for part in schedule.get("_schedulers", ())]
    return [*(schedule.get(name) for name in ("T_max", "total_iters", "_milestones")), *parts]
