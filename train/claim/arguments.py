"""The arguments of `maskrobust claim`, from the command line or a YAML, parsed and checked."""

import json
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from maskrobust.errors import InputError
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.train.arguments import PARSER_OPTIONS, import_data_modules
from maskrobust.train.claim.checks import check, check_networks, check_part
from maskrobust.train.claim.config import SET_BY_THE_CLAIM, Arm, ClaimConfig, Evaluation, Rule, Training
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.loggers import WandbOptions, wandb_options
from maskrobust.train.sentences import about_arguments

_DESCRIPTION = "Train matched arms, measure what each reads from the outline of a hole, and apply the rule."

Value = TypeVar("Value")

_NOT_CONTENT = ("out", "config", "arm", "seed", "collect", "list", "wandb")


def parse_config(arguments: list[str]) -> ClaimConfig:
    """Parse and check the arguments of `maskrobust claim`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: arguments contradict each other.
    """
    import_data_modules()
    parser = _parser()
    parsed = parser.parse_args(arguments)
    plain = parser.dump(parsed, format="json", skip_unset=False)
    content = {key: value for key, value in json.loads(plain).items() if key not in _NOT_CONTENT}
    made = parser.instantiate(parsed)
    check_networks(made.arms)
    config = ClaimConfig(
        out=Path(made.out),
        data=made.data,
        arms=made.arms,
        models={name: _arm_model(name, made.arms, content["model"]) for name in made.arms},
        seeds=made.seeds,
        training=made.training,
        evaluation=made.evaluation,
        rule=made.rule,
        question=made.question,
        content=content,
        only_arms=list(dict.fromkeys(_as_list(made.arm))) or list(made.arms),
        only_seeds=list(dict.fromkeys(_as_list(made.seed))) or made.seeds,
        collect=made.collect,
        wandb=wandb_options(made.wandb),
        list_parts=made.list,
    )
    check(config)
    check_part(config, is_named=made.arm is not None or made.seed is not None)
    return config


def _as_list(given: Value | list[Value] | None) -> list[Value]:
    """One value, several, or none."""
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="maskrobust claim", description=_DESCRIPTION, **PARSER_OPTIONS)
    parser.add_argument("--config", action="config", help="YAML with everything below; a shipped name or a path")
    parser.add_argument("--out", type=str, required=True, help="folder for claim.json, report.html and the arms")
    parser.add_argument("--arm", type=str | list[str] | None, help="make the runs of these arms alone; see --collect")
    parser.add_argument("--seed", type=int | list[int] | None, help="make the runs of these seeds alone")
    parser.add_argument("--collect", action="store_true", help="join what such processes have made; train nothing")
    parser.add_argument(
        "--wandb",
        type=bool | WandbOptions,
        default=False,
        help="log each training to Weights & Biases as a run of its own, as --wandb of fit does",
    )
    parser.add_argument("--list", action="store_true", help="print the options of processes that can share the runs")
    parser.add_argument("--question", type=str, required=True, help="one sentence for the report")
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    parser.add_argument(
        "--model", type=dict[str, Any], default={}, help="arguments of MaskRobustClassifier, for all arms"
    )
    parser.add_argument("--arms", type=dict[str, Arm], required=True, help="what is compared, by name; see --arms.help")
    parser.add_argument("--seeds", type=list[int], required=True, help="of the runs of each arm: [1, 2, 3]")
    parser.add_argument("--training", type=Training, required=True)
    parser.add_argument("--evaluation", type=Evaluation, required=True)
    parser.add_argument("--rule", type=Rule, required=True)
    return parser


def _arm_model(name: str, arms: dict[str, Arm], base: dict[str, Any]) -> dict[str, Any]:
    """All model arguments of an arm; they begin with those of the arm whose network it uses."""
    network_of = arms[name].network_of
    trained = {} if network_of is None else arms[network_of].model
    parser = ArgumentParser(**PARSER_OPTIONS)
    parser.add_class_arguments(MaskRobustClassifier, skip=set(SET_BY_THE_CLAIM))
    try:
        parsed = parser.parse_object({**base, **trained, **arms[name].model})
    except ArgumentError as error:
        raise InputError(
            f"arm '{name}' does not fit the model (see model and arms.{name}.model): {about_arguments(error)}; "
            "correct it there."
        ) from error
    model: dict[str, Any] = json.loads(parser.dump(parsed, format="json", skip_unset=False))
    return model
