"""What is looked at before a training begins, so that all that is wrong is said at once."""

from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any

import pytorch_lightning as pl
import torch
from fsspec.utils import get_protocol
from jsonargparse import Namespace
from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.utilities.seed import isolate_rng

from maskrobust.errors import Faults, InputError, did_you_mean
from maskrobust.lm_modules.callbacks import RelianceCallback
from maskrobust.lm_modules.networks.architectures import check_known, is_own_class
from maskrobust.lm_modules.networks.segmentation import check_segmenter
from maskrobust.lm_modules.training.classifier_arguments import check_arguments, check_values_of
from maskrobust.lm_modules.training.learner import MaskedLearner
from maskrobust.lm_modules.training.module import TrainingModule
from maskrobust.lm_modules.training.optimisation import defaults_of
from maskrobust.train.data.files.file_data import FileDataModule
from maskrobust.train.fit.unused import check_used
from maskrobust.train.running.processes import number_of_cores
from maskrobust.train.storage.files import check_folder

_FEW = 20_000
"""Files whose headers are read in a second or two."""


def faults_of_options(arguments: Sequence[str], config: Namespace, command: str) -> Faults:
    """What is wrong by the options alone, before data are looked for and a network is built.

    Args:
        arguments: the command line.
        config: what the command has made of it, with its YAML.
        command: the command, as a user types it.
    """
    faults = Faults()
    for check in (_check_places, _check_scheduler, _check_devices, _check_architecture, _check_model):
        with faults.noted():
            check(config)
    with faults.noted():
        check_used(arguments, config)
    with faults.noted():
        _check_length(config.trainer, command)
    return faults


def root_of(config: Namespace) -> Path:
    """The folder of all runs."""
    return Path(config.trainer.default_root_dir or "runs")


def _check_places(config: Namespace) -> None:
    """Refuse a folder for runs that takes none."""
    if get_protocol(str(config.trainer.default_root_dir or "")) != "file":
        raise InputError(
            f"trainer.default_root_dir must be a folder of this machine, got '{config.trainer.default_root_dir}'; for "
            "checkpoints elsewhere add a ModelCheckpoint with that dirpath."
        )
    if Path(config.run_name).is_absolute() or ".." in Path(config.run_name).parts:
        raise InputError(f"run_name must be the name of a folder below '{root_of(config)}', got '{config.run_name}'.")
    check_folder(root_of(config) / config.run_name)


def _check_scheduler(config: Namespace) -> None:
    if config.get("lr_scheduler") and not config.get("optimizer"):
        raise InputError(
            "lr_scheduler is for an optimizer of torch.optim, got none; give --optimizer, too, or the model's own "
            "--model.schedule."
        )


def _check_devices(config: Namespace) -> None:
    """Refuse more processes on a CPU than it has cores, but for two, to try one out; the trainer itself counts GPUs."""
    accelerator, devices = config.trainer.accelerator, config.trainer.devices
    if accelerator not in ("cpu", "auto") or (accelerator == "auto" and torch.cuda.is_available()):
        return
    number = len(devices) if isinstance(devices, list) else int(devices) if f"{devices}".isdecimal() else 1
    cores = number_of_cores()
    if number > max(2, cores):
        raise InputError(
            f"trainer.devices must be at most the number of the CPU's cores, {cores}, got {number}; give 1, which "
            "computes on all of them."
        )


def _check_architecture(config: Namespace) -> None:
    architecture = config.model.architecture
    if isinstance(architecture, str) and not is_own_class(architecture):
        (check_segmenter if "loss" in config.model else check_known)(architecture)


def _check_model(config: Namespace) -> None:
    """Look at what the model will look at, but for what the data tell it."""
    model: dict[str, Any] = config.model.as_dict()
    if "objective" not in model:  # a pre-training
        check_values_of({"mean": (0.5,) * 3, "std": (0.5,) * 3} | model)
        return
    told = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "num_classes": 2, "class_weights": None, "in_channels": None}
    check_arguments(model | defaults_of(model) | told)


def _check_length(trainer: Namespace, command: str) -> None:
    """Refuse to train for Lightning's default of 1000 epochs, which nobody has asked for."""
    if 0 in (trainer.max_epochs, trainer.max_steps):
        raise InputError("trainer.max_epochs and max_steps must be above 0, got 0; give how long to train.")
    is_open = trainer.max_epochs is None and trainer.max_steps == -1 and trainer.max_time is None
    if is_open and not trainer.fast_dev_run:
        raise InputError(
            f"{command} must be told how long to train, got none of trainer.max_epochs, max_steps and max_time; add "
            "--trainer.max_epochs 20, or as many as it takes."
        )


def check_callbacks(trainer: pl.Trainer, module: TrainingModule, data: Any) -> None:
    """Refuse callbacks that watch what nothing logs, or measure a network that the module has not.

    Callbacks of a user's own may log anything, so that with one no name is refused.

    Raises:
        InputError: naming all of them.
    """
    faults = Faults()
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set, but not declared
    measuring = [each for each in callbacks if isinstance(each, RelianceCallback)]
    logged = [
        "train/loss",
        "epoch",
        "step",
        *(name for name in map(str, module.metrics) if not name.startswith("test/")),
    ]
    places = [f"reliance/{method}/" for each in measuring for method in each.methods]
    places += ["train/learning_rate", "lr-"] * any(isinstance(each, LearningRateMonitor) for each in callbacks)
    if all(type(each).__module__.startswith(("pytorch_lightning.", "maskrobust.")) for each in callbacks):
        for callback in callbacks:
            watched = getattr(callback, "monitor", None)
            if watched and watched not in logged and not watched.startswith(tuple(places)):
                near = did_you_mean(watched, logged)
                said = f"{type(callback).__name__} watches '{watched}', which nothing logs{near}; choose one of "
                faults.append(InputError(f"{said}{', '.join(logged + places)}."))
    for each in measuring:
        with faults.noted():
            each.check(module, data)
    faults.refuse()


def check_network(_: pl.Trainer, module: TrainingModule, data: Any) -> None:
    """Ask a network about one grey image of each size of the data, in eval mode: a user's own may raise anything.

    Raises:
        InputError: it does, or returns no logits.
    """
    if not isinstance(module, MaskedLearner) or not isinstance(size := getattr(data, "image_size", None), int):
        return
    sizes = dict.fromkeys([(size, size), getattr(data, "whole_size", (size, size))])
    modes = [(each, each.training) for each in module.modules()]
    try:
        with torch.no_grad(), isolate_rng():
            for shape in [(1, len(module.mean), *each) for each in sizes]:
                module.eval()(torch.full(shape, 0.5))
    except Exception as error:
        if isinstance(error, InputError | MemoryError) or "memory" in f"{error}":
            raise
        at = extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"the network must answer images {shape}, but raises {type(error).__name__} ({error}) in line {at.lineno} "
            f"of '{at.filename}'; correct it there."
        ) from error
    finally:
        for each, training in modes:
            each.training = training


def note_files(faults: Faults, data: object) -> None:
    """Note what is wrong with the files of a training, where there are few, beside other faults."""
    if faults and isinstance(data, FileDataModule):
        with faults.noted():
            if len(data.files("train")) <= _FEW:
                data.check_fit()
