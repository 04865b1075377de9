"""Pictures of images with their holes exchanged, on the page of an evaluation, with what networks answer."""

import numpy as np
import pytest

from maskrobust.train.cli import main
from maskrobust.train.report import exchanged
from tests.train.evaluate.gaps import SIZE, write_gaps, write_network
from tests.train.report.pages import Page
from tests.train.tiny import FEW_MEASURES


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Evaluates a network that names the class by a black hole; the page, and the pictures that it shows."""
    real, drawn = exchanged.draw_exchanged, []

    def watched(*given):
        drawn.append(real(*given))
        return drawn[-1]

    monkeypatch.setattr(exchanged, "draw_exchanged", watched)

    def evaluate(holes):
        root = write_gaps(tmp_path / "images", holes=holes)
        data = ["--data=Folder", f"--data.root={root}", f"--data.image_size={SIZE}", "--data.num_workers=0"]
        look = "--preprocess={mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"
        run = [f"--network={write_network(tmp_path / 'w.pt')}", look, "--methods=[black, mean]", f"--out={tmp_path}"]
        main(["evaluate", *data, "--data.visible=0", *run, *FEW_MEASURES])
        return Page((tmp_path / "report.html").read_text()), drawn[-1]

    return evaluate


def quarter(picture):
    """The class of the quarter in which the centre of the black hole lies."""
    rows, columns = np.nonzero((picture == 0).all(axis=2))
    assert 20 < len(rows) < 160
    return f"class{2 * (rows.mean() >= 16) + (columns.mean() >= 16):.0f}"


def test_each_picture_has_the_answers_to_the_hole_that_it_shows(evaluated):
    page, shown = evaluated("all")
    assert len(shown) == 3 and len({image.class_name for image in shown}) == 3
    head, below, black, mean = page.tables["exchanged"]
    assert [*filter(None, head)] == [image.class_name for image in shown]
    assert [*filter(None, below)] == ["own hole", "exchanged"] * 3
    quarters = [quarter(picture) for image in shown for picture in (image.own, image.exchanged)]
    assert black[1:] == quarters and quarters[::2] == [image.class_name for image in shown]
    assert quarters[1::2] != quarters[::2]
    assert mean[1:] == ["class0"] * 6


def test_images_without_a_hole_are_not_shown_and_without_holes_there_is_no_table(evaluated):
    _, shown = evaluated("but_one_class")
    assert {image.class_name for image in shown} == {"class1", "class2", "class3"}
    assert all(quarter(image.own) == image.class_name for image in shown)
    page, shown = evaluated("none")
    assert shown == [] and "exchanged" not in page.tables
