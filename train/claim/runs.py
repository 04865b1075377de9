"""The runs of a claim: making one, the mask-only probe, and which are missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import Measurement, Plans
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes, probe_outcomes
from maskrobust.train.claim.arms import first_images, frozen_network
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.lessons import LESSON_IMAGES, examine
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.stored import StoredRun, is_done
from maskrobust.train.data.batches import batches_on, split_batches
from maskrobust.train.data.centring import pictures_to_centre_by
from maskrobust.train.probe import train_outline_probe
from maskrobust.train.storage.files import atomic_path, read_json, write_json
from maskrobust.train.storage.fingerprints import fingerprint
from maskrobust.train.types import Split

_PROBE_SEED = 0


class MeasuredRun(NamedTuple):
    """What one run of an arm answers.

    Attributes:
        outcomes: by masking method, on the split that is measured.
        validation: by masking method, on the validation split.
        learnt: by arm, how well it does behind the masks of that arm's training; see `examine`.
    """

    outcomes: Mapping[MaskingMethod, Outcomes]
    validation: Mapping[MaskingMethod, Outcomes]
    learnt: Mapping[str, float | None]


def run_arm(config: ClaimConfig, arm: str, seed: int, bank: SilhouetteBank, progress: Progress) -> MeasuredRun:
    """One run under every masking method; whatever is on disk already is taken from there.

    Args:
        config: the claim.
        arm: name of the arm.
        seed: of initial weights, training masks and training order.
        bank: silhouettes for the swaps.
        progress: told about every step.

    Raises:
        InputError: the folder holds a run of this name with another configuration, or a damaged file; or the arm uses
            the network of another one, whose run is missing.
    """
    run = config.run_of(arm, seed)
    if not run.is_measured():
        _require_source(config, arm, run)
        if config.training.images_by_seed:
            config.data.draw_training(seed)
        if not run.is_trained():
            learning = config.learning_arm(run.arm)
            run.learn(lambda folder: learning.learn(config, run, folder, progress))
        _measure(config, run, bank, progress)
    return MeasuredRun(
        {method: Outcomes.load(path) for method, path in run.outcomes.items()},
        {method: Outcomes.load(path) for method, path in run.validation.items()},
        read_json(run.evaluation_record).get("learnt", {}),
    )


def _require_source(config: ClaimConfig, arm: str, run: StoredRun) -> None:
    """Refuse to go on without the network that the arm takes from another one."""
    source = config.source_of(arm, run.seed)
    if source.arm != arm and not (run.arm == arm and source.is_trained()):
        raise InputError(
            f"arm '{arm}' uses the network of arm '{source.arm}', seed {run.seed}, which is not in '{source.folder}'; "
            f"run that arm first (--arm {source.arm} --seed {run.seed}), and where its weights were removed, delete "
            "that folder before."
        )


def _measure(config: ClaimConfig, run: StoredRun, bank: SilhouetteBank, progress: Progress) -> None:
    arm, evaluation = config.learning_arm(run.arm), config.evaluation
    classifier = frozen_network(config, run.arm, run.seed)
    progress.start("measuring", f"{arm.title}, seed {run.seed}")
    asked: list[tuple[Split, Plans, dict[MaskingMethod, Path]]] = [
        (evaluation.split, config.plans_of(run.arm), run.outcomes),
        ("val", evaluation.validation_plans, run.validation),
    ]
    for split, plans, paths in asked:
        measurement = Measurement(
            {run.arm: classifier},
            bank,
            plans,
            num_classes=config.data.num_classes,
            seed=evaluation.seed,
            predictors={run.arm: arm.predictors(run, classifier)},
            object_of=config.data.object_of,
            backgrounds=pictures_to_centre_by(config.data, split, plans),
        )
        batches = batches_on(split_batches(config.data, split), classifier.device)
        for method, outcomes in measurement.run(progress.track_batches(batches))[run.arm].items():
            with atomic_path(paths[method]) as path:
                outcomes.save(path)
    learnt = {}
    if arm.network_of is None:
        few = Batch.cat([*first_images(split_batches(config.data, evaluation.split), LESSON_IMAGES)])
        learnt = examine(config, classifier, few.to(classifier.device))
    write_json(run.evaluation_record, {"fingerprint": run.measured, "learnt": learnt})


def measured_probe(config: ClaimConfig, progress: Progress) -> ProbeOutcomes:
    """What a network that sees nothing but object masks predicts on the split that is measured.

    Trained on the training split's masks, stopped on the validation split's; once, and kept on disk.

    Raises:
        InputError: the folder holds a probe of other data, or a damaged file.
    """
    folder = config.out / "probe"
    settings = fingerprint([config.content_of("data"), config.evaluation.split, _PROBE_SEED])
    outcomes, record = folder / "outcomes.npz", folder / "probe.json"
    if not is_done(record, settings, [outcomes]):
        progress.start("training", "the mask-only probe")
        probe = train_outline_probe(config.data, _PROBE_SEED)
        with torch.inference_mode(), atomic_path(outcomes) as path:
            probe_outcomes(probe, split_batches(config.data, config.evaluation.split)).save(path)
        write_json(record, {"fingerprint": settings})
    return ProbeOutcomes.load(outcomes)


def all_runs(config: ClaimConfig) -> list[StoredRun]:
    """Every run of the claim once, in the order to make them: those first whose networks others use."""
    runs = [config.run_of(arm, seed) for arm in config.execution_order for seed in config.seeds]
    return list({run.folder: run for run in runs}.values())


def refuse_foreign(config: ClaimConfig) -> None:
    """Raise an InputError where the folder holds a run of another configuration, or a record that cannot be read."""
    for run in all_runs(config):
        run.is_trained()
        run.is_measured()


def independent_parts(config: ClaimConfig) -> list[str]:
    """Options of processes that can make the claim's runs at once, one for each network to train.

    An arm that uses the network of another one is made by the process that trains it.
    """
    users = {
        trained: [name for name, arm in config.arms.items() if trained in (name, arm.network_of)]
        for trained, arm in config.arms.items()
        if arm.network_of is None and trained in config.only_arms
    }
    return [f"--arm=[{','.join(arms)}] --seed={seed}" for seed in config.only_seeds for arms in users.values()]


def missing_runs(config: ClaimConfig) -> str:
    """The runs that are not on disk with all their outcomes, as in "1 of 6 runs: no_masks (seed 2)"; "" for none."""
    runs = all_runs(config)
    seeds: dict[str, list[str]] = {}
    for run in runs:
        if not run.is_measured():
            seeds.setdefault(run.arm, []).append(str(run.seed))
    if not seeds:
        return ""
    named = [f"{arm} (seed{'s' * (len(each) > 1)} {', '.join(each)})" for arm, each in seeds.items()]
    return f"{sum(map(len, seeds.values()))} of {len(runs)} runs: {', '.join(named)}"
