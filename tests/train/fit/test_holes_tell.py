"""What `fit` says before a training whose images' holes tell the class."""

import pytest
import torch

from maskrobust.lm_modules.callbacks import HolesTell, holes_tell
from maskrobust.lm_modules.callbacks.holes_tell import told
from maskrobust.train.cli import main
from tests.train.tiny import TINY_NETWORK
from tiles import write_tiles

BOTH = (
    "hide them by layer masking (--model.masking layer_masking) and with holes of other images "
    "(--model.exchange_holes 1), and see docs/own-holes.md."
)
OTHERS = "hide them with holes of other images (--model.exchange_holes 1), and see docs/own-holes.md."


@pytest.fixture(autouse=True)
def _told_aloud(caplog):
    """A command that ran in this process before may have quieted Lightning."""
    caplog.set_level("INFO", "pytorch_lightning")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Folders of tiles by their dose."""
    folders = {dose: tmp_path_factory.mktemp(f"dose_{dose}") for dose in (0.9, 0)}
    for dose, folder in folders.items():
        write_tiles(folder, counts={"train": 160, "val": 8}, seed=1, dose=dose)
    return folders


def fit(root, out, *options, visible="alpha"):
    """Train for two steps; the weights."""
    data = ["--data=Folder", f"--data.root={root}", "--data.image_size=32", "--data.num_workers=0"]
    data += ["--data.batch_size=16", f"--data.visible={visible}"]
    trainer = ["max_steps=2", "limit_val_batches=1", "accelerator=cpu", "enable_progress_bar=false"]
    run = [f"--trainer.default_root_dir={out}", *(f"--trainer.{each}" for each in trainer)]
    main(["fit", *TINY_NETWORK, *data, *run, *options])
    (saved,) = out.rglob("last.ckpt")
    return torch.load(saved, weights_only=True)["state_dict"]


def test_one_line_says_that_holes_tell_the_class_by_what_and_what_to_do_before_the_first_epoch_ends(
    tiles, tmp_path, capsys, caplog, monkeypatch
):
    asked = []
    monkeypatch.setattr(holes_tell, "told", lambda *given: asked.append(given) or told(*given))
    fit(tiles[0.9], tmp_path, "--model.masking=layer_masking", "--model.exchange_holes=0.5")
    said = "".join(spoken := capsys.readouterr()) + caplog.text
    assert "--images IMAGES --data.visible alpha --out" in spoken.out  # they are predicted as they were trained on
    (line,) = {each[each.index("The holes of") :] for each in said.splitlines() if "The holes of your images" in each}
    begin, advice = line.split(" % of pairs; 50 % is blind): ")
    features, order = begin.removeprefix("The holes of your images tell their class by ").split(" (")
    assert "shape" in features.split(" and ") and 90 < int(order) <= 100
    ((read, *of_training),) = asked
    assert of_training == ["layer_masking", 0.5] and advice == "see docs/own-holes.md."
    for masking, exchanged, expected in [("none", 0, BOTH), ("fill", 0, BOTH), ("layer_masking", 0, OTHERS)]:
        assert told(read, masking, exchanged) == f"{begin} % of pairs; 50 % is blind): {expected}"


@pytest.mark.parametrize(
    ("dose", "visible"), [(0, "alpha"), (0.9, "null")], ids=["holes that tell nothing", "no holes"]
)
def test_nothing_is_said_where_holes_tell_nothing_and_where_there_are_none(
    dose, visible, tiles, tmp_path, capsys, caplog
):
    fit(tiles[dose], tmp_path, visible=visible)
    assert "The holes of" not in "".join(capsys.readouterr()) + caplog.text


def test_a_training_goes_on_as_it_would_without_the_line(tiles, tmp_path, monkeypatch):
    with_line = fit(tiles[0.9], tmp_path / "with", "--model.masking=fill")
    monkeypatch.setattr(HolesTell, "on_train_batch_start", lambda *_: None)
    without = fit(tiles[0.9], tmp_path / "without", "--model.masking=fill")
    assert all(torch.equal(with_line[name], without[name]) for name in without)
