"""Write checkpoints atomically, and refuse to resume from one of another training."""

import io
import os
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.train.storage.files import atomic_path

LAST = "version_*/checkpoints/last*.ckpt"
"""Where the last checkpoints of a run are, in its folder."""

_MAY_CHANGE = {"model.weights", "model.new_head"} | {
    f"data.{name}"
    for name in ("root", "mask_root", "download", "batch_size", "num_workers", "train", "val", "test", "on_bad")
}
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
        _forget_elsewhere(checkpoint.get("callbacks"), os.path.dirname(os.path.abspath(path)))
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
            folder = Path(path).absolute().parent
            saved = [*folder.glob("last*.ckpt"), *folder.parent.parent.glob(LAST)]
            then = "go on with --ckpt_path last, from what was saved before" if saved else "begin again"
            raise CheckpointError(
                f"the checkpoint '{path}' cannot be written ({error.strerror}); make room, and {then}."
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


def _forget_elsewhere(states: Any, folder: str) -> None:
    """Empty those paths of callbacks' states that lie outside a folder."""
    for state in states.values() if isinstance(states, dict) else ():
        for name in _SAVED_PATHS.intersection(state) if isinstance(state, dict) else ():
            known = state[name] if isinstance(state[name], dict) else {f"{state[name]}": None}
            kept = {
                path: value for path, value in known.items() if os.path.dirname(os.path.abspath(f"{path}")) == folder
            }
            state[name] = kept if name == "best_k_models" else next(iter(kept), "")


def check_same_training(
    saved: Mapping[str, Any] | None, taken: Mapping[str, Any], now: Mapping[str, Any], path: str
) -> None:
    """Refuse to go on from a checkpoint with another model or on other data.

    Lightning would go on with whatever is given.

    Args:
        saved: configuration in the checkpoint, with "model" and "data", and with "optimizer" and "lr_scheduler" where
            these are torch's; None where there is none to compare with.
        taken: arguments of the model that it took where the configuration has None.
        now: configuration of the run that is to go on.
        path: path of the checkpoint, for messages.

    Raises:
        InputError: an argument differs that decides what is trained.
    """
    if saved is None:
        return
    try:
        before = _deciding(saved) | {f"model.{name}": value for name, value in taken.items()}
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


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a configuration that decide what is trained, by name."""
    named = {f"model.{name}": value for name, value in config["model"].items()}
    parts = {"data": config["data"], **{name: config.get(name) or {} for name in ("optimizer", "lr_scheduler")}}
    for part, chosen in parts.items():
        named |= {part: chosen.get("class_path")}
        named |= {f"{part}.{name}": value for name, value in chosen.get("init_args", {}).items()}
    return {name: value for name, value in named.items() if name not in _MAY_CHANGE}
