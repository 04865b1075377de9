"""Make the runs of a claim, and keep what they answer, with the mask-only probe."""

import itertools
import math
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.augment.batch import first_images
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import Measurement, Plans, under_methods
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes, probe_outcomes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.training_masks import PresentedImages
from maskrobust.train.claim.arms import frozen_network, train
from maskrobust.train.claim.config import ANSWERS, ClaimConfig, StoredRun, flattened
from maskrobust.train.data.batches import batches_on, scenes_to_ask_about
from maskrobust.train.probe import train_outline_probe
from maskrobust.train.running.progress import ClaimProgress
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.storage.provenance import provenance
from maskrobust.train.storage.store import FolderTakenError, Store, locked
from maskrobust.train.types import Split

_PROBE_SEED = 0
_PROBE, _CHECKS = "outcomes.npz", "manipulation_check.json"

CHECK_IMAGES = 256
"""How many images of the measured split, from its first on, each check asks a network about."""


class MeasuredRun(NamedTuple):
    """What one run of an arm answers.

    Attributes:
        outcomes: the outcomes by masking method, on the split that is measured.
        validation: on the validation split, with nothing hidden.
        manipulation_check: for each arm, how accurate it is under the masks of that arm's training.
    """

    outcomes: Mapping[MaskingMethod, Outcomes]
    validation: Outcomes
    manipulation_check: Mapping[str, float | None]


def make_runs(config: ClaimConfig, progress: ClaimProgress) -> int:
    """Make all runs that are not on disk yet, but for those that other processes with the same folder are making.

    A network is trained by one process, which also measures it.

    Args:
        config: the claim, whose data are set up.
        progress: told about every step.

    Returns:
        How many runs are missing still.

    Raises:
        InputError: a training diverged, or a file is damaged.
    """
    bank = SilhouetteBank.from_batches(config.data.annotated_batches("val"))
    for seed, arm in itertools.product(config.seeds, config.arms):
        with suppress(FolderTakenError), locked(config.out / "arms" / arm / f".seed-{seed}"):
            if not config.run_of(arm, seed).is_measured():
                run_arm(config, arm, seed, bank, progress)
        progress.advance(progress.all_runs)
    return sum(not run.is_measured() for run in all_runs(config))


def run_arm(config: ClaimConfig, arm: str, seed: int, bank: SilhouetteBank, progress: ClaimProgress) -> None:
    """Train the network of one arm and ask it, as far as that is not on disk.

    Args:
        config: the claim.
        arm: name of the arm.
        seed: seed of initial weights, training masks and training order.
        bank: silhouettes for the swaps.
        progress: told about every step.

    Raises:
        InputError: the folder holds a run of this name with another configuration, or the training diverged.
    """
    run = config.run_of(arm, seed)
    if config.training.images_by_seed:
        config.data.draw_training(seed)

    def make(folder: Path) -> None:
        start = time.monotonic()
        found = train(config, run, folder, progress)
        origin = provenance(time.monotonic() - start, shlex.join(sys.argv))
        write_json(folder / "training.json", {**found, "provenance": origin})

    run.trained.get_or_make(run.folder.name, make)
    run.answers(lambda folder: _measure(config, run, bank, progress, folder))


def measured_run(config: ClaimConfig, arm: str, seed: int) -> MeasuredRun:
    """What a run answers that is on disk.

    Raises:
        InputError: a file is damaged.
    """
    run = config.run_of(arm, seed)
    answers = run.folder / ANSWERS

    def load(kind: str, method: MaskingMethod) -> Outcomes:
        return Outcomes.load(answers / f"{kind}-{method}.npz")

    outcomes = {method: load("outcomes", method) for method in run.methods}
    (asked,) = config.evaluation.validation_plans
    return MeasuredRun(outcomes, load("validation", asked), read_json(answers / _CHECKS))


def _measure(config: ClaimConfig, run: StoredRun, bank: SilhouetteBank, progress: ClaimProgress, folder: Path) -> None:
    """Ask a run's network, and write what it answers into a folder."""
    evaluation = config.evaluation
    classifier = frozen_network(config, run.arm, run.seed)
    network = classifier.trained_network(run.arm)
    progress.begin("measuring", f"{config.arms[run.arm].title}, seed {run.seed}")
    measurements: list[tuple[Split, Plans, str]] = [
        (evaluation.split, config.plans_of(run.arm), "outcomes"),
        ("val", evaluation.validation_plans, "validation"),
    ]
    for split, plans, kind in measurements:
        measurement = Measurement(
            under_methods({run.arm: network}, plans),
            bank,
            config.data.num_classes,
            seed=evaluation.seed,
            object_of=config.data.object_of,
            scenes=scenes_to_ask_about(config.data, split, plans.values(), classifier.device),
        )
        batches = batches_on(config.data.whole_split(split), classifier.device)
        found = measurement.run(progress.track(batches, task_id=progress.current))
        for (_, method), outcomes in found.items():
            outcomes.save(folder / f"{kind}-{method}.npz")
    few = Batch.cat([*first_images(config.data.whole_split(evaluation.split), CHECK_IMAGES)])
    write_json(folder / _CHECKS, manipulation_check(config, classifier, few.to(classifier.device)))


def measured_probe(config: ClaimConfig, progress: ClaimProgress) -> ProbeOutcomes:
    """What a network that sees nothing but object masks predicts on the split that is measured.

    Trained on the masks of the training split (its draw 0), stopped on the validation split's; once, and kept on disk.

    Raises:
        InputError: the folder holds a probe of other data, or a damaged file.
    """

    def make(folder: Path) -> None:
        progress.begin("training", "the mask-only probe")
        if config.training.images_by_seed:
            config.data.draw_training(0)
        probe = train_outline_probe(config.data, _PROBE_SEED)
        with torch.inference_mode():
            probe_outcomes(probe, config.data.whole_split(config.evaluation.split)).save(folder / _PROBE)

    settings = flattened({"data": config.content_of("data"), "split": config.evaluation.split, "seed": _PROBE_SEED})
    return ProbeOutcomes.load(Store(config.out, settings).get_or_make("probe", make) / _PROBE)


def all_runs(config: ClaimConfig) -> list[StoredRun]:
    """Every run of the claim once."""
    return [config.run_of(name, seed) for name in config.arms for seed in config.seeds]


def refuse_foreign(config: ClaimConfig) -> None:
    """Raise an InputError where the folder holds a run of another configuration, or a record that cannot be read."""
    for run in all_runs(config):
        run.trained.get(run.folder.name)
        run.is_measured()


def check_in_words(model: Mapping[str, Any]) -> str:
    """The quantity that is measured for a training with these arguments of `MaskRobustClassifier`."""
    if model["objective"] == "consistency":
        return "Same answer behind its training masks as with nothing hidden"
    if model["objective"] == "abstention":
        return "Entropy of the prediction where the object is hidden by a decoy, of the largest possible"
    return "Accuracy behind its training masks"


def manipulation_check(config: ClaimConfig, classifier: MaskRobustClassifier, few: Batch) -> dict[str, float | None]:
    """How well a network does in the task of each arm's training, in [0, 1]; see `check_in_words`.

    Every image is masked, by holes that follow from the evaluation's seed and the sample id.

    Args:
        config: the claim, whose data are set up.
        classifier: the network, in eval mode.
        few: images on its device.

    Returns:
        By the name of each arm that trains on masks; None where no image is masked so that it can be told.
    """
    return {arm: _check(config, model, classifier, few) for arm, model in config.manipulation_checks.items()}


def _check(config: ClaimConfig, model: Mapping[str, Any], classifier: MaskRobustClassifier, few: Batch) -> float | None:
    data, masks = config.data, {"mask_probability": 1.0, "mask_ramp": 0.0}
    pupil = MaskRobustClassifier(
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        **{**model, **masks, "seed": config.evaluation.seed, "weights": None},
    )
    pupil.network = classifier.network
    pupil.to(classifier.device).eval()
    pupil.build_masks(data)
    with torch.inference_mode():
        shown = pupil.present(few)
        scores, counted = _scores(pupil, few, shown)
    return scores[counted].double().mean().item() if counted.any() else None


def _scores(pupil: MaskRobustClassifier, few: Batch, shown: PresentedImages) -> tuple[Tensor, Tensor]:
    """A number in [0, 1] for each image, and which of them count: (B,) and (B,) bool."""
    logits = pupil(shown.images, shown.visible)
    if pupil.objective.name == "consistency":
        return logits.argmax(dim=1) == pupil(few.images).argmax(dim=1), shown.is_masked
    if pupil.objective.name == "abstention":
        surprise = torch.special.entr(logits.softmax(dim=1)).sum(dim=1)
        return surprise / math.log(logits.shape[1]), shown.hides_object
    return logits.argmax(dim=1) == few.labels, shown.is_masked
