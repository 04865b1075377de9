"""A mask family and a fill in a file of the user's own, by their names, in every command that takes one."""

import json
import sys

import numpy as np
import pytest
import yaml

from maskrobust import load_network
from maskrobust.augment import FAMILIES, FILLS
from maskrobust.train.cli import main
from tests.train.masks.test_masks import DISCS, pictures_of
from tests.train.report.pages import Page
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA, tiny_fit

OWN = """
import torch
from maskrobust import draw, draw_hidden_fraction, fill, fold_in, mask_family

@mask_family("stripes")
def stripes(keys, height, width, *, hidden_fraction, period: int = 8):
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    place = torch.arange(width, device=keys.device) % period / period
    return (place >= fraction[:, None])[:, None, None].expand(-1, 1, height, -1)

@fill("grey")
def fill_grey(images, visible, *, value: float = 0.5):
    return draw(images, visible, torch.full_like(images, value))
"""
DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in TINY_DATA.items())]


@pytest.fixture(autouse=True)
def _own_file(tmp_path, monkeypatch):
    """my_masks.py can be imported, and has not been: a page of the docs has one, too."""
    forget()
    (tmp_path / "my_masks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    forget()


def forget():
    for name, registry in (("stripes", FAMILIES), ("grey", FILLS)):
        registry.pop(name, None)
    sys.modules.pop("my_masks", None)


def test_a_network_is_trained_with_them_and_measured_under_them(tmp_path, capsys):
    own, run, out = tmp_path / "own.yaml", tmp_path / "run", tmp_path / "out"
    masks = {"mask_family": {"my_masks.stripes": {"period": 12}}, "fill": {"black": 1, "my_masks.grey": {"value": 0.3}}}
    own.write_text(yaml.safe_dump({"model": {"masking": "fill", **masks}}))
    main(["fit", *tiny_fit("cues.yaml", run), f"--config={own}"])
    assert "stripes" in FAMILIES and "grey" in FILLS
    (checkpoint,) = run.rglob("last.ckpt")
    assert yaml.safe_load(next(run.rglob("config.yaml")).read_text())["model"]["mask_family"] == masks["mask_family"]

    forget()
    assert load_network(str(checkpoint)).num_classes == 8
    sentence = sentence_of(["validate", *tiny_fit("cues.yaml", run), f"--ckpt_path={checkpoint}"], capsys)
    assert "names 'my_masks.grey', which is not imported because a file names it" in sentence
    assert "my_masks" not in sys.modules

    options = ["--methods=[black, my_masks.grey]", "--plan.transfer_families=[patches, my_masks.stripes]"]
    main(["evaluate", f"--network={checkpoint}", *DATA, *FEW_MEASURES, *options, "--split=val", f"--out={out}"])
    assert "my_masks.grey" in json.dumps(json.loads((out / "reliance.json").read_text()))
    page = (out / "report.html").read_text()
    assert "Grey" in page and "Stripes" in page and "my_masks." not in Page(page).texts.get("transfer", "")


def test_the_gallery_shows_them(tmp_path):
    names = ["--families=[patches, {my_masks.stripes: {period: 10}}]", "--fills=[black, my_masks.grey]"]
    main(["masks", DISCS, "--images=1", *names, f"--out={tmp_path / 'out'}"])
    page = Page((tmp_path / "out/masks.html").read_text())
    assert [row[0] for row in page.tables["gallery-1"]] == ["Family", "Patches", "Stripes (period 10)"]
    hole = (pictures_of(page)["Stripes (period 10), Black fill"][0] == 0).all(axis=2)
    assert np.array_equal(hole[0], np.arange(40) % 10 < 5)
    assert (pictures_of(page)["Stripes (period 10), Grey"][0][hole] == 128).all()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (
            "--families=[my_masks.dots]",
            "module 'my_masks' registers no 'dots'; decorate its function with",
        ),
        ("--families=[{my_masks.stripes: {periods: 3}}]", "takes the options hidden_fraction, period, got 'periods'"),
        ("--fills=[my_marks.grey]", "fills names 'my_marks.grey', whose module cannot be imported"),
    ],
)
def test_a_mistake_in_such_a_name_is_one_sentence(option, named, tmp_path, capsys):
    assert named in sentence_of(["masks", DISCS, f"--out={tmp_path / 'out'}", option], capsys)
