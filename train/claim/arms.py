"""What a run of an arm learns: the weights of a network, or affine maps for the logits of another arm's network."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import save_file
from torch import Tensor

from maskrobust.augment import fold_in, sample_keys
from maskrobust.lm_modules.calibration import AffineCalibration, calibrated, fit_calibration
from maskrobust.lm_modules.callbacks import FiniteLoss, ShownImages, StepSeed
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, uncentred
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.networks.weights import load_weights, read_state_dict
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.training_masks import build_masking
from maskrobust.train.claim.config import CALIBRATION_IMAGES, ClaimConfig, StoredRun
from maskrobust.train.data.batches import batches_on
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO
from maskrobust.train.fit.loggers import WandbRun, log_configuration
from maskrobust.train.running.processes import choose_accelerator
from maskrobust.train.running.progress import ClaimProgress

STATE = "state.ckpt"
"""The newest state of a training in an unfinished folder."""

_CALIBRATION_STREAM = -1  # of a sample's key; training folds in its steps, which count from 0
_FILL_STREAM = 2  # as in `RandomMasking`


def learn(config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
    """Write what a run learns into `folder`, under the name of `run.learned`.

    Args:
        config: the claim, whose data are set up.
        run: the run to make.
        folder: where to write.
        progress: told about every step.

    Returns:
        Numbers of a training to record.

    Raises:
        InputError: the training diverged.
    """
    if config.arms[run.arm].calibration:
        _calibrate(config, run, folder, progress)
        return {}
    return _train(config, run, folder, progress)


def _train(config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
    """Train, from the newest state of a training of this run that was interrupted, if there is one."""
    training = config.training
    progress.begin("training", f"{config.arms[run.arm].title}, seed {run.seed}: {training.epochs} epochs")
    classifier = new_network(config, run.arm, run.seed)

    def keep_state(trainer: pl.Trainer, _: pl.LightningModule) -> None:
        if trainer.current_epoch + 1 != trainer.max_epochs:  # for a training that goes on with it
            trainer.save_checkpoint(folder / STATE)

    def count(trainer: pl.Trainer, *_: Any) -> None:
        total = int(trainer.estimated_stepping_batches)
        progress.update(progress.current, total=total, completed=trainer.global_step)

    told = LambdaCallback(on_train_start=count, on_train_batch_end=count, on_train_epoch_end=keep_state)
    trainer = pl.Trainer(
        max_epochs=training.epochs,
        accelerator=choose_accelerator(training.accelerator),
        devices=1,
        precision=training.precision,
        logger=[CSVLogger(folder, name="", version="log"), *_wandb_runs(config, run)],
        callbacks=[ShownImages(), StepSeed(run.seed), FiniteLoss(), told],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    config.data.order_seed = run.seed
    state = run.trained.newest_unfinished(run.folder.name, STATE)
    trainer.fit(classifier, datamodule=config.data, ckpt_path=state, weights_only=True)
    (folder / STATE).unlink(missing_ok=True)
    weights = {key: value.contiguous() for key, value in classifier.network.state_dict().items()}
    save_file(weights, folder / run.learned.name)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {"steps": trainer.global_step, "metrics": metrics}


def _wandb_runs(config: ClaimConfig, run: StoredRun) -> list[WandbRun]:
    """The W&B run that a training logs to, named after arm and seed; none where the claim asks for none.

    Its group is the name of the claim's folder, unless the options name another; its configuration is what the training
    follows from.

    Raises:
        InputError: W&B cannot be reached, or does not take the run.
    """
    if config.wandb is None:
        return []
    options = replace(config.wandb, group=config.wandb.group or config.out.resolve().name)
    tracked = [WandbRun(f"{run.arm} seed {run.seed}", config.out, options)]
    sections = {name: config.content[name] for name in ("question", "data", "training")}
    log_configuration(tracked, {**sections, "arm": run.arm, "seed": run.seed, "model": config.models[run.arm]})
    return tracked


def _calibrate(config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> None:
    """Fit a map for each masking method."""
    classifier = frozen_network(config, run.arm, run.seed)
    progress.begin("calibrating", f"{config.arms[run.arm].title}, seed {run.seed}")
    tensors = {
        f"{method}.{part}": value.cpu().contiguous()
        for method, calibration in _fit(config, run, classifier, progress).items()
        for part, value in calibration._asdict().items()
    }
    save_file(tensors, folder / run.learned.name)


def _fit(
    config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier, progress: ClaimProgress
) -> dict[MaskingMethod, AffineCalibration]:
    """Maps under which a masked training image is predicted as the frozen network predicts it with nothing hidden."""
    options = config.models[run.arm]
    masks = build_masking(
        options["mask_family"],
        "black",  # each method presents the hole in its own way
        hidden_fraction=options["hidden_fraction"],
        patch_size=options["patch_size"],
        probability=1.0,
        mean=config.data.mean,
        source=config.data,
        device=classifier.device,
    )
    network = classifier.trained_network(run.arm)
    predictors = {method: network.predictor(method) for method in map(uncentred, run.methods)}
    logits: dict[MaskingMethod, list[Tensor]] = {method: [] for method in predictors}
    targets = []
    batches = batches_on(config.data.some_images("train", CALIBRATION_IMAGES), classifier.device)
    with torch.no_grad():
        for batch in progress.track(batches, task_id=progress.current):
            keys = fold_in(sample_keys(run.seed, batch.ids), _CALIBRATION_STREAM)
            visible = masks.draw_visible(keys, batch)
            is_masked = ~visible.flatten(1).all(dim=1)
            targets.append(classifier(batch.images).argmax(dim=1)[is_masked])
            for method, predict in predictors.items():
                logits[method].append(predict(batch.images, visible, fold_in(keys, _FILL_STREAM))[is_masked])
    return {method: fit_calibration(torch.cat(each), torch.cat(targets)) for method, each in logits.items()}


def predictors(config: ClaimConfig, run: StoredRun, network: TrainedNetwork) -> dict[MaskingMethod, Predictor]:
    """What an arm predicts by masking method, where its logits are calibrated; empty where its network says it.

    Methods are those without `methods.CENTRED`: the measurement centres what is predicted under them.

    Args:
        config: the claim.
        run: the finished run.
        network: the network with the trained weights, in eval mode.
    """
    if not config.arms[run.arm].calibration:
        return {}
    stored = read_state_dict(run.learned)
    return {
        method: calibrated(
            network.predictor(method),
            AffineCalibration(*(stored[f"{method}.{part}"] for part in AffineCalibration._fields)),
        )
        for method in dict.fromkeys(map(uncentred, run.methods))
    }


def new_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The arm's classifier with the initial weights of a seed, the same for all arms."""
    pl.seed_everything(seed, workers=True, verbose=False)
    data = config.data
    return MaskRobustClassifier(
        num_classes=data.num_classes, mean=data.mean, std=data.std, seed=seed, **config.models[arm]
    )


def frozen_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The trained network that an arm uses, in eval mode on the device of evaluations."""
    classifier = new_network(config, arm, seed)
    load_weights(classifier.network, config.run_of(config.source_of(arm), seed).learned)
    use_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    return classifier.to("cuda" if use_gpu else "cpu").eval()
