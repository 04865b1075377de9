"""Writing checkpoints so that none is ever half written, and refusing to go on from one of another training."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fsspec.utils import get_protocol
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from train.files import atomic_path


_MAY_CHANGE = frozenset(
    [
        "model.init_weights",
        "model.new_head",
        *(f"data.{name}" for name in ("root", "mask_root", "download", "batch_size", "num_workers")),
    ]
)
"""Arguments with which a run may go on that differ: where things are, and how they are read. Within an epoch, a loader
checks that a batch of all processes together is as large as it was."""


class CheckpointError(OSError):
    """A checkpoint cannot be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, down to the disk, and then puts it there in one step.

    After a kill, a power cut or a full disk the checkpoint that was there before is untouched, and nothing else is
    there that ends in .ckpt. An address, such as s3://bucket/run, is left to Lightning: object stores replace an object
    only once it is whole.
    """

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
        except (OSError, RuntimeError) as error:
            cause = (
                error if isinstance(error, OSError) else error.__context__
            )  # of torch's complaint that it cannot end
            if not isinstance(cause, OSError):
                raise
            raise CheckpointError(
                f"the checkpoint '{path}' cannot be written ({cause.strerror}); make room, and go on with --ckpt_path "
                "last, from what was saved before."
            ) from cause


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    _remove_remains(path)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def _remove_remains(path: Path) -> None:
    """Remove what a process has left that was killed while it wrote to `path`."""
    for remains in path.parent.glob(f".{path.name}.*"):
        remains.unlink()


def check_same_training(
    checkpoint: Mapping[str, Any], path: str, model: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Refuse to go on from a checkpoint with another model or on other data.

    Lightning would take the model's arguments from the checkpoint, whatever is given, and the rest as it is.

    Args:
        checkpoint: content of a checkpoint that `maskrobust fit` has saved; nothing is asked of one without its
            configuration.
        path: of the checkpoint, for messages.
        model: arguments of the model now.
        data: "class_path" and "init_args" of the data module now.

    Raises:
        ValueError: an argument differs that decides what is trained.
    """
    saved = checkpoint.get("config")
    if saved is None:
        return
    pairs = {f"model.{name}": (saved["model"].get(name, value), value) for name, value in model.items()}
    pairs["data"] = (saved["data"]["class_path"], data["class_path"])
    then = saved["data"].get("init_args", {})
    pairs |= {f"data.{name}": (then.get(name, value), value) for name, value in data.get("init_args", {}).items()}
    for name, (before, now) in pairs.items():
        if name not in _MAY_CHANGE and before != now:
            raise ValueError(
                f"'{path}' was trained with {name} {before}, got {now}; go on with the same, or give the file as "
                "--model.init_weights to start another training from its weights."
            )
