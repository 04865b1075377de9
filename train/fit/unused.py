"""Refuse options that are given and would change nothing: the training would be another one than its user believes."""

from collections.abc import Callable, Mapping, Sequence
from re import match
from typing import Any

from jsonargparse import Namespace

from maskrobust.errors import InputError
from maskrobust.lm_modules.training.objectives import OBJECTIVES

Reason = Callable[[Namespace], str]
"""What makes an option useless in a configuration of `fit`, as in "model.masking none"; empty where it is used."""


def _under(masking: str) -> Reason:
    return lambda config: f"model.masking {masking}" if config.model.get("masking") == masking else ""


def _with_torchs_optimiser(config: Namespace) -> str:
    return "--optimizer, which has options of its own" if config.get("optimizer") else ""


def _without_momentum(config: Namespace) -> str:
    is_adamw = config.model.get("optimiser") == "adamw"
    return _with_torchs_optimiser(config) or ("model.optimiser adamw" if is_adamw else "")


def _unless_objective_takes(name: str) -> Reason:
    def reason(config: Namespace) -> str:
        objective = config.model.get("objective")
        is_taken = objective is None or name in OBJECTIVES.find(objective, "objective").inputs
        return "" if is_taken else f"model.objective {objective}"

    return reason


def _larger_than_image(config: Namespace) -> str:
    size = (config.data.get("init_args") or {}).get("image_size")
    is_larger = isinstance(size, int) and config.model.patch_size > size
    return f"images of {size} pixels, which are smaller than one patch" if is_larger else ""


UNUSED: Mapping[str, Reason] = {
    "model.fill": _under("layer_masking"),
    "model.mask_family": _under("none"),
    "model.hidden_fraction": _under("none"),
    "model.mask_probability": _under("none"),
    "model.patch_size": _larger_than_image,
    "model.consistency_weight": _unless_objective_takes("consistency_weight"),
    "model.label_smoothing": _unless_objective_takes("label_smoothing"),
    "model.momentum": _without_momentum,
    **dict.fromkeys(
        ("model.optimiser", "model.learning_rate", "model.weight_decay", "model.schedule", "model.warmup_fraction"),
        _with_torchs_optimiser,
    ),
}
"""Options, each with what makes it useless; a new option is a line here."""


def check_used(arguments: Sequence[str], config: Namespace) -> None:
    """Refuse an option of the command line without effect. A YAML is not looked at: it may serve several trainings.

    Args:
        arguments: the command line.
        config: what `fit` has made of it, with its YAML.

    Raises:
        InputError: naming the option, and what makes it useless.
    """
    given: dict[str, Any] = {found[1]: each for each in arguments if (found := match(r"--([\w.]+)", each))}
    for name in given.keys() & UNUSED.keys():
        if reason := UNUSED[name](config):
            raise InputError(f"{name} has no effect with {reason}; leave one of them out, or change it.")
