"""Refuse options that are given and would change nothing: the training would be another one than its user believes."""

from collections.abc import Iterator, Mapping, Sequence
from re import match
from typing import Any

from jsonargparse import Namespace

from maskrobust.errors import Faults, InputError
from maskrobust.lm_modules.training.objectives import OBJECTIVES
from maskrobust.train.command_line import read_options

_TORCHS = ("momentum", "optimiser", "learning_rate", "weight_decay", "schedule", "warmup_fraction")
_OF_HOLES = ("mask_family", "hidden_fraction", "mask_probability")
_OF_OBJECTIVES = ("consistency_weight", "label_smoothing")
_OPTIONS = ("fill", "patch_size", *_OF_HOLES, *_OF_OBJECTIVES, *_TORCHS)
"""Options of the model that others can make useless."""


def useless(config: Namespace) -> Iterator[tuple[str, str, str]]:
    """Options of the model without effect: each with the option that makes it so, and what that says, in words.

    Args:
        config: what `fit` has made of the command line, with its YAML.

    Raises:
        InputError: there is no such objective, which comes last.
    """
    model, masking = config.model, config.model.get("masking")
    size, objective = (config.data.get("init_args") or {}).get("image_size"), model.get("objective")
    if masking == "layer_masking":
        yield "fill", "model.masking", "model.masking layer_masking"
    if isinstance(size, int) and model.get("patch_size", 0) > size:
        yield "patch_size", "data.image_size", f"images of {size} pixels, which are smaller than one patch"
    for name in _OF_HOLES if masking == "none" else ():
        yield name, "model.masking", "model.masking none"
    for name in _TORCHS if config.get("optimizer") else ():
        yield name, "optimizer", "--optimizer, which has options of its own"
    if model.get("optimiser") == "adamw":
        yield "momentum", "model.optimiser", "model.optimiser adamw"
    for name in _OF_OBJECTIVES if objective is not None else ():
        if name not in OBJECTIVES.find(objective, "objective").inputs:
            yield name, "model.objective", f"model.objective {objective}"


def check_used(arguments: Sequence[str], config: Namespace) -> None:
    """Refuse an option without effect.

    What is given later, in another YAML or on the command line, may make an option of an earlier YAML useless, and so
    may a default: one YAML serves several trainings. A YAML with every option of `_OPTIONS` that the model has is not
    looked at: it is that of a run, or was printed, and holds defaults.

    Args:
        arguments: the command line.
        config: what `fit` has made of it, with its YAML.

    Raises:
        InputError: naming the option, and what makes it useless.
    """
    given, faults = [*_given(arguments)], Faults()
    known = [f"model.{each}" for each in _OPTIONS if each in config.model]

    def last(name: str) -> int:
        return max((at for at, names in enumerate(given) if _is_among(name, names)), default=-1)

    with faults.noted():
        for option, cause, found in useless(config):
            name, causing = f"model.{option}", last(cause)
            if (at := last(name)) >= (causing if causing >= 0 else len(given) - 1) and not _is_whole(given[at], known):
                faults.append(InputError(f"{name} has no effect with {found}; leave one of them out, or change it."))
    faults.refuse()


def _given(arguments: Sequence[str]) -> Iterator[set[str]]:
    """Names of the options of each YAML, then of the command line."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if found := match(r"--config=(.*)", argument):
            yield {*_names(read_options(found[1]))}
        elif before == "--config":
            yield {*_names(read_options(argument))}
    yield {found[1].replace(".init_args", "") for each in arguments if (found := match(r"--([\w.]+)", each))}


def _names(content: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}".removeprefix(".")
        yield from _names(value, name) if isinstance(value, Mapping) and value else (name,)


def _is_among(name: str, names: set[str]) -> bool:
    return any(each == name or each.startswith(f"{name}.") for each in names)


def _is_whole(names: set[str], known: Sequence[str]) -> bool:
    return all(_is_among(each, names) for each in known)
