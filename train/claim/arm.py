"""One run of one arm: train it, measure it, keep both on disk, and never do either twice."""

import math
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import save_file

from augment import SilhouetteBank
from lm_modules import MaskRobustClassifier, Predictor, load_weights
from lm_modules.reliance import Outcomes, RelianceSuite
from train.claim.config import ClaimConfig, fingerprint
from train.claim.progress import Progress
from train.data.batches import batches_on, split_batches
from train.files import atomic_path, read_json, write_json

_WEIGHTS = "weights.safetensors"


def run_arm(config: ClaimConfig, arm: str, seed: int, bank: SilhouetteBank, progress: Progress) -> dict[str, Outcomes]:
    """The outcomes of one run under every masking method; whatever is on disk already is taken from there.

    Args:
        config: the claim.
        arm: name of the arm.
        seed: of initial weights, training masks and training order.
        bank: silhouettes for the swaps.
        progress: told about every step.

    Raises:
        ValueError: the folder holds a run of this name with another configuration, or a damaged file.
    """
    folder = config.out / "arms" / arm / f"seed-{seed}"
    trained = fingerprint(
        {
            "data": config.content_of("data"),
            "model": config.models[arm],
            "training": config.content_of("training"),
            "seed": seed,
        }
    )
    measured = fingerprint([trained, config.content_of("evaluation")])
    outcomes = {method: _outcomes_path(folder, method) for method in config.evaluation.methods}
    if not is_done(folder / "evaluation.json", measured, outcomes.values()):
        if not is_done(folder / "training.json", trained, [folder / _WEIGHTS]):
            progress.start_run(config.arms[arm].title, seed, config.training.epochs)
            _train(config, arm, seed, folder, trained, progress)
        progress.start_evaluation(config.arms[arm].title, seed)
        _evaluate(config, arm, seed, folder, measured, bank, progress)
    return {method: Outcomes.load(path) for method, path in outcomes.items()}


def is_done(record: Path, expected: str, results: Iterable[Path]) -> bool:
    """Whether a step's record is on disk with the expected fingerprint, and its results beside it.

    Raises:
        ValueError: the record has another fingerprint.
    """
    if not record.exists():
        return False
    found = read_json(record)["fingerprint"]
    if found != expected:
        raise ValueError(
            f"'{record.parent}' holds a run with another configuration ({record.name} says {found}, expected "
            f"{expected}); give another --out, or delete that folder."
        )
    return all(result.exists() for result in results)


def _build(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The arm's classifier with the initial weights of a seed, the same for all arms."""
    pl.seed_everything(seed, workers=True, verbose=False)
    data = config.data
    return MaskRobustClassifier(
        num_classes=data.num_classes, mean=data.mean, std=data.std, seed=seed, **config.models[arm]
    )


def _train(config: ClaimConfig, arm: str, seed: int, folder: Path, settings: str, progress: Progress) -> None:
    classifier = _build(config, arm, seed)
    if folder.exists():
        shutil.rmtree(folder)  # what an interrupted run has left
    folder.mkdir(parents=True)
    trainer = pl.Trainer(
        max_epochs=config.training.epochs,
        accelerator=config.training.accelerator,
        devices=1,
        precision=config.training.precision,
        logger=CSVLogger(folder, name="", version="log"),
        callbacks=[progress.lightning_callback()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    config.data.order_seed = seed
    start = time.monotonic()
    trainer.fit(classifier, datamodule=config.data)
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    if not all(math.isfinite(value) for value in metrics.values()):
        raise ValueError(f"arm '{arm}', seed {seed} diverged (its losses are not finite); lower its learning_rate.")
    with atomic_path(folder / _WEIGHTS) as path:
        save_file({key: value.contiguous() for key, value in classifier.network.state_dict().items()}, path)
    record = {"fingerprint": settings, "seconds": time.monotonic() - start, "steps": trainer.global_step}
    write_json(folder / "training.json", record | {"metrics": metrics})


def _evaluate(
    config: ClaimConfig, arm: str, seed: int, folder: Path, settings: str, bank: SilhouetteBank, progress: Progress
) -> None:
    classifier = _build(config, arm, seed)
    load_weights(classifier.network, folder / _WEIGHTS)
    device = _device(config)
    classifier.to(device).eval()
    predictors: dict[str, Predictor] = {method: classifier.predictor(method) for method in config.evaluation.methods}
    suite = RelianceSuite(
        bank,
        classifier.hparams["num_classes"],
        seed=config.evaluation.seed,
        patch_size=config.evaluation.patch_size,
        hidden_fractions=(0.0, config.evaluation.hidden_fraction),
    )
    with torch.inference_mode():
        for batch in progress.track_batches(batches_on(split_batches(config.data, config.evaluation.split), device)):
            clean = classifier(batch.images)
            suite.update(predictors, batch, clean_logits=dict.fromkeys(predictors, clean))
    for method, outcomes in suite.outcomes().items():
        with atomic_path(_outcomes_path(folder, method)) as path:
            outcomes.save(path)
    write_json(folder / "evaluation.json", {"fingerprint": settings})


def _outcomes_path(folder: Path, method: str) -> Path:
    return folder / f"outcomes-{method}.npz"


def _device(config: ClaimConfig) -> torch.device:
    use_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    return torch.device("cuda" if use_gpu else "cpu")
