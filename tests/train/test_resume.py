"""Nothing is lost: a run that was interrupted, however, ends with the weights of one that was not."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.train.test_cli import sentence_of
from train.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

BEST = {"monitor": "val/accuracy", "mode": "max", "filename": "best"}
CALLBACKS = [
    {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.5}},
    {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": BEST},
]
DATA = {"train_images": 90, "val_images": 12, "image_size": 32, "batch_size": 8}  # 12 steps an epoch, the last with 2
EXACT = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")


def arguments(folder, *more, interruption=None, ckpt_path=None, **data):
    """Those of a training of two epochs with dropout, an average of weights, and holes."""
    callbacks = list(CALLBACKS)
    if interruption:
        callbacks.append({"class_path": "tests.train.interruptions.Interruption", "init_args": interruption})
    config = {
        "run_name": "run",
        "trainer": {
            "max_epochs": 2, "accelerator": "cpu", "devices": 1, "default_root_dir": str(folder),
            "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1, "callbacks": callbacks,
        },
        "model": {
            "architecture": "mobilenet_v3_small", "architecture_options": {"dropout": 0.5}, "learning_rate": 0.01,
            "masking": "fill", "patch_size": 8,
        },
        "data": {"class_path": "Cues", "init_args": {**DATA, **data}},
        "ckpt_path": ckpt_path,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'again' if ckpt_path else 'first'}.yaml"
    path.write_text(yaml.safe_dump(config))
    return ["fit", f"--config={path}", *more]


def last(folder):
    """The newest last checkpoint below a folder."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)


def run(given, status=0):
    """Run the command in a process group of its own, and return what it says on standard error."""
    command = [sys.executable, "-m", "train.cli", *given]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == status, errors
    return errors


def assert_same(left, right, name=""):
    """Equal to the last bit, in all that a checkpoint holds."""
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right), name
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), name
        for key in left:
            assert_same(left[key], right[key], f"{name}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), name
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_same(one, other, f"{name}.{number}")
    else:
        assert left == right, name


def assert_ends_the_same(folder, undisturbed):
    ended = torch.load(last(folder))
    for name in EXACT:
        assert_same(ended[name], undisturbed[name], name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The last checkpoint of a training that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    main(arguments(folder))
    return torch.load(last(folder))
