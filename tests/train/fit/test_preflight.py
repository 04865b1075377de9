"""What is wrong with a training is said before it, all at once, and a bad file costs no state."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from pytorch_lightning.demos.boring_classes import BoringModel

from maskrobust.errors import did_you_mean
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from maskrobust.train.data.files.headers import header_faults
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.data.loading import EpochSampler
from tests.train.data.sets.test_folder import SIZES, write_tree
from tests.train.fit.test_resume import assert_same
from tests.train.runs import last, run
from tests.trainers import quiet_trainer

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")
COLOURS = ["--data.mean=[.5, .5, .5]", "--data.std=[.2, .2, .2]"]


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path, ("train", "val"))


def arguments(tree, *more):
    return [
        *("fit", "--data=Folder", f"--data.root={tree[0]}", f"--data.mask_root={tree[1]}", "--data.image_size=32"),
        *("--data.batch_size=2", "--data.num_workers=0", "--trainer.accelerator=cpu", "--trainer.max_epochs=1"),
        *("--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={tree[0].parent / 'runs'}"),
        *("--model.architecture_options={width: 16}", "--model.masking=fill", *more),
    ]


def said(given, capsys):
    """The lines with which a command is refused, before it has made a folder."""
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 2
    return capsys.readouterr().err.rpartition("maskrobust: error: ")[2].strip().splitlines()


def spoil(path):
    """Cut the pixels of an image off, and leave its header."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_all_that_is_wrong_is_said_in_one_list(tree, capsys):
    broken = tree[0] / "train/bird/2.png"
    broken.write_bytes(b"no image")
    Image.new("L", (9, 9)).save(tree[1] / "val/cat/1.png")
    wrong = ["--model.fill=blak", "--model.mask_family=pathces", "--model.objective=focal", "--trainer.devices=99"]
    first, *rest = said(arguments(tree, *wrong, "--model.momentum=.5", "--optimizer=SGD", "--optimizer.lr=.1"), capsys)
    expected = [
        "trainer.devices must be at most", "mask_family must be .*did you mean patches", "fill must be .*mean black",
        "objective must be", "model.momentum has no effect with --optimizer", f"'{broken}' cannot be read",
        "val/cat/1.png' must have the size of its image",
    ]  # fmt: skip
    assert first == f"{len(expected)} things must be corrected:"
    assert all(re.search(each, line) for each, line in zip(expected, rest, strict=True)), rest
    assert not (tree[0].parent / "runs").exists()


CALLBACKS = {
    "a misspelt class": (["EarlyStoping"], r"trainer.callbacks must be .*got EarlyStoping .*mean EarlyStopping"),
    "a metric that nothing logs": (
        ["EarlyStopping", "--trainer.callbacks.monitor=val/acuracy"],
        r"EarlyStopping watches 'val/acuracy', which nothing logs \(did you mean val/accuracy\?\); choose one of train",
    ),
    "a method": (["maskrobust.RelianceCallback", "--trainer.callbacks.methods=[blak]"], "methods must .*mean black"),
    "a network": (
        ["maskrobust.RelianceCallback", "--trainer.callbacks.network=nett"], "path of a module in MaskRobust.*'nett'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_are_looked_at_before_a_training(name, tree, capsys):
    (callback, *options), expected = CALLBACKS[name]
    (line,) = said(arguments(tree, f"--trainer.callbacks={callback}", *options), capsys)
    assert re.search(expected, line)


def test_a_network_of_ones_own_that_raises_is_told_with_its_line(tree, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "raising.py").write_text(
        "from torch import nn\n\n\nclass Raising(nn.Flatten):\n    def __init__(self, num_classes):\n        super()."
        "__init__()\n        self.head = nn.Linear(1, 2)\n\n    def forward(self, x):\n        raise KeyError('no')\n"
    )
    given = arguments(tree, "--model.architecture=raising.Raising", "--model.architecture_options=null")
    (line,) = said(given, capsys)
    assert re.match(
        r"the network must answer images \(1, 3, 32, 32\), but raises KeyError \('no'\) in line 10 of", line
    )


def test_a_suggestion_is_at_most_two_letters_away():
    names = ["Adam", "AdamW", "SGD", "resnet50", "--model.fill"]
    found = {each: did_you_mean(each, names) for each in ("Adamm", "adam", "resnet999", "--model.lr", "GD", "x")}
    near = {"Adamm": "Adam", "adam": "Adam", "GD": "SGD"}
    assert found == {each: f" (did you mean {near[each]}?)" if each in near else "" for each in found}


def test_each_process_reads_the_headers_of_its_part_and_all_together_those_of_every_file(tree, monkeypatch):
    read, images = list[Path](), []
    from maskrobust.train.data.files import headers

    original = Reading.check
    monkeypatch.setattr(Reading, "check", lambda self, path, place: read.append(path) or original(self, path, place))
    files = Folder(str(tree[0]), str(tree[1]), image_size=32).files("train")
    files[4].image.write_bytes(b"no image")
    faults = []
    for rank, ranks in [(1, 3), (2, 3), (0, 3), (0, 1)]:
        monkeypatch.setattr(headers, "rank_and_number", lambda place=(rank, ranks): place)
        read.clear()
        faults.append(header_faults(files, Reading(), tree[0]))
        images.append({path for path in read if path.is_relative_to(tree[0])})
    assert set.union(*images[:3]) == images[3] and sum(map(len, images[:3])) == len(images[3]) == SIZES["train"]
    assert [*map(len, faults)] == [1, 0, 0, 1] and faults[0] == faults[3] and f"'{files[4].image}'" in faults[0][0]


def test_bad_files_are_skipped_where_that_is_asked(tree):
    spoil(tree[0] / "train/cat/1.png")
    (tree[0] / "train/bird/2.png").write_bytes(b"no image")
    data = Folder(str(tree[0]), image_size=32, batch_size=3, num_workers=0, on_bad="skip")
    with pytest.warns(UserWarning, match=r"1 of 17 files cannot be used and are skipped, .*: '.*bird/2.png'"):
        data.setup("fit")
    assert 0 < data.mean[0] < 1
    assert sorted(len(batch.ids) for batch in data.train_dataloader()) in ([1, 3, 3, 3], [2, 2, 3, 3])
    read = torch.cat([batch.ids for batch in data.whole_split("train")]).tolist()
    bad = {"1.png", "2.png"}
    assert read == [file.id for file in data.files("train") if file.image.name not in bad]


@pytest.mark.parametrize(("split", "ranks"), [("train", 1), ("train", 2), ("val", 1)])
def test_a_file_that_is_bad_behind_its_header_ends_no_run_without_a_checkpoint(split, ranks, tree):
    """With two processes the second one meets it, in its second batch."""
    place = {"train": EpochSampler(SIZES["train"], 0, 2).order(0)[3 + ranks], "val": 4}[split]
    assert split == "val" or place > 8  # the first ones are looked at before the training
    file = Folder(str(tree[0]), image_size=32).files(split)[place].image
    content = file.read_bytes()
    spoil(file)
    more = [*COLOURS, f"--trainer.devices={ranks}", f"--trainer.strategy={'ddp' if ranks > 1 else 'auto'}"]
    more += ["--trainer.num_sanity_val_steps=0"]
    errors = run(arguments(tree, *more), status=3 - ranks)  # the first process misses the second one
    assert f"'{file}' cannot be read" in errors and ("Traceback" not in errors or ranks == 2)
    saved = torch.load(last(tree[0].parent))
    assert saved["global_step"] > 0
    file.write_bytes(content)
    run(arguments(tree, *more, "--ckpt_path=last"))
    run(arguments(tree, *more, "--run_name=whole"))
    one, other = (torch.load(last(tree[0].parent / "runs" / name))["state_dict"] for name in ("run", "whole"))
    of_ranks = {name for name in one if ranks == 2 and "running_" in name}  # each process has its own
    assert_same(*({name: each[name] for name in each.keys() - of_ranks} for each in (one, other)))


def test_a_data_module_alone_looks_at_its_files_in_a_trainer_of_anyone(tree):
    (tree[0] / "val/cat/1.png").write_bytes(b"no image")
    trainer = quiet_trainer(max_epochs=1)
    with pytest.raises(ValueError, match="cannot be read as an image"):
        trainer.fit(BoringModel(), datamodule=Folder(str(tree[0]), image_size=32))
