"""`ClaimConfig`: data, arms, seeds, evaluation and the rule, all stated before any training."""

import shlex
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from maskrobust.lm_modules.methods import MaskingMethod, Predictor, is_fill
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.plan import ReliancePlan, with_transfer_methods
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.fit.loggers import WandbOptions
from maskrobust.train.running.progress import ClaimProgress
from maskrobust.train.storage.files import write_json
from maskrobust.train.storage.provenance import provenance
from maskrobust.train.storage.store import Store
from maskrobust.train.types import Split

STATE = "state.ckpt"
"""The newest state of a training in an unfinished folder."""

RECORD = "training.json"
"""What is recorded about a training, for people."""

_ANSWERS = "answers"


@dataclass(frozen=True)
class StoredRun:
    """One run of one arm on disk.

    Attributes:
        arm: name of the arm that makes it.
        seed: of the run.
        folder: of all that follows.
        learned: what it has learned: the weights of its network, or the affine maps of a calibration.
        trained: keeps that, by the name of `folder`; its settings are all that this follows from.
        methods: masking methods that it is asked under.
        answered: keeps its answers; its settings are all that these follow from.
    """

    arm: str
    seed: int
    folder: Path
    learned: Path
    trained: Store
    methods: tuple[MaskingMethod, ...]
    answered: Store

    def is_trained(self) -> bool:
        """Whether what it has learned is there; an InputError where that has other settings."""
        return self.trained.get(self.folder.name) is not None

    def is_measured(self) -> bool:
        """Whether its answers are there; an InputError where those have other settings."""
        return self.answered.get(_ANSWERS) is not None

    def learn(self, learn: Callable[[Path], dict[str, Any]]) -> None:
        """Make the run where it is not there; see `Store.get_or_make`.

        Args:
            learn: writes what is learned into the folder that it is given, and returns what to record about it.
        """

        def make(folder: Path) -> None:
            start = time.monotonic()
            found = learn(folder)
            origin = provenance(time.monotonic() - start, shlex.join(sys.argv))
            write_json(folder / RECORD, {**found, "provenance": origin})
            (folder / STATE).unlink(missing_ok=True)

        self.trained.get_or_make(self.folder.name, make)

    def newest_state(self) -> Path | None:
        """The newest state of a training of this run that has not been finished; None where there is none."""
        return self.trained.newest_unfinished(self.folder.name, STATE)

    def answers(self, make: Callable[[Path], object]) -> Path:
        """The folder of its answers, into which `make` writes them where they are not there."""
        return self.answered.get_or_make(_ANSWERS, make)


if TYPE_CHECKING:
    NonNegativeFloat = float
    OpenUnitInterval = float
    PositiveInt = int
else:  # ranges that the argument parser checks
    from jsonargparse.typing import NonNegativeFloat, OpenUnitInterval, PositiveInt

TrainerPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Arm(ABC):
    """One thing that is compared; `maskrobust.train.claim.arms` holds the kinds of arm.

    Attributes:
        title: as it appears in tables.
        augmentation_only: whether the claim speaks about it: masks as augmentation, no layer masking in training.
        method: masking method of its own: one that its training has prepared it for.
        network_of: arm whose trained network of the same seed it uses; None to train one of its own.
        model: arguments of `MaskRobustClassifier` that differ from the configuration's model.
    """

    title: str
    augmentation_only: bool = False
    method: MaskingMethod = "black"
    network_of: str | None = None
    model: dict[str, Any] = field(default_factory=dict)

    @abstractmethod
    def check(self, name: str, arms: Mapping[str, "Arm"], model: Mapping[str, Any]) -> None:
        """Refuse what this kind of arm must not say.

        Args:
            name: of the arm.
            arms: all arms by name.
            model: all model arguments of the arm.

        Raises:
            InputError: naming the arm, what was given, and what to do.
        """

    def measured_as(self, name: str) -> str:
        """Name of the arm whose runs hold the outcomes of this one, which is called `name`."""
        return name


class LearningArm(Arm):
    """An arm with runs of its own, each of which learns something.

    Attributes:
        learned: name of the file that holds what a run has learned.
    """

    learned: ClassVar[str]

    @abstractmethod
    def follows_from(self, config: "ClaimConfig", name: str, seed: int) -> dict[str, Any]:
        """All that decides what a run learns, as plain values by name."""

    @abstractmethod
    def learn(self, config: "ClaimConfig", run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
        """Write what a run learns to `folder / learned`.

        Args:
            config: the claim.
            run: to make.
            folder: where to write.
            progress: told about every step.

        Returns:
            What to record about it, as plain values.

        Raises:
            InputError: the training diverged.
        """

    def predictors(self, run: StoredRun, network: TrainedNetwork) -> dict[MaskingMethod, Predictor]:
        """What the arm predicts by masking method, where that is not what its network predicts itself.

        Methods are those without `methods.CENTRED`: the measurement centres what is predicted under them.

        Args:
            run: that is there.
            network: with the trained weights, in eval mode.
        """
        return {}


@dataclass(frozen=True)
class Training:
    """The budget of one run, the same for every arm.

    Attributes:
        epochs: passes over the training split.
        accelerator: "auto" for a GPU with float64 if there is one, else the CPU; "cpu" or "gpu" as in Lightning.
        precision: precision as in Lightning.
        images_by_seed: whether each seed trains on images of its own, which `Cues` and `Fashion` can draw. The test
            images stay the same.
    """

    epochs: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: TrainerPrecision = "32-true"
    images_by_seed: bool = False


@dataclass(frozen=True)
class Evaluation:
    """How every trained network is measured.

    Attributes:
        methods: masking methods under which every network is measured.
        plan: what is measured; see `ReliancePlan`. The first of hidden_fractions is that of the accuracy which fills
            must keep. With shape_measures empty there is no swap pull. Curves are drawn for each arm under its own
            method.
        transfer_methods: masking methods of the transfer matrix's rows, in addition to `methods`.
        seed: seed of the evaluation masks.
        replicates: bootstrap resamples for each interval.
        split: which split to use. Take "val" to choose settings before the test split is looked at.
    """

    methods: list[MaskingMethod]
    plan: ReliancePlan = field(default_factory=ReliancePlan)
    transfer_methods: tuple[MaskingMethod, ...] = ()
    seed: int = 0
    replicates: PositiveInt = 2000
    split: Split = "test"

    @property
    def hidden_fraction(self) -> float:
        """Fraction of patches hidden for the accuracy that fills must keep."""
        return self.plan.hidden_fractions[0]

    @property
    def fills(self) -> list[MaskingMethod]:
        """The masking methods that fill the hole."""
        return [method for method in self.methods if is_fill(method)]

    def plans(self, own_methods: Collection[MaskingMethod]) -> dict[MaskingMethod, ReliancePlan]:
        """What a network is asked under each masking method.

        Args:
            own_methods: of its arms: curves are drawn for these.
        """
        without_curves = replace(self.plan, curve_families=())
        by_method = {method: self.plan if method in own_methods else without_curves for method in self.methods}
        return with_transfer_methods(by_method, self.transfer_methods)

    @property
    def validation_plans(self) -> dict[MaskingMethod, ReliancePlan]:
        """What a network is asked on the validation split: images with nothing hidden, under any one method."""
        return {self.methods[0]: ReliancePlan(hidden_fractions=(), shapes=False)}


@dataclass(frozen=True)
class DecisionRule:
    """When the claim counts as supported or refuted.

    Attributes:
        baseline: arm whose clean accuracy the others must come near.
        layer_masking_arm: arm that every augmentation-only arm is compared with.
        margin: difference of reliance from which on it counts.
        clean_accuracy_tolerance: loss of clean accuracy against the baseline; an arm that is shown to lose more does
            not count.
        retention_tolerance: a fill fails if it is shown to keep less accuracy with patches hidden than the
            layer-masking arm under its own method, by more than this.
        confidence: confidence of a verdict, which is wrong in at most half of 1 - confidence of experiments.
    """

    baseline: str
    layer_masking_arm: str
    margin: NonNegativeFloat = 0.05
    clean_accuracy_tolerance: NonNegativeFloat = 0.03
    retention_tolerance: NonNegativeFloat = 0.03
    confidence: OpenUnitInterval = 0.95


@dataclass(frozen=True)
class ClaimConfig:
    """A checked configuration.

    Attributes:
        out: folder of all results.
        data: the data module, instantiated.
        arms: by name, in the order of tables.
        models: full arguments of `MaskRobustClassifier` for each arm, without those that the claim sets.
        seeds: of the runs of each arm.
        training: budget of a run.
        evaluation: how networks are measured.
        rule: how the claim is decided.
        question: one sentence for the report.
        content: everything above but `out` as plain values, for the report and for fingerprints.
        only_arms: the arms that this process runs; all where it is the only one.
        only_seeds: the seeds that this process runs; all where it is the only one.
        collect: join what other processes have run, and run nothing.
        wandb: how trainings appear in Weights & Biases; None to log them to CSV files alone.
        list_parts: say how the runs can be shared among processes, and run nothing.
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
    only_arms: list[str]
    only_seeds: list[int]
    collect: bool
    wandb: WandbOptions | None
    list_parts: bool

    @property
    def execution_order(self) -> list[str]:
        """All arms, those that train before those that use their networks."""
        return sorted(self.arms, key=lambda name: self.arms[name].network_of is not None)

    def plans_of(self, arm: str) -> dict[MaskingMethod, ReliancePlan]:
        """What an arm is asked under each masking method, with curves for all arms that share its outcomes."""
        return self.evaluation.plans(self._own_methods(arm))

    def _own_methods(self, arm: str) -> list[MaskingMethod]:
        measured = self.arms[arm].measured_as(arm)
        return [other.method for name, other in self.arms.items() if other.measured_as(name) == measured]

    def learning_arm(self, arm: str) -> LearningArm:
        """The arm that makes the runs which hold an arm's outcomes."""
        found = self.arms[self.arms[arm].measured_as(arm)]
        assert isinstance(found, LearningArm)  # which the check of the other kinds sees to
        return found

    def run_of(self, arm: str, seed: int) -> StoredRun:
        """The run that holds an arm's outcomes."""
        name, learning = self.arms[arm].measured_as(arm), self.learning_arm(arm)
        folder = self.out / "arms" / name / f"seed-{seed}"
        settings = flattened(learning.follows_from(self, name, seed))
        checks = self.manipulation_checks if learning.network_of is None else {}
        evaluated = {"evaluation": self.content_of("evaluation"), "own methods": self._own_methods(name)}
        return StoredRun(
            arm=name,
            seed=seed,
            folder=folder,
            learned=folder / learning.learned,
            trained=Store(folder.parent, settings),
            methods=tuple(self.plans_of(name)),
            answered=Store(folder, settings | flattened({**evaluated, "manipulation_checks": checks})),
        )

    def source_of(self, arm: str, seed: int) -> StoredRun:
        """The run that has trained the network of an arm."""
        return self.run_of(self.arms[arm].network_of or arm, seed)

    @property
    def manipulation_checks(self) -> dict[str, dict[str, Any]]:
        """Model arguments of the arms that train on masks, by which `claim.manipulation_check` asks every network."""
        return {
            name: self.models[name]
            for name, arm in self.arms.items()
            if arm.network_of is None and self.models[name]["masking"] != "none"
        }

    @property
    def is_part(self) -> bool:
        """Whether this process runs some of the runs alone, and leaves the verdict to `--collect`."""
        return len(self.only_arms) < len(self.arms) or len(self.only_seeds) < len(self.seeds)

    def content_of(self, section: str) -> Any:
        """A section of `content` without what changes no network and no prediction: loader processes, replicates."""
        return _without(self.content[section], ("num_workers", "replicates"))


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
