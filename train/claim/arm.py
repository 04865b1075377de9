"""One run of one arm: train it, measure it, keep both on disk, and never do either twice."""

import math
import shlex
import shutil
import sys
import time
from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import save_file

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.calibration import calibrated
from maskrobust.lm_modules.callbacks import ShownImages
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod, Predictor
from maskrobust.lm_modules.reliance.measurement import measure_networks
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.weights import load_weights
from maskrobust.train.claim.calibrate import calibrations
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.locks import run_lock
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.runs import StoredRun, source_run, stored_run
from maskrobust.train.claim.tracking import wandb_runs
from maskrobust.train.data.batches import batches_on, split_batches
from maskrobust.train.files import atomic_path, write_json
from maskrobust.train.provenance import provenance


def run_arm(
    config: ClaimConfig, arm: str, seed: int, bank: SilhouetteBank, progress: Progress
) -> dict[MaskingMethod, Outcomes]:
    """The outcomes of one run under every masking method; whatever is on disk already is taken from there.

    While another process makes the run, a process that runs a part of the claim stops; one that runs all of it waits,
    and takes what it finds.

    Args:
        config: the claim.
        arm: name of the arm.
        seed: of initial weights, training masks and training order.
        bank: silhouettes for the swaps.
        progress: told about every step.

    Raises:
        InputError: the folder holds a run of this name with another configuration, or a damaged file; the arm uses the
            network of another one, whose run is missing; or another process makes this run.
    """
    run = stored_run(config, arm, seed)
    if not run.is_measured():
        _require_source(config, arm, run)
        what = f"arm '{arm}', seed {seed},"
        on_wait = None if config.is_part else partial(progress.start_waiting, f"{config.arms[arm].title}, seed {seed}")
        with run_lock(run.lock, what, on_wait):
            if not run.is_measured():  # another process may have made it meanwhile
                _make(config, run, bank, progress)
    return {method: Outcomes.load(path) for method, path in run.outcomes.items()}


def _require_source(config: ClaimConfig, arm: str, run: StoredRun) -> None:
    """Refuse to go on without the network that the arm takes from another one."""
    source = source_run(config, arm, run.seed)
    if source.arm != arm and not (run.arm == arm and source.is_trained()):
        raise InputError(
            f"arm '{arm}' uses the network of arm '{source.arm}', seed {run.seed}, which is not in '{source.folder}'; "
            f"run that arm first (--arm {source.arm} --seed {run.seed}), and where its weights were removed, delete "
            "that folder before."
        )


def _make(config: ClaimConfig, run: StoredRun, bank: SilhouetteBank, progress: Progress) -> None:
    title = config.arms[run.arm].title
    if not config.arms[run.arm].calibration and not run.is_trained():
        progress.start_run(title, run.seed, config.training.epochs)
        _train(config, run, progress)
    classifier = _build(config, run.arm, run.seed)
    load_weights(classifier.network, source_run(config, run.arm, run.seed).learned)
    classifier.to(_device(config)).eval()
    _evaluate(config, run, classifier, bank, progress)


def _build(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The arm's classifier with the initial weights of a seed, the same for all arms."""
    pl.seed_everything(seed, workers=True, verbose=False)
    data = config.data
    return MaskRobustClassifier(
        num_classes=data.num_classes, mean=data.mean, std=data.std, seed=seed, **config.models[arm]
    )


def _train(config: ClaimConfig, run: StoredRun, progress: Progress) -> None:
    classifier = _build(config, run.arm, run.seed)
    if run.folder.exists():
        shutil.rmtree(run.folder)  # what an interrupted run has left
    run.folder.mkdir(parents=True)
    trainer = pl.Trainer(
        max_epochs=config.training.epochs,
        accelerator=config.training.accelerator,
        devices=1,
        precision=config.training.precision,
        logger=[CSVLogger(run.folder, name="", version="log"), *wandb_runs(config, run)],
        callbacks=[progress.lightning_callback(), ShownImages()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    config.data.order_seed = run.seed
    start = time.monotonic()
    trainer.fit(classifier, datamodule=config.data)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    if not all(math.isfinite(value) for value in metrics.values()):
        raise InputError(
            f"arm '{run.arm}', seed {run.seed} diverged (its losses are not finite); lower its learning_rate."
        )
    with atomic_path(run.learned) as path:
        save_file({key: value.contiguous() for key, value in classifier.network.state_dict().items()}, path)
    record = {
        "fingerprint": run.settings,
        "steps": trainer.global_step,
        "metrics": metrics,
        "provenance": provenance(time.monotonic() - start, shlex.join(sys.argv)),
    }
    write_json(run.training_record, record)


def _evaluate(
    config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier, bank: SilhouetteBank, progress: Progress
) -> None:
    batches = batches_on(split_batches(config.data, config.evaluation.split), classifier.device)
    calibrated_predictors = _calibrated(config, run, classifier, progress)
    progress.start_evaluation(config.arms[run.arm].title, run.seed)
    found, _ = measure_networks(
        {run.arm: classifier},
        progress.track_batches(batches),
        bank,
        config.plans_of(run.arm),
        seed=config.evaluation.seed,
        predictors={run.arm: calibrated_predictors},
    )
    for method, outcomes in found[run.arm].items():
        with atomic_path(run.outcomes[method]) as path:
            outcomes.save(path)
    write_json(run.evaluation_record, {"fingerprint": run.measured})


def _calibrated(
    config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier, progress: Progress
) -> dict[MaskingMethod, Predictor]:
    """The network's predictors with calibrated logits, where the arm asks for that."""
    if not config.arms[run.arm].calibration:
        return {}
    fitted = calibrations(config, run, classifier, progress)
    return {method: calibrated(classifier.predictor(method), affine) for method, affine in fitted.items()}


def _device(config: ClaimConfig) -> torch.device:
    use_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    return torch.device("cuda" if use_gpu else "cpu")
