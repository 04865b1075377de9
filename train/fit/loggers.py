"""The loggers of a training: CSV files always, Weights & Biases if asked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info

from maskrobust.lm_modules.callbacks.logged_pictures import define_metric
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.lm_modules.reliance.catalogue import Goal
from maskrobust.train.running.tracking import (
    PATIENCE,
    WandbOptions,
    mode,
    refusals_as_input_errors,
    run_settings,
)

_CHECKPOINT_KEY = "wandb"
_GOALS: Mapping[str, Goal] = {
    "val/loss": "low", "val/accuracy": "high", "val/balanced_accuracy": "high", "val/accuracy_half_hidden": "high",
    "test/accuracy": "high",
}  # fmt: skip
_COUNTS = ("epoch", "trainer/global_step")


class WandbRun(WandbLogger):
    """One run of Weights & Biases: it ends when its training ends, and holds one nested configuration.

    Its summary has the best and the last value of what is validated; epochs and steps have no charts of their own.

    Nothing is sent, or written, before a training starts. It is offline where nobody is logged in and no mode is set
    (`wandb offline`, the variable WANDB_MODE).

    Args:
        name: name of the run.
        folder: below which W&B writes its own folder `wandb`; made when missing.
        options: how the run appears.
        run_id: id of a run to resume; None for a new one.
    """

    def __init__(self, name: str, folder: Path, options: WandbOptions, run_id: str | None = None) -> None:
        self._folder = folder
        super().__init__(
            name=name,
            save_dir=folder,
            id=run_id,
            **asdict(options),
            mode=mode(),
            settings=run_settings(),
        )
        self._wandb_init.pop("anonymous", None)  # of which W&B warns, whatever Lightning gives it

    @property
    def experiment(self) -> Any:
        """The run, begun on first use; a stand-in that does nothing in all processes but the first.

        Raises:
            InputError: W&B cannot be reached, or does not take the run.
        """
        begins = self._experiment is None
        if begins and self._wandb_init["mode"] is None:
            rank_zero_info(f"connecting to Weights & Biases, for up to {PATIENCE:.0f} seconds")
        self._folder.mkdir(parents=True, exist_ok=True)
        with refusals_as_input_errors():
            run = super().experiment
        if begins and self._experiment is not None:  # it stays None in all processes but the first
            for name, goal in _GOALS.items():
                define_metric([self], name, goal=goal)
            for name in _COUNTS:
                run.define_metric(name, hidden=True)
        return run

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Leave out Lightning's flat copy of what `log_configuration` has logged."""

    def finalize(self, status: str) -> None:
        """End the run: as finished, or as failed unless `status` is "success"."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)


class RunFolder(CSVLogger):
    """Gives a run its folder, and writes no log.

    Lightning puts checkpoints and configuration where the first logger says.

    Args:
        root: folder of all runs.
        run_name: name of the run.
        others: loggers that do log; whoever asks for the trainer's `logger.experiment` gets that of the first.
    """

    def __init__(self, root: Path, run_name: str, others: Sequence[Logger] = ()) -> None:
        super().__init__(root, name=run_name)
        self._others = others

    @property
    def experiment(self) -> Any:
        """That of the first logger that logs; None where there is none."""
        return getattr(self._others[0], "experiment", None) if self._others else None

    def log_metrics(self, *_: Any, **__: Any) -> None:
        """Log nothing."""

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Log nothing."""

    def save(self) -> None:
        """Write nothing."""


def loggers(root: Path, run_name: str, options: WandbOptions | None, ckpt_path: str | None) -> list[Logger]:
    """A CSV logger, and a W&B run where asked.

    Args:
        root: folder of all runs.
        run_name: name of the run in W&B, and of its folder below the root, for version_0, version_1, ...
        options: how the run appears in W&B; None to log to CSV files alone.
        ckpt_path: the checkpoint that training goes on from, whose run of the same name and project goes on in W&B,
            too. Who owns the project is never taken from the file: anyone may have written it, and would get what is
            logged.

    """
    chosen: list[Logger] = [CSVLogger(root, name=run_name)]
    if options is None:
        return chosen
    run_id = None if ckpt_path is None else _run_to_go_on_with(ckpt_path, run_name, options)
    return [*chosen, WandbRun(run_name, root, options, run_id)]


def log_configuration(loggers: Sequence[Logger], configuration: Mapping[str, Any]) -> None:
    """Make a nested dict the configuration of each run of W&B, or replace what it said before under the same keys."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.config.update(dict(configuration), allow_val_change=True)


def remember_wandb_run(loggers: Sequence[Logger], checkpoint: dict[str, Any]) -> None:
    """Put the run of W&B into a checkpoint, so that a training that goes on from there goes on with it."""
    for logger in loggers:
        if isinstance(logger, WandbRun) and not logger.experiment.disabled:
            checkpoint[_CHECKPOINT_KEY] = {name: getattr(logger.experiment, name) for name in ("id", "name", "project")}


def _run_to_go_on_with(ckpt_path: str, run_name: str, options: WandbOptions) -> str | None:
    """The id of the run that a checkpoint belongs to; None where it is of another name or project, or no id."""
    stored = read_checkpoint(ckpt_path).get(_CHECKPOINT_KEY)
    if not isinstance(stored, dict) or (stored.get("name"), stored.get("project")) != (run_name, options.project):
        return None
    run_id = str(stored.get("id"))
    return run_id if re.fullmatch("[A-Za-z0-9_-]{1,128}", run_id) else None  # W&B makes a folder of it
