"""A checkpoint is there whole, or as it was; and processes that train together resume from one."""

import errno
import json
import sys
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import fsspec
import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO, CheckpointError, check_same_training
from maskrobust.train.fit.command import SaveConfig
from tests.train.test_cli import sentence_of


class Failure:
    """Cannot be written, for some reason of the file's or of its own."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


@pytest.fixture
def saved(tmp_path):
    """A checkpoint that was written before."""
    path = tmp_path / "new" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1, "weights": torch.arange(3)}, path)
    return path


def test_a_checkpoint_is_read_as_it_was_written(saved):
    content = AtomicCheckpointIO().load_checkpoint(saved, weights_only=True)
    assert content["step"] == 1 and torch.equal(content["weights"], torch.arange(3))
    assert list(saved.parent.iterdir()) == [saved]


class Runs:
    """Runs a function where it is unpickled."""

    def __reduce__(self):
        return print, ("it ran",)


def test_a_checkpoint_at_an_address_executes_nothing(capsys):
    with fsspec.open("memory://run/whole.ckpt", "wb") as file:
        torch.save({"callbacks": Runs()}, file)
    with pytest.raises(UnpicklingError, match="Unsupported global"):
        AtomicCheckpointIO().load_checkpoint("memory://run/whole.ckpt", weights_only=False)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(OSError(errno.ENOSPC, "No space left on device"), CheckpointError), (RuntimeError("other"), RuntimeError)],
)
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(saved, failure, raised):
    before = saved.read_bytes()
    with pytest.raises(raised) as refusal:
        AtomicCheckpointIO().save_checkpoint({"step": 2, "more": Failure(failure)}, saved)
    assert isinstance(refusal.value, CheckpointError) == ("No space left on device" in str(refusal.value))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize(("before", "then"), [(None, "begin again."), ("version_0", "go on with --ckpt_path last,")])
def test_a_full_disk_says_to_go_on_only_where_a_state_was_saved(tmp_path, before, then):
    if before:
        AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / before / "checkpoints" / "last.ckpt")
    full = {"step": 2, "more": Failure(OSError(errno.ENOSPC, "No space left on device"))}
    with pytest.raises(CheckpointError, match=f"; make room, and {then}"):
        AtomicCheckpointIO().save_checkpoint(full, tmp_path / "version_1" / "checkpoints" / "last.ckpt")


def test_what_a_killed_process_has_left_goes_with_the_next_checkpoint(saved):
    (saved.parent / ".last.ckpt.4711").write_bytes(b"half")
    (saved.parent / ".best.ckpt.4711").write_bytes(b"of another")
    AtomicCheckpointIO().save_checkpoint({"step": 2}, saved)
    assert sorted(path.name for path in saved.parent.iterdir()) == [".best.ckpt.4711", "last.ckpt"]


def test_only_what_decides_the_training_must_be_the_same():
    data = {"class_path": "Folder", "init_args": {"root": "here", "num_workers": 2, "seed": 0}}
    saved = {"model": {"fill": "mean", "weights": "a.pt"}, "data": data}
    moved = {"model": {"weights": None}, "data": {**data, "init_args": {"root": "there", "seed": 0}}}
    check_same_training(saved, {}, moved, "last.ckpt")
    check_same_training(None, {}, moved, "last.ckpt")
    with pytest.raises(ValueError, match=r"^'last.ckpt' was trained with data.seed 0, got 1; go on with the same"):
        check_same_training(saved, {}, {**saved, "data": {**data, "init_args": {"seed": 1}}}, "last.ckpt")
    with pytest.raises(ValueError, match=r"^'last.ckpt' was trained with data Folder, got Pets;"):
        check_same_training(saved, {}, {**saved, "data": {**data, "class_path": "Pets"}}, "last.ckpt")
    slow, fast = ({"class_path": "torch.optim.Adam", "init_args": {"lr": rate}} for rate in (0.1, 0.2))
    with pytest.raises(ValueError, match=r"^'last.ckpt' was trained with optimizer.lr 0.1, got 0.2;"):
        check_same_training({**saved, "optimizer": slow}, {}, {**saved, "optimizer": fast}, "last.ckpt")
    left_open, named = ({**saved, "model": {"optimiser": name}} for name in (None, "sgd"))
    check_same_training(left_open, {"optimiser": "sgd"}, named, "last.ckpt")
    with pytest.raises(ValueError, match=r"^'last.ckpt' was trained with model.optimiser adamw, got sgd;"):
        check_same_training(left_open, {"optimiser": "adamw"}, named, "last.ckpt")


DONE = {"loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 1}}}}, "global_step": 2}
"""What a checkpoint says of a training that has come to the end of its first epoch."""


@pytest.mark.parametrize(
    "arguments",
    [
        {"architecture": '{"class_path": "stranger.Network"}'},
        {"architecture": "stranger.yaml"},
        {"architecture.class_path": "stranger.Network"},
        {"architecture_options": {"norm": '{"class_path": "stranger.Network"}'}},
    ],
    ids=["JSON", "file", "key", "option"],
)
def test_nothing_is_imported_however_a_checkpoint_names_it(tmp_path, monkeypatch, capsys, arguments):
    (tmp_path / "stranger.py").write_text("class Network: pass")
    (tmp_path / "stranger.yaml").write_text("class_path: stranger.Network")
    whole = {"state_dict": {}, "pytorch-lightning_version": "2.6.6", "optimizer_states": []}
    torch.save({**whole, **DONE, "hyper_parameters": arguments}, tmp_path / "last.ckpt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    data = ["--data=Cues", "--data.train_images=8", "--data.val_images=8", "--data.image_size=32"]
    options = ["--ckpt_path=last.ckpt", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"]
    if "architecture.class_path" in arguments:
        assert "it has 'architecture.class_path'" in sentence_of(["fit", *data, *options], capsys)
    else:
        with pytest.raises(RuntimeError, match="Missing key"):  # so far it comes: the network is built
            main(["fit", *data, *options])
    assert "stranger" not in sys.modules


def test_processes_that_found_other_last_checkpoints_do_not_train(tmp_path):
    """Which a slow file system can have shown to one of several machines."""
    callback = SaveConfig(None, None, json.dumps({"ckpt_path": "old.ckpt"}))  # type: ignore[arg-type]
    strategy = SimpleNamespace(broadcast=lambda own: own.replace("old", "new"))
    trainer: Any = SimpleNamespace(log_dir=str(tmp_path), strategy=strategy)
    with pytest.raises(InputError, match=r"this one found 'old\.ckpt' and the first 'new\.ckpt'; run the same"):
        callback.setup(trainer, None, "fit")  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []
