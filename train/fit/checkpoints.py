"""Write checkpoints atomically, and refuse to resume from one of another training."""

import io
import os
from collections.abc import Iterator, Mapping
from glob import escape
from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.train.storage.files import atomic_path

_MAY_CHANGE = frozenset(
    [
        "model.weights",
        "model.new_head",
        *(
            f"data.{name}"
            for name in ("root", "mask_root", "download", "batch_size", "num_workers", "train", "val", "test")
        ),
    ]
)
"""Arguments with which a run may go on that differ: where things are, and how they are read. Within an epoch, a loader
checks that a batch of all processes together is as large as it was."""

_SAVED_PATHS = frozenset(["best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"])


class CheckpointError(InputError):
    """A checkpoint cannot be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, down to the disk, and then puts it there in one step.

    After a kill, a power cut or a full disk the checkpoint that was there before is untouched, and nothing else is
    there that ends in .ckpt. A local checkpoint is read as `read_checkpoint` does, on the CPU. An address, such as
    s3://bucket/run, is left to Lightning: object stores replace an object only once it is whole.
    """

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint at `path`; nothing in a file is executed, whatever `weights_only` says.

        What its callbacks know of checkpoints in other folders is left out: a logger may upload what a path names.

        Raises:
            MissingFileError, InputError: see `read_checkpoint`.
        """
        if get_protocol(str(path)) != "file":
            return super().load_checkpoint(path, map_location, weights_only=True)
        checkpoint = read_checkpoint(path)
        _forget_elsewhere(checkpoint.get("callbacks"), Path(path).resolve().parent)
        return checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            CheckpointError: it cannot be written, as on a full disk.
        """
        if get_protocol(str(path)) != "file":
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        try:
            _write(checkpoint, Path(path))
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint '{path}' cannot be written ({error.strerror}); make room, and go on with --ckpt_path "
                "last, from what was saved before."
            ) from error


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    for remains in path.parent.glob(f".{escape(path.name)}.*"):  # of a process that was killed while it wrote
        remains.unlink()
    content = io.BytesIO()  # torch aborts the process where writing to a file raises, as a signal's handler may
    torch.save(checkpoint, content)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def _forget_elsewhere(states: Any, folder: Path) -> None:
    """Empty those paths of callbacks' states that lie outside a folder."""
    for state in states.values() if isinstance(states, dict) else ():
        for name in _SAVED_PATHS.intersection(state) if isinstance(state, dict) else ():
            kept = {path: value for path, value in _paths(state[name]) if _lies_in(folder, path)}
            state[name] = kept if name == "best_k_models" else next(iter(kept), "")


def _lies_in(folder: Path, path: str) -> bool:
    try:
        return Path(path).resolve().parent == folder
    except (ValueError, OSError, RuntimeError):  # which is no path: one with a null byte, or a circle of links
        return False


def _paths(known: Any) -> Iterator[tuple[str, Any]]:
    """Paths of checkpoints, each with what is known of it: a path alone, or several with their scores."""
    for path, value in known.items() if isinstance(known, dict) else [(known, None)]:
        yield str(path), value


def check_same_training(saved: Mapping[str, Any] | None, now: Mapping[str, Any], path: str) -> None:
    """Refuse to go on from a checkpoint with another model or on other data.

    Lightning would go on with whatever is given.

    Args:
        saved: configuration in the checkpoint, with "model" and "data", and with "optimizer" and "lr_scheduler" where
            these are torch's; None where there is none to compare with.
        now: configuration of the run that is to go on.
        path: path of the checkpoint, for messages.

    Raises:
        InputError: an argument differs that decides what is trained.
    """
    if saved is None:
        return
    try:
        before = _deciding(saved)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"'{path}' holds no configuration of maskrobust fit; give another file.") from error
    check_equal(before, _deciding(now), path)


def check_equal(saved: Mapping[str, Any], now: Mapping[str, Any], path: str) -> None:
    """Raise an `InputError` that names the first argument whose value differs, of those in both."""
    for name, value in now.items():
        before = saved.get(name, value)
        if isinstance(before, torch.Tensor) or before != value:
            raise InputError(
                f"'{path}' was trained with {name} {before}, got {value}; go on with the same, or give the file as "
                "--model.weights to start another training from its weights."
            )


def limit_reached(checkpoint: Mapping[str, Any], *, max_epochs: int | None, max_steps: int) -> str | None:
    """Which limit of the trainer's a training had reached when its Lightning checkpoint was saved.

    Args:
        checkpoint: a checkpoint of Lightning.
        max_epochs: None or below 0 for no limit.
        max_steps: below 0 for no limit.

    Returns:
        "max_epochs", "max_steps", or None where there is something left to train.

    Raises:
        InputError: the checkpoint does not say how far its training has come.
    """
    try:
        epochs = int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        counts = {"max_epochs": (epochs, max_epochs), "max_steps": (int(checkpoint["global_step"]), max_steps)}
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise InputError(
            "the checkpoint must say how far its training has come, but does not; give another."
        ) from error
    return next((name for name, (count, limit) in counts.items() if limit is not None and 0 <= limit <= count), None)


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a configuration that decide what is trained, by name."""
    named = {f"model.{name}": value for name, value in config["model"].items()}
    parts = {"data": config["data"], **{name: config.get(name) or {} for name in ("optimizer", "lr_scheduler")}}
    for part, chosen in parts.items():
        named |= {part: chosen.get("class_path")}
        named |= {f"{part}.{name}": value for name, value in chosen.get("init_args", {}).items()}
    return {name: value for name, value in named.items() if name not in _MAY_CHANGE}
