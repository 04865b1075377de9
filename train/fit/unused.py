"""Refuse options that are given and would change nothing: the training would be another one than its user believes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from re import match
from typing import Any

from jsonargparse import Namespace

from maskrobust.errors import Faults, InputError
from maskrobust.lm_modules.training.objectives import OBJECTIVES
from maskrobust.train.command_line import read_options

Reason = Callable[[Namespace], str]
"""What makes an option useless in a configuration of `fit`, as in "model.masking none"; empty where it is used."""


def _under(masking: str) -> Mapping[str, Reason]:
    return {"model.masking": lambda config: f"model.masking {masking}" * (config.model.get("masking") == masking)}


def _with_torchs_optimiser(config: Namespace) -> str:
    return "--optimizer, which has options of its own" if config.get("optimizer") else ""


def _with_adamw(config: Namespace) -> str:
    return "model.optimiser adamw" if config.model.get("optimiser") == "adamw" else ""


def _unless_objective_takes(name: str) -> Mapping[str, Reason]:
    def reason(config: Namespace) -> str:
        objective = config.model.get("objective")
        is_taken = objective is None or name in OBJECTIVES.find(objective, "objective").inputs
        return "" if is_taken else f"model.objective {objective}"

    return {"model.objective": reason}


def _larger_than_image(config: Namespace) -> str:
    size = (config.data.get("init_args") or {}).get("image_size")
    is_larger = isinstance(size, int) and config.model.patch_size > size
    return f"images of {size} pixels, which are smaller than one patch" if is_larger else ""


_WITH_TORCHS: Mapping[str, Reason] = {"optimizer": _with_torchs_optimiser}

UNUSED: Mapping[str, Mapping[str, Reason]] = {
    "model.fill": _under("layer_masking"),
    "model.mask_family": _under("none"),
    "model.hidden_fraction": _under("none"),
    "model.mask_probability": _under("none"),
    "model.patch_size": {"data.image_size": _larger_than_image},
    "model.consistency_weight": _unless_objective_takes("consistency_weight"),
    "model.label_smoothing": _unless_objective_takes("label_smoothing"),
    "model.momentum": {**_WITH_TORCHS, "model.optimiser": _with_adamw},
    "model.optimiser": _WITH_TORCHS,
    "model.learning_rate": _WITH_TORCHS,
    "model.weight_decay": _WITH_TORCHS,
    "model.schedule": _WITH_TORCHS,
    "model.warmup_fraction": _WITH_TORCHS,
}
"""Options, each with the options that can make it useless; a new option is a line here."""


def check_used(arguments: Sequence[str], config: Namespace) -> None:
    """Refuse an option without effect.

    What is given later, in another YAML or on the command line, may make an option of an earlier YAML useless, and so
    may a default: one YAML serves several trainings. A YAML with every option of `UNUSED` that the model has is not
    looked at: it is that of a run, or was printed, and holds defaults.

    Args:
        arguments: the command line.
        config: what `fit` has made of it, with its YAML.

    Raises:
        InputError: naming the option, and what makes it useless.
    """
    given, faults = [*_given(arguments)], Faults()
    known = [each for each in UNUSED if each.removeprefix("model.") in config.model]

    def last(name: str) -> int:
        return max((at for at, names in enumerate(given) if _is_among(name, names)), default=-1)

    for name, causes in UNUSED.items():
        for cause, reason in causes.items():
            at, least = last(name), last(cause) if last(cause) >= 0 else len(given) - 1
            if at >= least and not _is_whole(given[at], known) and (found := reason(config)):
                said = f"{name} has no effect with {found}; leave one of them out, or change it."
                faults.append(InputError(said))
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
