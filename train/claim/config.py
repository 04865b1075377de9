"""The claim's configuration: data, arms, seeds, budget, evaluation and the rule, all stated before any training."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from jsonargparse import ArgumentError, ArgumentParser

from lm_modules import MaskingMethod, MaskRobustClassifier
from train.arguments import PARSER_OPTIONS, import_data_modules
from train.data import AnnotatedDataModule
from train.data.base import Split

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Value = TypeVar("Value")

SET_BY_THE_CLAIM = {"num_classes", "mean", "std", "seed", "init_weights", "new_head"}
"""Model arguments that a configuration cannot give: they follow from the data and from the seed of a run."""

_NOT_CONTENT = ("out", "config", "arm", "seed", "collect")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: as it appears in tables.
        augmentation_only: whether the claim speaks about it: masks as augmentation, no layer masking in training.
        method: masking method under which the rule looks at it: one that its training has prepared it for.
        model: arguments of `MaskRobustClassifier` that differ from the configuration's model.
    """

    title: str
    augmentation_only: bool = False
    method: MaskingMethod = "black"
    model: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """The budget of one run, the same for every arm.

    Attributes:
        epochs: passes over the training split, at least 1.
        accelerator: "auto", "cpu" or "gpu", as in Lightning.
        precision: as in Lightning.
    """

    epochs: int
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Precision = "32-true"


@dataclass(frozen=True)
class Evaluation:
    """How every trained network is measured.

    Attributes:
        methods: masking methods, each applied to every network.
        patch_size: side in pixels of the patches of the retention measure.
        hidden_fraction: share of patches hidden for it.
        seed: of the evaluation masks.
        replicates: bootstrap resamples behind every interval.
        split: of which split the images are; "val" to choose between settings before the test split is looked at.
    """

    methods: list[MaskingMethod]
    patch_size: int = 8
    hidden_fraction: float = 0.5
    seed: int = 0
    replicates: int = 2000
    split: Split = "test"


@dataclass(frozen=True)
class Rule:
    """When the claim counts as supported or refuted.

    Attributes:
        baseline: arm whose clean accuracy the others must come near.
        layer_masking_arm: arm that every augmentation-only arm is compared with.
        margin: by how much the magnitudes of used shares must differ to count.
        clean_accuracy_tolerance: an arm counts when it loses at most this much clean accuracy against the baseline.
        confidence: of all comparisons together; divided among them (Bonferroni).
    """

    baseline: str
    layer_masking_arm: str
    margin: float = 0.05
    clean_accuracy_tolerance: float = 0.03
    confidence: float = 0.95


@dataclass(frozen=True)
class ClaimConfig:
    """A checked configuration.

    Attributes:
        out: folder of all results.
        data: the data module, instantiated.
        arms: by name, in the order of tables.
        models: full arguments of `MaskRobustClassifier` for each arm, without those of `SET_BY_THE_CLAIM`.
        seeds: of the runs of each arm.
        training: budget of a run.
        evaluation: how networks are measured.
        rule: how the claim is decided.
        question: one sentence for the report.
        content: everything above but `out` as plain values, for the report and for fingerprints.
        only_arms: the arms that this process runs; all where it is the only one.
        only_seeds: the seeds that this process runs; all where it is the only one.
        collect: join what other processes have run, and run nothing.
    """

    out: Path
    data: AnnotatedDataModule
    arms: dict[str, Arm]
    models: dict[str, dict[str, Any]]
    seeds: list[int]
    training: Training
    evaluation: Evaluation
    rule: Rule
    question: str
    content: dict[str, Any]
    only_arms: list[str]
    only_seeds: list[int]
    collect: bool

    @property
    def is_part(self) -> bool:
        """Whether this process runs some of the runs alone, and leaves the verdict to `--collect`."""
        return len(self.only_arms) < len(self.arms) or len(self.only_seeds) < len(self.seeds)

    def content_of(self, section: str) -> Any:
        """A section of `content` without what changes no network and no prediction: loader processes, replicates."""
        return _without(self.content[section], ("num_workers", "replicates"))


def parse_config(arguments: list[str]) -> ClaimConfig:
    """Parse and check the arguments of `maskrobust claim`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        ValueError: arguments contradict each other.
    """
    import_data_modules()
    parser = _parser()
    parsed = parser.parse_args(arguments)
    plain = parser.dump(parsed, format="json", skip_unset=False)
    content = {key: value for key, value in json.loads(plain).items() if key not in _NOT_CONTENT}
    made = parser.instantiate(parsed)
    config = ClaimConfig(
        out=Path(made.out),
        data=made.data,
        arms=made.arms,
        models={name: _arm_model(name, arm, content["model"]) for name, arm in made.arms.items()},
        seeds=made.seeds,
        training=made.training,
        evaluation=made.evaluation,
        rule=made.rule,
        question=made.question,
        content=content,
        only_arms=_as_list(made.arm) or list(made.arms),
        only_seeds=_as_list(made.seed) or made.seeds,
        collect=made.collect,
    )
    _check(config)
    return config


def fingerprint(content: Any) -> str:
    """A short name for plain values: equal for equal values, different otherwise.

    Args:
        content: anything JSON can hold.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _without(content: Any, keys: Sequence[str]) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: _without(value, keys) for key, value in content.items() if key not in keys}


def _as_list(given: Value | list[Value] | None) -> list[Value]:
    """One value, several, or none."""
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="maskrobust claim", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--config", action="config", help="YAML with everything below; a shipped name or a path")
    parser.add_argument("--out", type=str, required=True, help="folder for claim.json, report.html and the arms")
    parser.add_argument("--arm", type=str | list[str] | None, help="run these arms alone, for a job array; see --collect")
    parser.add_argument("--seed", type=int | list[int] | None, help="run these seeds alone, for a job array")
    parser.add_argument("--collect", type=bool, default=False, help="join what such jobs have run; train nothing")
    parser.add_argument("--question", type=str, required=True, help="one sentence for the report")
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    parser.add_argument(
        "--model", type=dict[str, Any], default={}, help="arguments of MaskRobustClassifier, for all arms"
    )
    parser.add_argument("--arms", type=dict[str, Arm], required=True)
    parser.add_argument("--seeds", type=list[int], required=True)
    parser.add_argument("--training", type=Training, required=True)
    parser.add_argument("--evaluation", type=Evaluation, required=True)
    parser.add_argument("--rule", type=Rule, required=True)
    return parser


def _arm_model(name: str, arm: Arm, base: dict[str, Any]) -> dict[str, Any]:
    parser = ArgumentParser(**PARSER_OPTIONS)
    parser.add_class_arguments(MaskRobustClassifier, skip=set(SET_BY_THE_CLAIM))
    try:
        parsed = parser.parse_object({**base, **arm.model})
    except ArgumentError as error:
        raise ValueError(
            f"arm '{name}' does not fit the model: {error.message.rstrip('.')}; correct model or arms.{name}.model."
        ) from error
    model: dict[str, Any] = json.loads(parser.dump(parsed, format="json", skip_unset=False))
    return model


def _check(config: ClaimConfig) -> None:
    _check_arms(config)
    seeds, training, evaluation = config.seeds, config.training, config.evaluation
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be a list of different numbers, got {seeds}; give each once.")
    if training.epochs < 1:
        raise ValueError(f"training.epochs must be at least 1, got {training.epochs}; raise it.")
    if not 0.0 < evaluation.hidden_fraction <= 1.0:
        raise ValueError(
            f"evaluation.hidden_fraction must lie in (0, 1], got {evaluation.hidden_fraction}; 0.5 is usual."
        )
    for name in ("patch_size", "replicates"):
        if getattr(evaluation, name) < 1:
            raise ValueError(f"evaluation.{name} must be at least 1, got {getattr(evaluation, name)}; raise it.")
    if not 0.0 < config.rule.confidence < 1.0:
        raise ValueError(f"rule.confidence must lie between 0 and 1, got {config.rule.confidence}; 0.95 is usual.")


def _check_arms(config: ClaimConfig) -> None:
    arms, evaluation, rule = config.arms, config.evaluation, config.rule
    for role in ("baseline", "layer_masking_arm"):
        if getattr(rule, role) not in arms:
            raise ValueError(
                f"rule.{role} must be one of the arms {', '.join(arms)}, got '{getattr(rule, role)}'; name one of them."
            )
    for name in arms:
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ValueError(
                f"an arm's name must be letters, digits, '_' and '-' (it names a folder), got '{name}'; rename it, and "
                "say the rest in its title."
            )
    if rule.layer_masking_arm == rule.baseline or arms[rule.layer_masking_arm].augmentation_only:
        raise ValueError(
            "rule.layer_masking_arm must be neither the baseline nor augmentation_only, got "
            f"'{rule.layer_masking_arm}'; name another arm."
        )
    if not any(arm.augmentation_only for arm in arms.values()):
        raise ValueError(
            "arms must hold at least one with augmentation_only true, got none; mark those that the claim is about."
        )
    for name, arm in arms.items():
        if arm.augmentation_only and config.models[name]["masking"] != "fill":
            masking = config.models[name]["masking"]
            raise ValueError(
                f"arm '{name}' is augmentation_only, so masking must be 'fill', got '{masking}'; correct one of them."
            )
    for part in ("margin", "clean_accuracy_tolerance"):
        if getattr(rule, part) < 0:
            raise ValueError(f"rule.{part} must be at least 0, got {getattr(rule, part)}; raise it.")
    for name, arm in arms.items():
        if arm.method not in evaluation.methods:
            raise ValueError(
                f"evaluation.methods must contain '{arm.method}', the method of arm '{name}', got "
                f"{', '.join(evaluation.methods)}; add it."
            )
