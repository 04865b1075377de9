"""Make the runs of a claim, and keep what they answer."""

import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.arms import frozen_network, train
from maskrobust.train.claim.config import ANSWERS, ClaimConfig, StoredRun
from maskrobust.train.networks import measurement_of
from maskrobust.train.running.progress import ClaimProgress
from maskrobust.train.storage.files import write_json
from maskrobust.train.storage.provenance import provenance

MeasuredRun = Mapping[MaskingMethod, Outcomes]
"""What one run of an arm answers, by masking method, on the split that is measured."""


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
        (config.out / "arms" / arm).mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(config.out / "arms" / arm / f"seed-{seed}.lock", blocking=False):
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

    def make(folder: Path) -> None:
        start = time.monotonic()
        found = train(config, run, folder, progress)
        write_json(folder / "training.json", {**found, "provenance": provenance(time.monotonic() - start)})

    run.trained.get_or_make(run.folder.name, make)
    run.answered.get_or_make(ANSWERS, lambda folder: _measure(config, run, bank, progress, folder))


def measured_run(config: ClaimConfig, arm: str, seed: int) -> MeasuredRun:
    """What a run answers that is on disk.

    Raises:
        InputError: a file is damaged.
    """
    run = config.run_of(arm, seed)
    return {method: Outcomes.load(run.folder / ANSWERS / _file(method)) for method in config.evaluation.methods}


def _file(method: MaskingMethod) -> str:
    return f"outcomes-{method}.npz"


def _measure(config: ClaimConfig, run: StoredRun, bank: SilhouetteBank, progress: ClaimProgress, folder: Path) -> None:
    """Ask a run's network, and write what it answers into a folder."""
    evaluation = config.evaluation
    classifier = frozen_network(config, run.arm, run.seed)
    network = classifier.trained_network(run.arm)
    progress.begin("measuring", f"{config.arms[run.arm].title}, seed {run.seed}")
    networks, plans, device = {run.arm: network}, config.plans_of(run.arm), classifier.device
    measurement = measurement_of(networks, plans, bank, config.data, evaluation.split, evaluation.seed, device)
    batches = (batch.to(device) for batch in config.data.whole_split(evaluation.split))
    found = measurement.run(progress.track(batches, task_id=progress.current))
    for (_, method), outcomes in found.items():
        outcomes.save(folder / _file(method))


def all_runs(config: ClaimConfig) -> list[StoredRun]:
    """Every run of the claim once."""
    return [config.run_of(name, seed) for name in config.arms for seed in config.seeds]


def refuse_foreign(config: ClaimConfig) -> None:
    """Raise an InputError where the folder holds a run of another configuration, or a record that cannot be read."""
    for run in all_runs(config):
        run.trained.get(run.folder.name)
        run.is_measured()
