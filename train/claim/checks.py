"""The arguments of `maskrobust claim`, from the command line or a YAML, parsed and checked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from maskrobust.augment import OTHER_IMAGE, read_fills
from maskrobust.errors import InputError, check_distinct
from maskrobust.lm_modules.methods import LAYER_MASKINGS, MaskingMethod, check_methods
from maskrobust.lm_modules.reliance.catalogue import import_measures
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.classifier_arguments import check_arguments
from maskrobust.lm_modules.training.optimisation import defaults_of
from maskrobust.lm_modules.training.training_masks import evaluation_fill
from maskrobust.train.claim.config import Arm, ClaimConfig, DecisionRule, Evaluation, Training
from maskrobust.train.command_line import PARSER_OPTIONS, Parser, import_data_modules
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.data.base import check_labelled
from maskrobust.train.error_sentences import about_arguments

_DESCRIPTION = "Train matched arms, measure what each reads from the outline of a hole, and apply the rule."

_SET_BY_THE_CLAIM = {"num_classes", "mean", "std", "seed", "weights", "new_head"}
"""Model arguments that a configuration cannot give: they follow from the data and from the seed of a run."""

_FROM_DATA = {"mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}  # stand-ins: data need not be there yet
_NOT_CONTENT = ("out", "config")


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
    config = ClaimConfig(
        **{name: made[name] for name in ("data", "arms", "seeds", "training", "evaluation", "rule", "question")},
        out=Path(made.out),
        models={name: _arm_model(name, arm, content["model"]) for name, arm in made.arms.items()},
        content=content,
    )
    _check(config)
    return config


def _parser() -> ArgumentParser:
    parser = Parser(prog="maskrobust claim", description=_DESCRIPTION, **PARSER_OPTIONS)
    parser.add_argument("--config", action="config", help="YAML with everything below; a shipped name or a path")
    parser.add_argument("--out", type=str, required=True, help="folder for claim.json, report.html and the arms")
    parser.add_argument("--question", type=str, required=True, help="one sentence for the report")
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    parser.add_argument(
        "--model", type=dict[str, Any], default={}, help="arguments of MaskRobustClassifier, for all arms"
    )
    parser.add_argument(
        "--arms",
        type=dict[str, Arm],
        required=True,
        help="the ways to train that are compared, by name; see docs/claim.md",
    )
    parser.add_argument(
        "--seeds", type=list[int], required=True, help="seeds of the runs of each arm, such as [1, 2, 3]"
    )
    parser.add_argument("--training", type=Training, required=True)
    parser.add_argument("--evaluation", type=Evaluation, required=True)
    parser.add_argument("--rule", type=DecisionRule, required=True)
    return parser


def _arm_model(name: str, arm: Arm, base: Mapping[str, Any]) -> dict[str, Any]:
    """All model arguments of an arm."""
    parser = Parser(**PARSER_OPTIONS)
    parser.add_class_arguments(MaskRobustClassifier, skip=set(_SET_BY_THE_CLAIM))
    try:
        parsed = parser.parse_object({**base, **arm.model})
    except ArgumentError as error:
        raise InputError(
            f"arm '{name}' does not fit the model ({about_arguments(error)}); correct model or arms.{name}.model."
        ) from error
    model: dict[str, Any] = parsed.as_dict()
    return model


def _check(config: ClaimConfig) -> None:
    """Refuse sections that contradict each other."""
    check_methods(config.evaluation.methods, "evaluation.methods")
    import_measures(config.evaluation.plan.own_measures)
    for name, model in config.models.items():
        try:
            check_arguments({**model, **_FROM_DATA, **defaults_of({"weights": None, **model})})
        except InputError as error:
            raise InputError(f"arm '{name}' does not fit the model: {error}") from error
    _check_arms(config)
    _check_plan(config.evaluation.plan)
    check_labelled(config.data, "a claim")
    check_distinct("seeds", config.seeds)


def _check_plan(plan: ReliancePlan) -> None:
    if not plan.shapes or not plan.hidden_fractions or plan.hidden_fractions[0] == 0.0:
        raise InputError(
            "evaluation.plan must have shapes true, and first in hidden_fractions one above 0, for the rule compares "
            f"these, got {plan.shapes} and {list(plan.hidden_fractions)}; correct them."
        )


def _check_arms(config: ClaimConfig) -> None:
    arms, evaluation, rule = config.arms, config.evaluation, config.rule
    for role in ("baseline", "layer_masking_arm"):
        if getattr(rule, role) not in arms:
            raise InputError(
                f"rule.{role} must be one of the arms {', '.join(arms)}, got '{getattr(rule, role)}'; name one of them."
            )
    for name in arms:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(
                f"an arm's name must be letters, digits, '_' and '-' (it names a folder), got '{name}'; rename it, and "
                "say the rest in its title."
            )
    if config.models[rule.baseline]["masking"] != "none":
        raise InputError(
            "rule.baseline must be an arm with masking 'none', for the first claim asks whether a network that was "
            f"never trained on masks relies on outlines, got '{rule.baseline}'; name another arm."
        )
    if rule.layer_masking_arm == rule.baseline or arms[rule.layer_masking_arm].augmentation_only:
        raise InputError(
            "rule.layer_masking_arm must be neither the baseline nor augmentation_only, got "
            f"'{rule.layer_masking_arm}'; name another arm."
        )
    if not any(arm.augmentation_only for arm in arms.values()):
        raise InputError(
            "arms must hold at least one with augmentation_only true, got none; mark those that the claim is about."
        )
    for name, arm in arms.items():
        _check_training(name, arm, config.models[name])
        if arm.method not in evaluation.methods:
            raise InputError(
                f"evaluation.methods must contain '{arm.method}', the method of arm '{name}', got "
                f"{', '.join(evaluation.methods)}; add it."
            )


def _check_training(name: str, arm: Arm, model: Mapping[str, Any]) -> None:
    """Check that an augmentation-only arm masks by fills alone, and that an arm names a method that it trains with."""
    if arm.augmentation_only and model["masking"] != "fill":
        raise InputError(
            f"arm '{name}' is augmentation_only, so masking must be 'fill', got '{model['masking']}'; correct one of "
            "them."
        )
    trained_on = _methods_trained_on(model)
    if trained_on and arm.method not in trained_on:
        raise InputError(
            f"the method of arm '{name}' must be one that it is trained on, {' or '.join(trained_on)}, got "
            f"'{arm.method}'; correct arms.{name}.method."
        )


def _methods_trained_on(model: Mapping[str, Any]) -> list[MaskingMethod]:
    """The masking methods that show a hole as a training does; none where it masks nothing."""
    found = []
    if model["masking"] in ("layer_masking", "mixture"):
        found.append(LAYER_MASKINGS[(model["layer_masking"] or {}).get("padding", "mean")])
    if model["masking"] in ("fill", "mixture"):
        fills = [each.name for each in read_fills(model["fill"]) if each.weight > 0 and each.name != OTHER_IMAGE]
        found += fills or [evaluation_fill(model["fill"])]  # no method shows the pixels of other images
    return found
