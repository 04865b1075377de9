"""`ClaimConfig`: data, arms, seeds, evaluation and the rule, all stated before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from maskrobust.lm_modules.methods import MaskingMethod, is_fill
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.data_options import Split
from maskrobust.train.storage.store import Store

ANSWERS = "answers"
"""The folder of what a run answers."""


WEIGHTS = "weights.safetensors"
"""The file of trained weights in the folder of a run."""


class StoredRun(NamedTuple):
    """One run of one arm on disk.

    Attributes:
        arm: name of the arm.
        seed: seed of the run.
        folder: the folder that holds weights and answers.
        trained: keeps that, by the name of `folder`; its settings are all that the weights follow from.
        answered: keeps `ANSWERS` in it; its settings are all that these follow from.
    """

    arm: str
    seed: int
    folder: Path
    trained: Store
    answered: Store

    def is_measured(self) -> bool:
        """Whether its answers are there; an InputError where those have other settings."""
        return self.answered.get(ANSWERS) is not None


if TYPE_CHECKING:
    NonNegativeFloat = float
    OpenUnitInterval = float
    PositiveInt = int
else:  # ranges that the argument parser checks
    from jsonargparse.typing import NonNegativeFloat, OpenUnitInterval, PositiveInt

TrainerPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Arm:
    """One way to train that is compared, with a network for each seed.

    Attributes:
        title: what tables call it.
        augmentation_only: whether the claim speaks about it: masks as augmentation, no layer masking in training.
        method: masking method of its own: one that its training has prepared it for.
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
        epochs: passes over the training split.
        accelerator: "auto" for a GPU with float64 if there is one, else the CPU; "cpu" or "gpu" as in Lightning.
        precision: precision as in Lightning.
    """

    epochs: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: TrainerPrecision = "32-true"


@dataclass(frozen=True)
class Evaluation:
    """How every trained network is measured.

    Attributes:
        methods: masking methods under which every network is measured.
        plan: what is measured; see `ReliancePlan`. The first of hidden_fractions is that of the accuracy which fills
            must keep. Curves are drawn for each arm under its own method.
        seed: seed of the evaluation masks.
        split: which split to use. Take "val" to choose settings before the test split is looked at.
    """

    methods: list[MaskingMethod]
    plan: ReliancePlan = field(default_factory=ReliancePlan)
    seed: int = 0
    split: Split = "test"

    @property
    def hidden_fraction(self) -> float:
        """Fraction of patches hidden for the accuracy that fills must keep."""
        return self.plan.hidden_fractions[0]

    @property
    def fills(self) -> list[MaskingMethod]:
        """The masking methods that fill the hole."""
        return [method for method in self.methods if is_fill(method)]


@dataclass(frozen=True)
class DecisionRule:
    """When the claim counts as supported or refuted.

    Attributes:
        baseline: arm whose clean accuracy the others must come near.
        layer_masking_arm: arm that every augmentation-only arm is compared with.
        margin: difference of shape choices, in [0, 1], from which on it counts.
        clean_accuracy_tolerance: loss of clean accuracy against the baseline; an arm that is shown to lose more does
            not count.
        retention_tolerance: a fill fails if it is shown to keep less accuracy with patches hidden than the
            layer-masking arm under its own method, by more than this.
        trainings: a fill does as well only if more than this fraction of trainings is shown not to rely.
        confidence: confidence of a verdict, which is wrong in at most half of 1 - confidence of experiments.
    """

    baseline: str
    layer_masking_arm: str
    margin: NonNegativeFloat = 0.05
    clean_accuracy_tolerance: NonNegativeFloat = 0.03
    retention_tolerance: NonNegativeFloat = 0.03
    trainings: OpenUnitInterval = 0.5
    confidence: OpenUnitInterval = 0.95


@dataclass(frozen=True)
class ClaimConfig:
    """A checked configuration.

    Attributes:
        out: folder of all results.
        data: the data module, instantiated.
        arms: the arms by name, in the order of tables.
        models: full arguments of `MaskRobustClassifier` for each arm, without those that the claim sets.
        seeds: seeds of the runs of each arm.
        training: budget of a run.
        evaluation: how networks are measured.
        rule: how the claim is decided.
        question: the question of the claim, one sentence for the report.
        content: everything above but `out` as plain values, for the report and for fingerprints.
    """

    out: Path
    data: AnnotatedDataModule
    arms: dict[str, Arm]
    models: dict[str, dict[str, Any]]
    seeds: list[int]
    training: Training
    evaluation: Evaluation
    rule: DecisionRule
    question: str
    content: dict[str, Any]

    def plans_of(self, arm: str) -> dict[MaskingMethod, ReliancePlan]:
        """What an arm is asked under each masking method, with curves under its own."""
        plan, own = self.evaluation.plan, self.arms[arm].method
        without = replace(plan, curve_families=())
        return {method: plan if method == own else without for method in self.evaluation.methods}

    def run_of(self, arm: str, seed: int) -> StoredRun:
        """The run of an arm with one seed."""
        folder = self.out / "arms" / arm / f"seed-{seed}"
        sections = {"data": self.content_of("data"), "training": self.content_of("training")}
        settings = flattened({**sections, "model": self.models[arm], "seed": seed})
        evaluated = {"evaluation": self.content_of("evaluation"), "own methods": [self.arms[arm].method]}
        return StoredRun(
            arm, seed, folder, Store(folder.parent, settings), Store(folder, settings | flattened(evaluated))
        )

    def content_of(self, section: str) -> Any:
        """A section of `content` without what changes no network and no prediction: loader processes."""
        return _without(self.content[section], ("num_workers",))


def flattened(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by names such as "model.learning_rate"."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _without(content: Any, keys: Sequence[str]) -> Any:
    if not isinstance(content, dict):
        return content
    return {key: _without(value, keys) for key, value in content.items() if key not in keys}
