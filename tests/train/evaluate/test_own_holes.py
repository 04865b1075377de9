"""`maskrobust evaluate` on images with holes of their own: from files to rows, table and page."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from maskrobust.lm_modules.reliance.measures.own_holes import MENDED_ALIKE, NO_PAIR
from maskrobust.lm_modules.reliance.plan import WITHOUT_HOLES
from maskrobust.train.cli import main
from maskrobust.train.report.own_holes_said import state_of
from maskrobust.train.report.wording import PERCENT
from tests.train.evaluate.gaps import SIZE, NamesBlackCorners, NamesBlackHalves, write_gaps, write_network
from tests.train.evaluate.test_evaluate import rows_of
from tests.train.evaluate.test_evaluate_layouts import settings_of
from tests.train.report.pages import Page, squeezed
from tests.train.tiny import FEW_MEASURES


def evaluate(root, *options, visible=0, size=SIZE, kind=NamesBlackCorners):
    """Measure a network that names the class by a black hole, on images below `root`."""
    data = ["--data=Folder", f"--data.root={root}", f"--data.image_size={size}", "--data.num_workers=0"]
    data += [f"--data.visible={visible}"] * (visible is not None)
    network = write_network(root.parent / "weights.pt", kind)
    look = "--preprocess={mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}"
    run = [f"--network={network}", look, "--methods=[black, mean]", f"--out={root.parent / 'out'}"]
    main(["evaluate", *data, *run, *FEW_MEASURES, *options])
    return root.parent / "out"


def test_exchanging_holes_shows_what_a_network_reads_from_them(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images"))
    own, exchanged = (
        {row.method: row for row in rows_of(out, measure=f"{which}_holes_accuracy", compared_with="")}
        for which in ("own", "exchanged")
    )
    assert own["black"].value == 1.0 and own["mean"].value == 0.25
    assert exchanged["black"].value < 0.45 and exchanged["mean"].value == 0.25
    (difference,) = rows_of(out, measure="exchanged_holes_accuracy", compared_method="black")
    assert difference.method == "mean" and difference.value == pytest.approx(0.25 - exchanged["black"].value)
    (clean,) = rows_of(out, measure="clean_accuracy", compared_method="black")
    assert clean.method == "mean" and clean.value == -0.75 and clean.high < -0.6
    table = Page((out / "report.html").read_text()).tables["own-holes"]
    assert table[0][3] == "Exchanged holes" and [row[1] for row in table[1:]] == ["Black fill", "Mean colour fill"]


def test_the_headline_says_what_holes_tell_and_how_far_answers_follow_them(tmp_path, capsys):
    out = evaluate(write_gaps(tmp_path / "images", 120), "--methods=[black, mean, inpainting]")
    pull = {row.method: row for row in rows_of(out, measure="own_hole_pull", compared_with="")}
    assert pull["black"].value == 1.0 and pull["black"].low > 0.9 and pull["black"].images == 120
    assert pull["mean"].value == 0.0 and pull["inpainting"].undefined_because == MENDED_ALIKE
    assert {row.method for row in rows_of(out, measure="exchanged_holes_accuracy")} == {"black", "mean"}
    (everything, place, *_) = rows_of(out, measure="holes_tell")
    assert everything.value == place.value == 1.0 and everything.network == ""
    (alone,) = rows_of(out, measure="holes_pull")
    assert alone.value == 1.0
    told = squeezed(capsys.readouterr().out)
    assert "black fill 100 " in told and "follows 100 " in told and "hardly 0 " in told
    (exchanged,) = rows_of(out, measure="exchanged_holes_accuracy", method="black", compared_with="")
    headline = (
        f"Right with own → exchanged holes: 100\u00a0→\u00a0{100 * exchanged.value:.0f}{PERCENT} under black fill and "
    )
    headline += f"25\u00a0→\u00a025{PERCENT} under mean colour fill."
    assert told.index(squeezed(headline)) < told.index("right in % own exchanged")
    assert "object hidden" not in told and "object mask: " not in told
    blind = f"100{PERCENT} (50{PERCENT} is blind)"
    first = f"Of two holes of two classes, holes alone say whose is whose in {blind}, by their place."
    second = "Answers follow the hole under black fill (by 100 of 100 points), hardly under mean colour fill (0)."
    third = "Under inpainting the pull of holes is undefined because the pictures are mended by this fill"
    assert squeezed(first) in told and second in told and third in told
    page = (out / "report.html").read_text()
    assert Page(page).texts["headline"].strip() == headline
    assert [row[-1] for row in Page(page).tables["own-holes"][1:]] == ["Follows", "Hardly"]


def test_two_classes_of_large_pictures_have_a_pull_and_words(tmp_path, capsys):
    out = evaluate(write_gaps(tmp_path / "images", 40, size=224, classes=2), size=224, kind=NamesBlackHalves)
    pull = {row.method: row for row in rows_of(out, measure="own_hole_pull", compared_with="")}
    assert pull["black"].value == 1.0 and pull["mean"].value == 0.0
    told = squeezed(capsys.readouterr().out)
    assert "holes alone say whose is whose in 100% (50% is blind), by their place." in told
    few = "not shown under mean colour fill (0; -8 to 8)"  # of 40 pictures
    assert f"Answers follow the hole under black fill (by 100 of 100 points), {few}." in told


def test_where_holes_tell_nothing_there_is_nothing_to_follow_or_to_show(tmp_path, capsys):
    out = evaluate(write_gaps(tmp_path / "images", 120, dose=0.0))
    told = squeezed(capsys.readouterr().out)
    assert "Holes alone are not shown to tell the class" in told
    assert "A weak reader of 120 images does not show that their holes tell nothing." in told
    assert "is at chance with nothing hidden" in told and "at chance 0 " in told
    pull = {row.method: row for row in rows_of(out, measure="own_hole_pull", compared_with="")}
    assert pull["black"].low <= 0.0 <= pull["black"].high


def test_a_network_at_chance_under_one_way_of_hiding_is_not_so_under_another(tmp_path, capsys):
    evaluate(write_gaps(tmp_path / "images", 120), "--methods=[mean, black]")
    told = squeezed(capsys.readouterr().out)
    assert "Answers follow the hole under black fill (by 100 of 100 points)" in told and "at chance" not in told


def test_intervals_of_the_table_hold_for_all_of_its_lines(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images", dose=0.5))
    (row,) = rows_of(out, measure="own_hole_pull", method="black", compared_with="")
    cell = Page((out / "report.html").read_text()).tables["own-holes"][1][4]
    value, low, high = (float(each) / 100 for each in re.findall(r"-?[0-9.]+", squeezed(cell)))
    wider = stats.t.isf(0.0125, row.degrees) / stats.t.isf(0.025, row.degrees)
    assert value == pytest.approx(row.value, abs=5e-4)
    assert (low, high) == pytest.approx(
        [row.value + wider * (end - row.value) for end in (row.low, row.high)], abs=5e-4
    )


@pytest.mark.parametrize("holes", ["half", "but_one_class"])
def test_no_hole_counts_as_a_hole(holes, tmp_path):
    out = evaluate(write_gaps(tmp_path / "images", holes=holes))
    pull = {row.method: row for row in rows_of(out, measure="own_hole_pull", compared_with="")}
    assert 0.2 < pull["black"].low < pull["black"].value and pull["mean"].value == 0.0
    presence = rows_of(out, measure="holes_tell", parameters={"by": "presence"})[0]
    assert (presence.low > 0.5) == (holes == "but_one_class")


def test_a_stamp_at_one_place_tells_nothing(tmp_path, capsys):
    root = write_gaps(tmp_path / "images", 120, holes="none")
    for path in root.rglob("*.png"):
        picture = np.array(Image.open(path))
        picture[20:28, 2:24] = 0
        Image.fromarray(picture).save(path)
    out = evaluate(root)
    for row in rows_of(out, measure="holes_tell", parameters={"by": "everything"}):
        assert row.value == 0.5
    for row in rows_of(out, measure="own_hole_pull", compared_with=""):
        assert row.value == 0.0
    assert "Holes alone are not shown to tell the class" in squeezed(capsys.readouterr().out)


def test_a_split_of_one_class_says_why_nothing_is_known_of_its_holes(tmp_path, capsys):
    root = write_gaps(write_gaps(tmp_path / "images", 4, split="train"), 40)
    for number in (1, 2, 3):
        shutil.rmtree(root / "test" / f"class{number}")
    out = evaluate(root)
    for name in ("own_hole_pull", "holes_tell", "holes_pull"):
        rows = rows_of(out, measure=name, compared_with="")
        assert rows and all("it takes" in row.undefined_because for row in rows)
    told = squeezed(capsys.readouterr().out)
    assert "What holes alone tell is not known: it takes images of two classes, and of three objects." in told
    assert f"Under black fill the pull of holes is {NO_PAIR}" in told
    assert rows_of(out, measure="exchanged_holes_accuracy", compared_with="")[0].images == 10


@pytest.mark.parametrize(
    ("low", "high", "tell", "state"),
    [
        (-0.04, 0.04, True, "hardly"),
        (-0.04, 0.04, False, "nothing"),
        (0.01, 0.04, True, "hardly"),
        (0.051, 0.9, True, "follows"),
        (0.051, 0.9, False, "follows"),
        (0.01, 0.2, True, "some"),
        (-0.3, -0.01, True, "misled"),
        (-0.01, 0.2, True, "open"),
        (-0.2, 0.05, False, "open"),
    ],
)
def test_the_word_follows_from_the_interval_of_the_pull(low, high, tell, state):
    assert state_of(low, high, tell=tell) == state


def test_without_holes_nothing_is_asked_about_them_and_one_line_says_so_if_there_could_be_some(tmp_path):
    out = evaluate(write_gaps(tmp_path / "images", holes="none"))
    assert not rows_of(out, measure="exchanged_holes_accuracy") and WITHOUT_HOLES in settings_of(out)["left_out"]
    assert rows_of(out, measure="retention", compared_method="black")
    assert not rows_of(out, measure="clean_accuracy", compared_method="black"), "alike with nothing hidden"
    out = evaluate(write_gaps(tmp_path / "images", holes="none"), visible=None)
    assert not rows_of(out, measure="exchanged_holes_accuracy") and WITHOUT_HOLES not in settings_of(out)["left_out"]
    out = evaluate(write_gaps(tmp_path / "images"), "--plan.own_holes=0")
    assert not rows_of(out, measure="exchanged_holes_accuracy") and WITHOUT_HOLES not in settings_of(out)["left_out"]
