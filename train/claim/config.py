"""The claim's configuration: data, arms, seeds, budget, evaluation and the rule, all stated before any training."""

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from maskrobust.augment import FamilyName
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.curves import CurveFamily
from maskrobust.lm_modules.reliance.plan import ReliancePlan, with_transfer_methods
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.data.base import Split
from maskrobust.train.loggers import WandbOptions

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

SET_BY_THE_CLAIM = {"num_classes", "mean", "std", "seed", "init_weights", "new_head"}
"""Model arguments that a configuration cannot give: they follow from the data and from the seed of a run."""

MASK_OPTIONS = ("mask_family", "hidden_fraction", "patch_size")
"""Model arguments that say which holes a calibration is fitted on."""

CALIBRATION_IMAGES = 4000
"""How many training images, the first in order of ids, a calibration is fitted on at most."""


@dataclass(frozen=True)
class Arm:
    """One way to train, or to use what another arm has trained.

    Attributes:
        title: as it appears in tables.
        augmentation_only: whether the claim speaks about it: masks as augmentation, no layer masking in training.
        method: masking method under which the rule looks at it: one that its training has prepared it for.
        network_of: arm whose trained network of the same seed it uses, instead of one of its own. Unless `calibration`
            is true its outcomes are those of that arm, looked at under its own `method`.
        calibration: put an affine map behind the logits of `network_of` where something is hidden, one for each masking
            method, fitted on masked training images so that they are predicted as with nothing hidden (MCal).
        model: arguments of `MaskRobustClassifier` that differ from the configuration's model; with `calibration` those
            of its masks (`MASK_OPTIONS`) alone, with `network_of` otherwise none.
    """

    title: str
    augmentation_only: bool = False
    method: MaskingMethod = "black"
    network_of: str | None = None
    calibration: bool = False
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
        curve_families: segments of the retention curves, drawn for each arm under its own method; none for no curves.
        transfer_families: mask families of the transfer matrix of each network; none for no matrix.
        transfer_methods: masking methods of its rows, beside `methods`.
        sampled_share: share in (0, 1] of the images that curves and matrix are asked about.
        features: whether to probe penultimate features for what they hold of the outline.
        layers: inner layers to probe as well, by which the outline may enter.
        own_measures: measures of your own, each named after its module as in my_module.my_measure.
    """

    methods: list[MaskingMethod]
    patch_size: int = 8
    hidden_fraction: float = 0.5
    seed: int = 0
    replicates: int = 2000
    split: Split = "test"
    curve_families: tuple[CurveFamily, ...] = ()
    transfer_families: tuple[FamilyName, ...] = ()
    transfer_methods: tuple[MaskingMethod, ...] = ()
    sampled_share: float = 1.0
    features: bool = False
    layers: tuple[str, ...] = ()
    own_measures: tuple[str, ...] = ()

    def plans(self, own_methods: Collection[MaskingMethod]) -> dict[MaskingMethod, ReliancePlan]:
        """What a network is asked under each masking method.

        Args:
            own_methods: those under which its arms are looked at: curves are drawn for these.
        """
        full = ReliancePlan(
            hidden_fractions=(self.hidden_fraction,),
            patch_size=self.patch_size,
            curve_families=self.curve_families,
            transfer_families=self.transfer_families,
            sampled_share=self.sampled_share,
            features=self.features,
            layers=self.layers,
            own_measures=self.own_measures,
        )
        without_curves = replace(full, curve_families=())
        by_method = {method: full if method in own_methods else without_curves for method in self.methods}
        return with_transfer_methods(by_method, self.transfer_methods)


@dataclass(frozen=True)
class Rule:
    """When the claim counts as supported or refuted.

    Attributes:
        baseline: arm whose clean accuracy the others must come near.
        layer_masking_arm: arm that every augmentation-only arm is compared with.
        margin: by how much the magnitudes of used shares must differ to count.
        clean_accuracy_tolerance: an arm counts when it loses at most this much clean accuracy against the baseline.
        confidence: of the bounds of all comparisons together; divided among them by Holm's procedure.
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
    rule: Rule
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
        """What the network of an arm is asked under each masking method, for all arms that look at it as it is."""
        given = self.arms[arm]
        network = arm if given.network_of is None or given.calibration else given.network_of
        own_methods = {
            other.method
            for name, other in self.arms.items()
            if name == network or (other.network_of == network and not other.calibration)
        }
        return self.evaluation.plans(own_methods)

    @property
    def is_part(self) -> bool:
        """Whether this process runs some of the runs alone, and leaves the verdict to `--collect`."""
        return len(self.only_arms) < len(self.arms) or len(self.only_seeds) < len(self.seeds)

    def content_of(self, section: str) -> Any:
        """A section of `content` without what changes no network and no prediction: loader processes, replicates."""
        return _without(self.content[section], ("num_workers", "replicates"))


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
