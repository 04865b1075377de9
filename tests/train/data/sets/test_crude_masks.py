"""Crude masks in place of object masks, and that what is measured with them says so."""

import json

import pytest

from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from tests.train.data.sets.test_folder import write_tree
from tests.train.report.pages import squeezed
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_FILES

SMALL = {"image_size": 32, "num_workers": 0}
MARK = "the object masks do not follow the objects, but are "


def test_masks_that_are_not_given_cannot_be_crude(tmp_path):
    root, masks = write_tree(tmp_path)
    with pytest.raises(InputError, match=r"crude_masks .* got no mask_root"):
        Folder(str(root), crude_masks=True)
    assert not Folder(str(root), str(masks), **SMALL).crude_masks


def crude(folder):
    root, masks = write_tree(folder)
    files = [f"--data.root={root}", f"--data.mask_root={masks}", "--data.crude_masks=true"]
    return ["--data=Folder", *files, *(f"--data.{name}={value}" for name, value in TINY_FILES.items())]


def test_an_evaluation_on_crude_masks_says_so_on_page_terminal_and_file(tmp_path, capsys):
    out = tmp_path / "out"
    main(["evaluate", "--network=small_resnet:random", f"--out={out}", *FEW_MEASURES, *crude(tmp_path)])
    kind = "those in mask_root"
    assert f"Crude: {MARK}{kind}" in squeezed(capsys.readouterr().out)
    assert f"Crude: {MARK}{kind}" in squeezed((out / "report.html").read_text())
    assert kind in json.loads((out / "reliance.json").read_text())["settings"]["crude_masks"]


@pytest.mark.parametrize(
    "command", [["shards"], ["explain", "--network=small_resnet:random", "--judge=true"]], ids=lambda words: words[0]
)
def test_what_marks_no_numbers_takes_no_crude_masks(command, tmp_path, capsys):
    given = [*command, *crude(tmp_path), f"--out={tmp_path / 'out'}"]
    assert "needs object masks that follow the objects, got crude ones" in sentence_of(given, capsys)
