"""Train the network of a run, and load it."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import save_file

from maskrobust.lm_modules.callbacks import FiniteLoss, ShownImages, StepSeed
from maskrobust.lm_modules.networks.weights import load_weights
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim.config import WEIGHTS, ClaimConfig, StoredRun
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO
from maskrobust.train.running.processes import choose_accelerator
from maskrobust.train.running.progress import ClaimProgress

STATE = "state.ckpt"
"""The newest state of a training in an unfinished folder."""


def train(config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
    """Train, from the newest state of a training of this run that was interrupted, if there is one.

    Args:
        config: the claim, whose data are set up.
        run: the run to make.
        folder: where to write the weights, under the name `WEIGHTS`.
        progress: told about every step.

    Returns:
        Numbers of the training to record.

    Raises:
        InputError: the training diverged.
    """
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
        logger=CSVLogger(folder, name="", version="log"),
        callbacks=[ShownImages(), StepSeed(run.seed), FiniteLoss(), told],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    config.data.order_seed = run.seed
    state = run.trained.copy_newest_unfinished(run.folder.name, STATE, folder)
    trainer.fit(classifier, datamodule=config.data, ckpt_path=state, weights_only=True)
    (folder / STATE).unlink(missing_ok=True)
    weights = {key: value.contiguous() for key, value in classifier.network.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    return {"steps": trainer.global_step, "metrics": metrics}


def new_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The arm's classifier with the initial weights of a seed, the same for all arms."""
    pl.seed_everything(seed, workers=True, verbose=False)
    data = config.data
    return MaskRobustClassifier(
        num_classes=data.num_classes, mean=data.mean, std=data.std, seed=seed, **config.models[arm]
    )


def frozen_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The trained network of an arm, in eval mode on the device of evaluations."""
    classifier = new_network(config, arm, seed)
    load_weights(classifier.network, config.run_of(arm, seed).folder / WEIGHTS)
    use_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    return classifier.to("cuda" if use_gpu else "cpu").eval()
