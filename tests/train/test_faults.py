"""What a command is told in one sentence loses and runs nothing: faults that only a whole command meets."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.train.cli import main
from tests.lm_modules.networks.test_weights import Malicious
from tests.train.test_cli import sentence_of
from tests.train.tiny import tiny_claim, tiny_fit

CHECKPOINT = "runs/cues/version_0/checkpoints/last.ckpt"
CUES = ["fit", *tiny_fit("cues.yaml", Path("runs")), "--trainer.callbacks=[]"]
FOLDER = [
    *("fit", "--data=Folder", "--data.root=images", "--data.mask_root=masks", "--data.image_size=32"),
    *(
        "--data.batch_size=4",
        "--data.num_workers=0",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ),
    *("--trainer.max_epochs=1", "--trainer.default_root_dir=runs", "--model.architecture_options={width: 16}"),
]
EVALUATE = ["evaluate", "--config=cues.yaml", "--methods=[black]", "--out=out"]
CLAIM = ["claim", "--config=claim.yaml", "--out=claim"]


def write_image(name):
    image, mask = Path("images", f"{name}.jpg"), Path("masks", f"{name}.png")
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((48, 40), 70).convert("RGB").save(image)
    object_mask = np.zeros((40, 48), dtype=np.uint8)
    object_mask[8:30, 10:36] = 255
    Image.fromarray(object_mask).save(mask)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder of images, masks, weights, a run and a claim."""
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for split, count in {"train": 8, "val": 4, "test": 4}.items():
            for number in range(count):
                write_image(f"{split}/{('bird', 'cat')[number % 2]}/{number}")
        torch.save(SmallResNet(5, width=16).state_dict(), "other.pt")
        tiny_claim("claim_cues.yaml", folder / "claim.yaml")
        main(CUES)
    return folder


def files():
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in Path().rglob("*") if path.is_file()}


def cut(path):
    """Shorten a file, as an interrupted copy does."""
    Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])


def name_a_class():
    """A checkpoint whose network is a class of a module that makes the file `executed` when it is imported."""
    Path("stranger.py").write_text("open('executed', 'w')\nclass Network: ...\n")
    checkpoint = torch.load(CHECKPOINT)
    checkpoint["hyper_parameters"]["architecture"] = {"class_path": "stranger.Network"}
    torch.save(checkpoint, "own.ckpt")


FAULTS = {
    # fault: command, what spoils the folder, what the sentence says
    "no images": (FOLDER, lambda: shutil.rmtree("images"), "'images"),
    "a class of validation alone": (FOLDER, lambda: shutil.copytree("images/val/cat", "images/val/dog"), "dog"),
    "a broken mask": (FOLDER, lambda: cut("masks/train/bird/2.png"), "bird/2.png"),
    "a YAML that is none": (["fit", "--config=own.yaml"], lambda: Path("own.yaml").write_text("a: [b"), "own.yaml"),
    "an arm that there is none of": ([*CLAIM, "--rule.baseline=no_mask"], None, "no_mask"),
    "a missing checkpoint": ([*CUES, "--ckpt_path=none.ckpt"], None, "none.ckpt"),
    "a broken checkpoint": ([*CUES, f"--ckpt_path={CHECKPOINT}"], lambda: cut(CHECKPOINT), "last.ckpt"),
    "code in weights": ([*CUES, "--model.weights=evil.pt"], None, "could run code"),
    "code in a checkpoint to resume": ([*CUES, "--ckpt_path=evil.pt"], None, "could run code"),
    "code in a checkpoint to evaluate": ([*EVALUATE, "--network=evil.pt"], None, "could run code"),
    "a class that a checkpoint names": ([*EVALUATE, "--network=own.ckpt"], name_a_class, "stranger.Network"),
    "weights of other classes": ([*CUES, "--model.weights=other.pt"], None, "size mismatch for fc"),
    "weights as a checkpoint": ([*CUES, "--ckpt_path=other.pt"], None, "--model.weights"),
    "a file as the folder of runs": ([*CUES, "--trainer.default_root_dir=other.pt"], None, "other.pt"),
}


@pytest.mark.parametrize(("command", "spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_in_one_sentence_and_nothing_is_lost(
    command, spoil, said, inputs, tmp_path, monkeypatch, capsys
):
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "extra": Malicious(Path("executed"))}, "evil.pt")
    if spoil is not None:
        spoil()
    before = files()
    assert said in sentence_of(command, capsys)
    assert before.items() <= files().items() and not Path("executed").exists()


OUT = "--out=/proc/x"
UNWRITABLE = [
    [*CUES, "--trainer.default_root_dir=/proc/x"],
    [*EVALUATE, f"--network={CHECKPOINT}", OUT],
    ["explain", "--config=cues.yaml", f"--network={CHECKPOINT}", OUT],
    ["export", f"--network={CHECKPOINT}", "--onnx=/proc/x/net.onnx"],
    ["masks", "--config=cues.yaml", OUT],
    [*CLAIM, OUT],
]


@pytest.mark.parametrize("command", UNWRITABLE, ids=lambda command: command[0])
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_computed(command, inputs, monkeypatch, capsys):
    monkeypatch.chdir(inputs)
    before = files()
    assert re.fullmatch(
        r"'/proc/x(/cues)?' must be a folder that can be written to, but '/proc' takes no files "
        r"\(No such file or directory\); choose another path, or change its permissions.",
        sentence_of(command, capsys),
    )
    assert files() == before
