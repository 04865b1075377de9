"""`maskrobust fit`: Lightning's command line around the classifier and any data module.

`maskrobust pretrain` is the same around another model: see `pretrain`.
"""

import argparse
import inspect
import json
import re
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from jsonargparse import Namespace
from lightning_fabric.plugins import CheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, WeightAveraging
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities import rank_zero_only

from maskrobust.errors import Faults, InputError, MissingFileError, did_you_mean
from maskrobust.lm_modules.callbacks import (
    ClassAnswers,
    FiniteLoss,
    HolesTell,
    LastCheckpoint,
    LogEachEpoch,
    RelianceCallback,
    ShownImages,
    StepSeed,
)
from maskrobust.lm_modules.methods import unwrapped
from maskrobust.lm_modules.networks.architectures import is_own_class
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.classifier_arguments import GONE_ARGUMENTS
from maskrobust.lm_modules.training.module import TrainingModule
from maskrobust.lm_modules.training.processes import leave_others_at_exit
from maskrobust.train.command_line import (
    PARSER_OPTIONS,
    as_list,
    import_data_modules,
    names_of,
    next_line,
    next_prediction,
    with_nearest,
)
from maskrobust.train.data.base import Colour, check_labelled
from maskrobust.train.data.plain import described
from maskrobust.train.fit import drop_distractions
from maskrobust.train.fit.checkpoints import LAST, AtomicCheckpointIO, check_equal, check_same_training
from maskrobust.train.fit.epochs import EpochRows
from maskrobust.train.fit.loggers import (
    RunFolder,
    log_configuration,
    loggers,
    remember_wandb_run,
)
from maskrobust.train.fit.preflight import check_callbacks, check_network, faults_of_options, note_files, root_of
from maskrobust.train.running.processes import choose_accelerator
from maskrobust.train.running.tracking import WandbOptions
from maskrobust.train.storage.files import printable

_DESCRIPTIONS = ("config.yaml", "hparams.yaml")
_BY_WEIGHTS = ("optimiser", "learning_rate", "schedule", "backbone_factor")  # unless they are given


class SaveConfig(SaveConfigCallback):
    """Keeps the whole configuration with the run: in its folder, in the logger, and in every checkpoint.

    Args:
        parser: parser of the command.
        config: what it has parsed.
        text: the same as JSON.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, text: str) -> None:
        super().__init__(parser, config)
        self._text = text
        self._unbegun: Path | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Write config.yaml beside the run's logs, and hand the configuration to W&B as one nested dict.

        Raises:
            InputError: processes found different last checkpoints.
        """
        log_dir = trainer.log_dir  # a collective operation: every process must ask
        own = self._as_dict()["ckpt_path"]
        if (first := trainer.strategy.broadcast(own)) != own:
            raise InputError(
                f"every process must go on from one checkpoint, but this one found '{own}' and the first '{first}'; "
                "run the same command again once all machines see the same files, or give --ckpt_path a file."
            )
        if self.already_saved or not trainer.is_global_zero or not trainer.loggers:  # barebones keeps nothing
            return
        folder = Path(f"{log_dir}")
        folder.mkdir(parents=True, exist_ok=True)
        self._unbegun = None if any(folder.iterdir()) else folder  # a logger may have made it
        text = yaml.safe_dump(self._as_dict(), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(
            f"# pytorch_lightning=={version('pytorch-lightning')}\n{text}", encoding="utf-8"
        )
        log_configuration(trainer.loggers, self._as_dict())
        self.already_saved = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The run has begun, and its folder stays; until then Lightning may still refuse the state of a loader."""
        self._unbegun = None

    def remove_unbegun(self) -> None:
        """Remove the folder of a run that was refused before its first step, with what describes the run."""
        if self._unbegun is not None:
            for name in _DESCRIPTIONS:
                (self._unbegun / name).unlink(missing_ok=True)
            with suppress(OSError):  # something else is in it
                self._unbegun.rmdir()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Put the configuration into the checkpoint under "config", and the run of W&B under "wandb"."""
        checkpoint["config"] = self._as_dict()
        if trainer.is_global_zero:
            remember_wandb_run(trainer.loggers, checkpoint)

    def _as_dict(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._text)
        return content


class FitCLI(LightningCLI):
    """`LightningCLI` with the data module's classes and colours handed to the model, and options of a run of its own.

    Every `fit` gets what keeps its state safe, whatever the YAML says: see docs/running.md.
    """

    command = "fit"
    """The command that trains, as a user types it."""
    linked: tuple[str, ...] = ("num_classes", "mean", "std")
    """What the data module tells the model."""
    best = ("val/accuracy", "max")
    """What the best checkpoint is chosen by: the highest or the lowest."""
    pictures: type[Callback] = ShownImages
    of_images: tuple[type[Callback], ...] = (HolesTell, ClassAnswers)
    """Callbacks about the classes of images; without them there is no `--reliance`."""
    _saved_arguments: dict[str, Any]
    _saved_classes: Any = None
    _ckpt_path: str | None
    _faults: Faults
    _data: Any = None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The command alone: to build the parser of one takes longer than all that it is used for."""
        return {"fit": LightningCLI.subcommands()["fit"] | {"weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of a run (training.txt describes them), and link what the data module knows to the model."""
        parser.add_argument("--wandb", type=bool | WandbOptions, default=False)
        parser.add_argument("--compile", type=bool, default=False)
        parser.add_argument("--save_every_n_steps", type=int | None, default=None)
        parser.add_argument("--run_name", type=str, default="run")
        if self.of_images:
            parser.add_argument("--reliance", type=bool, default=False)
        if "num_classes" in self.linked:
            parser.link_arguments("data", "model.num_classes", self._number_of_classes, apply_on="instantiate")
        parser.link_arguments("data", "model.mean", lambda data: self._coloured(data).mean, apply_on="instantiate")
        parser.link_arguments("data", "model.std", lambda data: self._coloured(data).std, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse `args`, from a program or a shell, and look at the checkpoint before anything is built.

        Raises:
            MissingFileError: the checkpoint is missing.
            InputError: the checkpoint cannot be read, or is of another training; or trainer or model hold no options.
        """
        try:
            self.config = parser.parse_args(args)
        except argparse.ArgumentError as error:
            names = [f"--{name}" for name in names_of(self._parser("fit"))]
            raise argparse.ArgumentError(None, with_nearest(str(error), names)) from error
        self._saved_arguments = {}
        config = self.config.fit
        for group in ("trainer", "model"):
            if not isinstance(config[group], Namespace):
                raise InputError(f"{group} must hold options and their values, got '{config[group]}'; change it.")
        self._faults = faults_of_options(args, config, self.command)
        if config.ckpt_path in ("last", "auto"):
            config.ckpt_path = _last_checkpoint(root_of(config), config.run_name, needed=config.ckpt_path == "last")
        if config.ckpt_path is not None:
            checkpoint = read_checkpoint(config.ckpt_path)
            if not {"state_dict", "pytorch-lightning_version", "loops", "optimizer_states"} <= checkpoint.keys():
                raise InputError(
                    f"'{config.ckpt_path}' holds weights, but not a whole checkpoint; give it as --model.weights."
                )
            self._saved_arguments = self._arguments_in(checkpoint, config.ckpt_path)
            self._saved_classes = checkpoint.get("class_names")
            by_weights = {name: value for name in _BY_WEIGHTS if (value := self._saved_arguments.get(name)) is not None}
            for name, value in by_weights.items():
                if config.model[name] is None:
                    config.model[name] = value
            check_same_training(checkpoint.get("config"), by_weights, self._plain(), config.ckpt_path)
        # Lightning would parse the arguments in a checkpoint that it knows of, and import the classes that they name
        self._ckpt_path, config.ckpt_path = config.ckpt_path, None

    def _arguments_in(self, checkpoint: Mapping[str, Any], path: str) -> dict[str, Any]:
        """The model's arguments in a checkpoint; that of another model, such as one of a pre-training, is refused."""
        assert isinstance(self.model_class, type)
        saved = checkpoint.get("hyper_parameters", {})
        if not isinstance(saved, Mapping):
            raise InputError(f"'{path}' must hold the model's arguments by name, but does not; give another file.")
        known = {*inspect.signature(self.model_class).parameters, "_instantiator"}
        known |= {name for name in GONE_ARGUMENTS if not saved.get(name)}
        foreign = sorted(map(str, saved.keys() - known))
        if foreign:
            raise InputError(
                f"'{path}' must be the checkpoint of a {self.model_class.__name__}, but it has '{foreign[0]}'; give it "
                "as --model.weights to start another training from its weights."
            )
        return dict(saved)

    @property
    def _labels_pixels(self) -> bool:
        """Whether the model takes a class for each pixel."""
        return bool(getattr(self.model_class, "labels_pixels", False))

    def _number_of_classes(self, data: Any) -> int:
        """That of the data; an `InputError` where labels are missing, or of the other kind."""
        check_labelled(described(data), self.command, per_pixel=self._labels_pixels)
        return int(data.num_classes)

    def _coloured(self, data: Any) -> Any:
        """The data, told the mean and standard deviation of the weights that the run begins with, where it has any."""
        self._data = data = described(data)
        self._faults.refuse()
        weights = self.config.fit.model.weights
        if self._saved_arguments:
            data.take_colours(*colours_of(self._saved_arguments), "the checkpoint")
        elif weights is not None:
            is_checkpoint = Path(weights).is_file() and Path(weights).suffix != ".safetensors"
            saved = read_checkpoint(weights).get("hyper_parameters", {}) if is_checkpoint else {}
            from maskrobust.lm_modules.networks.named import default_preprocessing

            by_name = self.config.fit.model.architecture
            shown = Preprocessing() if self._labels_pixels else default_preprocessing(by_name)
            source = f"'{weights}'" if "mean" in saved else "the architecture's pretrained weights"
            data.take_colours(*colours_of({"mean": shown.mean, "std": shown.std} | saved), source)
        return data

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and say all that is wrong with them.

        Raises:
            InputError: something is.
        """
        with self._faults.noted():
            super().instantiate_classes()
        if not self._faults:
            for check in (check_callbacks, check_network):
                with self._faults.noted():
                    check(self.trainer, self.model, self.datamodule)
        note_files(self._faults, self._data)
        self._faults.refuse()

    def before_fit(self) -> None:
        """Compile where asked, and tell the size of the network.

        Classes and colours, which the data module knows, must be those of the training that goes on.

        Raises:
            InputError: they have changed.
        """
        if self._saved_arguments:
            path, now = self.config.fit.ckpt_path, {f"data.{name}": self.model.hparams[name] for name in self.linked}
            saved = {f"data.{name}": value for name, value in self._saved_arguments.items()}
            check_equal(saved | _numbered(self._saved_classes), now | _numbered(self.datamodule.class_names), path)
        if self.config.fit.compile:
            self.model.compile_training()
        sizes = [(each.numel(), each.requires_grad) for each in self.model.network.parameters()]
        rank_zero_only(print)(
            f"network: {type(unwrapped(self.model.network)).__name__}, {sum(size for size, _ in sizes):,} parameters, "
            f"{sum(size for size, trains in sizes if trains):,} of which are trained"
        )

    def before_instantiate_classes(self) -> None:
        """Forget what a checkpoint's own training started from, whose file may be gone, and write the rest as JSON.

        Lightning looks for `config_dump` before it writes the same once more; each time takes a tenth of a second.
        """
        config = self.config.fit
        config.ckpt_path = self._ckpt_path
        if config.ckpt_path is not None:
            config.model.weights = None
        self.config_dump = self._plain()
        self.save_config_kwargs = {"text": json.dumps(self.config_dump)}

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Build the trainer; unless `trainer.logger` is given it logs to CSV files, and to W&B where asked.

        Whatever it logs to, the run has its folder. A training that logs is followed closely: learning rate, and
        pictures where they can be shown. One that validates keeps its best checkpoint, unless a `ModelCheckpoint` is
        given.

        Raises:
            InputError: loggers are given in two ways, or the trainer refuses its options.
        """
        config, made = self.config.fit, self.config_init.fit
        given = [] if made.trainer.logger in (None, True, False) else as_list(made.trainer.logger)
        if config.trainer.logger in (None, True):
            options = WandbOptions() if made.wandb is True else made.wandb or None
            given = loggers(root_of(config), config.run_name, options, config.ckpt_path)
            kwargs["logger"] = given
        elif config.wandb:
            raise InputError("wandb is true but trainer.logger is given, too; leave one of them out.")
        elif not made.trainer.barebones:
            kwargs["logger"] = [RunFolder(root_of(config), config.run_name, given), *given]
        if made.trainer.enable_model_summary is None:  # Lightning's has no FLOPs for want of an image, and says 0
            kwargs["enable_model_summary"] = False
        kwargs |= self._additions(is_logged=bool(given))
        kwargs["accelerator"] = choose_accelerator(made.trainer.accelerator)
        if kwargs["accelerator"] != made.trainer.accelerator:
            rank_zero_only(print)("computing on the CPU: Apple's GPUs lack float64, in which holes are drawn.")
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise InputError(f"{str(error).rstrip('.!')}; change the trainer's options.") from error

    def fit(self, model: pl.LightningModule, **kwargs: Any) -> None:
        """Train; after an error of this process, end those that Lightning started, which would wait for it."""
        try:
            self.trainer.fit(model, **kwargs)
        except Exception:
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, SaveConfig):
                    callback.remove_unbegun()
            launcher = self.trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(signal.SIGKILL)
            raise

    def after_fit(self) -> None:
        """Say where the run lies, and the commands to go on with its best checkpoint, or else its last.

        It leaves the other processes, too.
        """
        folder = self.trainer.log_dir  # a collective operation: every process must ask
        if self.trainer.is_global_zero and self.trainer.loggers and folder is not None:
            saved = [each for each in self.trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
            best = [each.best_model_path for each in saved if each.monitor and each.best_model_path]
            last = [each.last_model_path for each in saved if isinstance(each, LastCheckpoint) and each.last_model_path]
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # set, but not declared
            told = [f"run:  {folder}"]
            told += [line for each in callbacks if isinstance(each, EpochRows) for line in each.best_values()]
            told += [*(f"best: {path}" for path in best), *(f"last: {path}" for path in last)]
            for path in [*best, *last][:1]:
                told += self._next(folder, path)
            print(*map(printable, told), sep="\n")
        leave_others_at_exit()

    def _next(self, folder: str, path: str) -> Iterator[str]:
        """The commands that predict files with a checkpoint and, where there are images for it, measure it."""
        architecture = self.config.fit.model.architecture
        own = isinstance(architecture, str) and is_own_class(architecture)  # which no checkpoint may name
        name = f"{architecture}:{path}" if own else path
        new = "new_predictions" if self._labels_pixels else "new_predictions.csv"
        yield next_prediction(name, self.datamodule, f"{folder}/{new}")
        if not {"val", "test"}.isdisjoint(self.datamodule.splits):
            measured = ["--config", f"{folder}/config.yaml", "--network", name]
            yield next_line("evaluate", *measured, "--out", f"{folder}/evaluation")

    def _plain(self) -> dict[str, Any]:
        """The command's configuration as plain values."""
        text: str = self.parser.dump(self.config, format="json", skip_unset=False, skip_validation=True)
        content: dict[str, Any] = json.loads(text)["fit"]
        return content

    def _additions(self, *, is_logged: bool) -> dict[str, Any]:
        """Callbacks and plugins of the trainer, with those that every training gets."""
        config, trainer = self.config.fit, self.config_init.fit.trainer
        callbacks, plugins = (as_list(trainer[name]) for name in ("callbacks", "plugins"))
        validates = "val" in self.datamodule.splits and trainer.limit_val_batches != 0
        saves = trainer.enable_checkpointing is not False and not trainer.barebones
        if saves and validates and not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
            monitor, mode = self.best
            callbacks.append(
                ModelCheckpoint(monitor=monitor, mode=mode, filename="best", save_on_train_epoch_end=False)
            )
        callbacks += [StepSeed(config.model.seed), FiniteLoss(), EpochRows()]
        if self.of_images:
            callbacks += [each() for each in self.of_images]
            if config.reliance and not any(isinstance(callback, RelianceCallback) for callback in callbacks):
                callbacks.append(RelianceCallback())
        if is_logged:
            callbacks += [LearningRateMonitor("step"), self.pictures()]
            if trainer.log_every_n_steps is None:
                callbacks.append(LogEachEpoch())
                warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging")
        if saves:
            callbacks.append(LastCheckpoint(config.save_every_n_steps))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        callbacks.sort(key=lambda each: isinstance(each, WeightAveraging))  # which ends a validation for those after it
        return {"callbacks": callbacks, "plugins": plugins}


def colours_of(arguments: Mapping[str, Any]) -> tuple[Colour, Colour]:
    """The mean and standard deviation in the arguments of a classifier, which a file may have said; ImageNet's without.

    Raises:
        InputError: they are no colours.
    """
    given = {name: arguments[name] for name in ("mean", "std") if name in arguments}
    found = Preprocessing().with_changes(given)  # which checks them
    return found.mean, found.std


def _numbered(class_names: Any) -> dict[str, Any]:
    """Classes by their labels; none where a checkpoint has no list of them, as that of a pre-training."""
    names = class_names if isinstance(class_names, list | tuple) else ()
    return {f"class {label}": name for label, name in enumerate(names)}


def _last_checkpoint(root: Path, run_name: str, *, needed: bool) -> str | None:
    """The newest of a run's last checkpoints, over all its versions; None without one.

    Raises:
        MissingFileError: the run has none although one is needed.
    """
    saved = sorted((root / run_name).glob(LAST), key=lambda path: path.stat().st_mtime)
    found = str(saved[-1]) if saved else ""
    if needed and not found:
        runs = [each.name for each in root.glob("*/") if any(each.glob(LAST))]
        raise MissingFileError(
            f"there is no last checkpoint of a run in '{root / run_name}'{did_you_mean(run_name, runs)}; correct "
            "--run_name, or give --ckpt_path a file, or auto, which begins a run that there is not yet."
        )
    if not found:
        rank_zero_only(print)(f"there is no last checkpoint of a run in '{root / run_name}' yet: a new run begins.")
    return found or None


def main(
    arguments: Sequence[str], kind: type[FitCLI] = FitCLI, model: type[TrainingModule] = MaskRobustClassifier
) -> None:
    """Run `fit` with command-line arguments, the command first.

    Args:
        arguments: arguments of the command line.
        kind: kind of command line.
        model: what is trained.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, a file cannot be used, or Lightning refuses an option.
    """
    import_data_modules()
    drop_distractions()
    # It warns of samples that come twice, which `SampleMean` counts once.
    warnings.filterwarnings("ignore", "Using `DistributedSampler` with the dataloaders")
    try:
        kind(
            model,
            pl.LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            seed_everything_default=0,
            parser_kwargs={"fit": dict(PARSER_OPTIONS)} | PARSER_OPTIONS,
            args=list(arguments),
        )
    except MisconfigurationException as error:
        said = re.split(r"\s+HINT:", str(error))[0]  # the hint is for those who write a LightningModule
        raise InputError(f"{said.rstrip('.!')}; change the trainer's options.") from error
