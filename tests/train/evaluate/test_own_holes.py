"""`maskrobust evaluate` on images with holes of their own: from files to rows, table and page."""

import numpy as np
import pytest

from maskrobust.augment import HoleBank
from maskrobust.lm_modules.reliance.plan import WITHOUT_HOLES
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from tests.train.evaluate.gaps import SIZE, write_gaps, write_network
from tests.train.evaluate.test_evaluate import rows_of
from tests.train.evaluate.test_evaluate_layouts import settings_of
from tests.train.report.pages import Page
from tests.train.tiny import FEW_MEASURES


def evaluate(root, *options, nodata=0):
    """Measure a network that names the class by a black hole, on images below `root`."""
    data = ["--data=Folder", f"--data.root={root}", f"--data.image_size={SIZE}", "--data.num_workers=0"]
    data += [f"--data.nodata={nodata}"] * (nodata is not None)
    network = write_network(root.parent / "weights.pt")
    look = "--preprocess={mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"
    run = [f"--network={network}", look, "--methods=[black, mean]", f"--out={root.parent / 'out'}"]
    main(["evaluate", *data, *run, *FEW_MEASURES, *options])
    return root.parent / "out"


def test_exchanging_holes_shows_what_a_network_reads_from_them(tmp_path, capsys):
    out = evaluate(write_gaps(tmp_path / "images"))
    own, exchanged = (
        {row.method: row for row in rows_of(out, measure=f"{which}_holes_accuracy", compared_with="")}
        for which in ("own", "exchanged")
    )
    assert own["black"].value == 1.0 and own["mean"].value == 0.25
    assert exchanged["black"].value < 0.45 and exchanged["mean"].value == 0.25
    cost = {row.method: row for row in rows_of(out, measure="exchange_cost", compared_with="")}
    assert cost["black"].value == pytest.approx(1.0 - exchanged["black"].value) and cost["black"].low > 0.4
    assert cost["mean"].value == 0.0
    (difference,) = rows_of(out, measure="exchanged_holes_accuracy", compared_method="black")
    assert difference.method == "mean" and difference.value == pytest.approx(0.25 - exchanged["black"].value)
    (clean,) = rows_of(out, measure="clean_accuracy", compared_method="black")
    assert clean.method == "mean" and clean.value == -0.75 and clean.high < -0.6
    told = capsys.readouterr().out
    assert f"black fill{100:>17}{round(100 * exchanged['black'].value):>11}" in told
    table = Page((out / "report.html").read_text()).tables["own-holes"]
    assert table[0][3] == "Exchanged holes" and [row[1] for row in table[1:]] == ["Black fill", "Mean colour fill"]


def test_without_holes_nothing_is_asked_about_them_and_one_line_says_so_if_there_could_be_some(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images", holes="none"))
    assert not rows_of(out, measure="exchange_cost") and WITHOUT_HOLES in settings_of(out)["left_out"]
    out = evaluate(write_gaps(tmp_path / "images", holes="none"), nodata=None)
    assert not rows_of(out, measure="exchange_cost") and WITHOUT_HOLES not in settings_of(out)["left_out"]
    out = evaluate(write_gaps(tmp_path / "images"), "--plan.own_holes=0")
    assert not rows_of(out, measure="exchange_cost") and WITHOUT_HOLES not in settings_of(out)["left_out"]


def test_ways_of_hiding_that_answer_alike_with_nothing_hidden_are_not_compared_by_it(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images", holes="none"))
    assert rows_of(out, measure="retention", compared_method="black")
    assert not rows_of(out, measure="clean_accuracy", compared_method="black")


def test_a_fill_that_mends_says_nothing_of_holes(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images"), "--methods=[inpainting, black]")
    assert {row.method for row in rows_of(out, measure="exchange_cost")} == {"black"}


def test_the_bank_of_an_evaluation_holds_every_image(tmp_path):
    root = write_gaps(tmp_path / "images", holes="half")
    data = Folder(str(root), nodata=0, image_size=SIZE, batch_size=16, num_workers=0)
    data.setup_split("test")
    bank = HoleBank.from_batches(data.whole_split("test"), data.object_of)
    assert bank is not None and len(bank) == 60
    assert 10 < bank.has_hole().sum() < 50
    assert np.array_equal(np.unique(bank.labels), range(4))
