"""Crude masks in place of object masks, and that what is measured with them says so."""

import json

import numpy as np
import pytest

from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from maskrobust.train.data.files.crude_masks import salient_region
from tests.train.data.conftest import joined
from tests.train.data.sets.test_folder import write_tree
from tests.train.report.pages import squeezed
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_FILES

SMALL = {"image_size": 32, "num_workers": 0}
MARK = "the object masks do not follow the objects, but are "


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


def test_the_salient_region_is_the_thing_that_differs_from_its_surroundings():
    rng = np.random.default_rng(0)
    for row, column in ((40, 30), (90, 120), (30, 100)):
        image = rng.integers(100, 110, (140, 180, 3), dtype=np.uint8)
        thing = np.zeros((140, 180), dtype=bool)
        thing[row : row + 24, column : column + 24] = True
        image[thing] = (220, 40, 30)
        assert overlap(salient_region(image), thing) > 0.3
        assert not salient_region(image)[~thing].all()


def test_an_image_of_one_colour_has_no_salient_region():
    assert not salient_region(np.full((40, 50, 3), 128, dtype=np.uint8)).any()


def test_a_box_is_the_middle_of_each_image_and_every_image_has_one(tmp_path):
    root, _ = write_tree(tmp_path)
    data = Folder(str(root), crude_masks="box", **SMALL)
    batch = joined(data.whole_split("val"))
    inside, outside = batch.object_mask[..., 10:22, 12:20], batch.object_mask[..., :6, :]
    assert inside.all() and not outside.any()
    assert len(joined(data.annotated_batches("val")).ids) == len(batch.ids)
    assert data.crude_masks and not Folder(str(root), **SMALL).crude_masks


@pytest.mark.parametrize(("kind", "has_masks"), [("box", True), ("saliency", True), ("given", False)])
def test_masks_are_given_where_the_user_says_so_and_nowhere_else(kind, has_masks, tmp_path):
    root, masks = write_tree(tmp_path)
    with pytest.raises(InputError, match=f"crude_masks {kind} .* mask_root"):
        Folder(str(root), str(masks) if has_masks else None, crude_masks=kind)


def crude(folder, *, given):
    root, masks = write_tree(folder)
    data = ["--data=Folder", f"--data.root={root}", *(f"--data.{name}={value}" for name, value in TINY_FILES.items())]
    more = ["--data.crude_masks=given", f"--data.mask_root={masks}"] if given else ["--data.crude_masks=saliency"]
    return [*data, *more]


@pytest.mark.parametrize("given", [True, False])
def test_an_evaluation_on_crude_masks_says_so_on_page_terminal_and_file(given, tmp_path, capsys):
    out = tmp_path / "out"
    main(["evaluate", "--network=small_resnet:random", f"--out={out}", *FEW_MEASURES, *crude(tmp_path, given=given)])
    kind = "those in mask_root" if given else "the largest salient region"
    assert f"Crude: {MARK}{kind}" in squeezed(capsys.readouterr().out)
    assert f"Crude: {MARK}{kind}" in squeezed((out / "report.html").read_text())
    assert kind in json.loads((out / "reliance.json").read_text())["settings"]["crude_masks"]


@pytest.mark.parametrize(
    "command", [["shards"], ["explain", "--network=small_resnet:random", "--judge=true"]], ids=lambda words: words[0]
)
def test_what_marks_no_numbers_takes_no_crude_masks(command, tmp_path, capsys):
    given = [*command, *crude(tmp_path, given=False), f"--out={tmp_path / 'out'}"]
    assert "needs object masks that follow the objects, got crude ones" in sentence_of(given, capsys)
