"""The kinds of arm of a claim, each a class: how it is configured, trained and asked.

A new kind is a class here and an entry of `KINDS`; its fields are the keys that an arm of this kind may have in YAML.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import CSVLogger
from safetensors.torch import save_file
from torch import Tensor

from maskrobust.augment import OTHER_IMAGE, Batch, fold_in, read_fills, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.calibration import AffineCalibration, calibrated, fit_calibration
from maskrobust.lm_modules.callbacks import ShownImages, StepSeed
from maskrobust.lm_modules.methods import LAYER_MASKINGS, MaskingMethod, Predictor, uncentred
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.networks.weights import load_weights, read_state_dict
from maskrobust.lm_modules.reliance.measurement import check_plans
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.training_masks import build_masking, evaluation_fill
from maskrobust.train.arguments import PARSER_OPTIONS, Parser
from maskrobust.train.claim.config import STATE, Arm, ClaimConfig, LearningArm, StoredRun
from maskrobust.train.data.batches import batches_on
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO
from maskrobust.train.fit.loggers import WandbRun, log_configuration
from maskrobust.train.running.processes import choose_accelerator
from maskrobust.train.running.progress import ClaimProgress
from maskrobust.train.sentences import about_arguments

CALIBRATION_IMAGES = 4000
"""How many training images, the first in order of ids, a calibration is fitted on at most."""

_MASK_OPTIONS = ("mask_family", "hidden_fraction", "patch_size")
_CALIBRATION_STREAM = -1  # of a sample's key; training folds in its steps, which count from 0
_FILL_STREAM = 2  # as in `RandomMasking`


@dataclass(frozen=True)
class TrainingArm(LearningArm):
    """A network of its own, trained with the seed of a run: initial weights, order of images and masks."""

    learned: ClassVar[str] = "weights.safetensors"

    def check(self, name: str, arms: Mapping[str, Arm], model: Mapping[str, Any]) -> None:
        """An augmentation-only arm masks by fills alone; one that masks has a method that it was trained on."""
        if self.augmentation_only and model["masking"] != "fill":
            raise InputError(
                f"arm '{name}' is augmentation_only, so masking must be 'fill', got '{model['masking']}'; correct one "
                "of them."
            )
        trained_on = _methods_trained_on(model)
        if trained_on and self.method not in trained_on:
            raise InputError(
                f"the method of arm '{name}' must be one that it is trained on, {' or '.join(trained_on)}, got "
                f"'{self.method}'; correct arms.{name}.method."
            )

    def follows_from(self, config: ClaimConfig, name: str, seed: int) -> dict[str, Any]:
        """Data, model, budget and seed."""
        return {
            "data": config.content_of("data"),
            "model": config.models[name],
            "training": config.content_of("training"),
            "seed": seed,
        }

    def learn(self, config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
        """Train, from the newest state of a training of this run that was interrupted, if there is one."""
        training = config.training
        progress.begin("training", f"{self.title}, seed {run.seed}: {training.epochs} epochs")
        classifier = _new_network(config, run.arm, run.seed)

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
            callbacks=[ShownImages(), StepSeed(run.seed), told],
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        config.data.order_seed = run.seed
        trainer.fit(classifier, datamodule=config.data, ckpt_path=run.newest_state(), weights_only=True)
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if not all(math.isfinite(value) for value in metrics.values()):
            raise InputError(
                f"arm '{run.arm}', seed {run.seed} diverged (its losses are not finite); lower its learning_rate."
            )
        weights = {key: value.contiguous() for key, value in classifier.network.state_dict().items()}
        save_file(weights, folder / self.learned)
        return {"steps": trainer.global_step, "metrics": metrics}


@dataclass(frozen=True)
class NetworkAsItIs(Arm):
    """The network of another arm: its outcomes are those of that arm, looked at under a `method` of its own."""

    def check(self, name: str, arms: Mapping[str, Arm], model: Mapping[str, Any]) -> None:
        """It names an arm that trains a network, and changes nothing."""
        _check_network_of(name, self, arms)

    def measured_as(self, name: str) -> str:
        """Name of the arm that trains the network."""
        assert self.network_of is not None  # an arm is of this kind because it has that key
        return self.network_of


@dataclass(frozen=True)
class CalibratedNetwork(LearningArm):
    """The frozen network of another arm, whose logits go through an affine map where something is hidden (MCal).

    There is one map for each masking method, fitted on masked training images, so that each is predicted as with
    nothing hidden.

    Attributes:
        calibration: true; tells this kind from the others.
    """

    calibration: bool = True
    learned: ClassVar[str] = "calibration.safetensors"

    def check(self, name: str, arms: Mapping[str, Arm], model: Mapping[str, Any]) -> None:
        """It names an arm that trains a network, and says of a model which holes the maps are fitted on."""
        if self.network_of is None:
            raise InputError(
                f"arm '{name}' has calibration true, so network_of must name the arm whose network is calibrated, "
                "got none; name it, or leave calibration out."
            )
        _check_network_of(name, self, arms, _MASK_OPTIONS)

    def follows_from(self, config: ClaimConfig, name: str, seed: int) -> dict[str, Any]:
        """The network, the holes and the masking methods."""
        return {
            "network": config.source_of(name, seed).trained.settings,
            "masks": {option: config.models[name][option] for option in _MASK_OPTIONS},
            "images": CALIBRATION_IMAGES,
            "methods": list(dict.fromkeys(map(uncentred, config.plans_of(name)))),
        }

    def learn(self, config: ClaimConfig, run: StoredRun, folder: Path, progress: ClaimProgress) -> dict[str, Any]:
        """Fit a map for each masking method."""
        classifier = frozen_network(config, run.arm, run.seed)
        progress.begin("calibrating", f"{self.title}, seed {run.seed}")
        tensors = {
            f"{method}.{part}": value.cpu().contiguous()
            for method, calibration in _fit(config, run, classifier, progress).items()
            for part, value in calibration._asdict().items()
        }
        save_file(tensors, folder / self.learned)
        return {}

    def predictors(self, run: StoredRun, network: TrainedNetwork) -> dict[MaskingMethod, Predictor]:
        """The network's predictors with mapped logits."""
        stored = read_state_dict(run.learned)
        return {
            method: calibrated(
                network.predictor(method),
                AffineCalibration(*(stored[f"{method}.{part}"] for part in AffineCalibration._fields)),
            )
            for method in dict.fromkeys(map(uncentred, run.methods))
        }


KINDS: dict[str, type[Arm]] = {"calibration": CalibratedNetwork, "network_of": NetworkAsItIs, "title": TrainingArm}
"""Kinds of arm by the key of the YAML that tells an arm of this kind; the first one that is there counts."""


def read_arm(name: str, given: Mapping[str, Any]) -> Arm:
    """An arm from its YAML.

    Raises:
        InputError: a key is missing or unknown, or a value of the wrong type.
    """
    told = [key for key in KINDS if given.get(key)]
    kind = KINDS[told[0]] if told else TrainingArm
    parser = Parser(**PARSER_OPTIONS)
    parser.add_class_arguments(kind)
    try:
        # A key that is false or null tells nothing, whatever the kind.
        parsed = parser.parse_object({key: value for key, value in given.items() if value or key not in KINDS})
    except ArgumentError as error:
        raise InputError(f"arm '{name}' is wrong: {about_arguments(error)}; correct arms.{name}.") from error
    return kind(**parsed.as_dict())


def frozen_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The trained network that an arm uses, in eval mode on the device of evaluations."""
    classifier = _new_network(config, arm, seed)
    load_weights(classifier.network, config.source_of(arm, seed).learned)
    use_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    return classifier.to("cuda" if use_gpu else "cpu").eval()


def check_networks(config: ClaimConfig) -> None:
    """Refuse, before anything is trained, what a network could not be asked once it is.

    Raises:
        InputError, UnsupportedNetworkError: see `check_plans`.
    """
    for arm in config.only_arms:
        check_plans(_new_network(config, arm, config.only_seeds[0]).trained_network(arm), config.plans_of(arm))


def first_images(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """The first `count` images, in batches."""
    for batch in batches:
        if count <= 0:
            return
        yield batch.select(slice(count))
        count -= len(batch.ids)


def _new_network(config: ClaimConfig, arm: str, seed: int) -> MaskRobustClassifier:
    """The arm's classifier with the initial weights of a seed, the same for all arms."""
    pl.seed_everything(seed, workers=True, verbose=False)
    data = config.data
    return MaskRobustClassifier(
        num_classes=data.num_classes, mean=data.mean, std=data.std, seed=seed, **config.models[arm]
    )


def _wandb_runs(config: ClaimConfig, run: StoredRun) -> list[WandbRun]:
    """The W&B run that a training logs to, named after arm and seed; none where the claim asks for none.

    Its group is the name of the claim's folder, unless the options name another; its configuration is what the training
    follows from.

    Raises:
        InputError: W&B cannot be reached, or does not take the run.
    """
    if config.wandb is None:
        return []
    group = config.wandb.group or config.out.resolve().name
    tracked = [WandbRun(f"{run.arm} seed {run.seed}", config.out, replace(config.wandb, group=group))]
    configuration = {
        "question": config.question,
        "arm": run.arm,
        "seed": run.seed,
        "data": config.content["data"],
        "model": config.models[run.arm],
        "training": config.content["training"],
    }
    log_configuration(tracked, configuration)
    return tracked


def _methods_trained_on(model: Mapping[str, Any]) -> list[MaskingMethod]:
    """The masking methods that show a hole as a training does; none where it masks nothing."""
    found = []
    if model["masking"] in ("layer_masking", "mixture"):
        found.append(LAYER_MASKINGS[(model["layer_masking"] or {}).get("padding", "mean")])
    if model["masking"] in ("fill", "mixture"):
        fills = [each.name for each in read_fills(model["fill"]) if each.weight > 0 and each.name != OTHER_IMAGE]
        found += fills or [evaluation_fill(model["fill"])]  # no method shows the pixels of other images
    return found


def _check_network_of(name: str, arm: Arm, arms: Mapping[str, Arm], options: tuple[str, ...] = ()) -> None:
    """Refuse an arm with `network_of` that no arm trains, or that says more than the `options` of a model."""
    training = [other for other, each in arms.items() if each.network_of is None]
    if arm.network_of not in training:
        raise InputError(
            f"network_of of arm '{name}' must be an arm that trains a network of its own, one of "
            f"{', '.join(training)}, got '{arm.network_of}'; name one of them."
        )
    if arm.augmentation_only:
        raise InputError(
            f"arm '{name}' is augmentation_only, so it must train a network on masks, got network_of "
            f"'{arm.network_of}'; leave one of the two out."
        )
    further = [option for option in arm.model if option not in options]
    if further:
        raise InputError(
            f"arm '{name}' uses the network of '{arm.network_of}', so its model may say "
            f"{', '.join(options) or 'nothing'}, got {', '.join(further)}; leave that out."
        )


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
    batches = batches_on(first_images(config.data.whole_split("train"), CALIBRATION_IMAGES), classifier.device)
    with torch.no_grad():
        for batch in progress.track(batches, task_id=progress.current):
            keys = fold_in(sample_keys(run.seed, batch.ids), _CALIBRATION_STREAM)
            visible = masks.draw_visible(keys, batch)
            is_masked = ~visible.flatten(1).all(dim=1)
            targets.append(classifier(batch.images).argmax(dim=1)[is_masked])
            for method, predict in predictors.items():
                logits[method].append(predict(batch.images, visible, fold_in(keys, _FILL_STREAM))[is_masked])
    return {method: fit_calibration(torch.cat(each), torch.cat(targets)) for method, each in logits.items()}
