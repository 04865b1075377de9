"""The page in a real browser: nothing overflows, phones get their own chart, dark is dark, hostile texts are texts."""

import pytest

from tests.train.report.conftest import make_claim, set_undefined
from tests.train.report.pages import brightness, measured
from tests.train.report.test_page import HOSTILE, hostile_copy, pictures
from train.report import ExampleStrip, render_claim

LONG = "Rectangles_of_every_size_and_aspect_ratio_" * 4 + " and so on, black, with a title that goes on and on"
MEASURE = """
  const shown = name => view.getComputedStyle(page.querySelector("#chart ." + name)).display !== "none";
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...page.querySelectorAll("main > *, .legend li, .strip")].map(each => each.getBoundingClientRect());
  return {
    scrollWidth: root.scrollWidth, width: root.clientWidth, wide: shown("wide"), narrow: shown("narrow"),
    background: view.getComputedStyle(page.body).backgroundColor, colour: view.getComputedStyle(page.body).color,
    chart: view.getComputedStyle(page.querySelector("#chart svg text")).fill,
    right: Math.max(...boxes.map(box => box.right)), bold: page.querySelectorAll("b").length,
    claim: page.getElementById("claim").textContent, sections: page.querySelectorAll("main > section").length,
    stacked: [...page.querySelectorAll("main > *")].every((each, i, all) =>
      i === 0 || each.getBoundingClientRect().top >= all[i - 1].getBoundingClientRect().bottom),
  };
"""


def make_pages(claim, widths):
    text = render_claim(claim, [ExampleStrip("Hidden along the outline", "layer_masking", pictures(5))])
    return [(f"w{width}", width, text) for width in widths]


def test_nothing_overflows_or_overlaps_at_any_width(chromium, tmp_path):
    claim = make_claim(11, methods=("black", "mean", "random_colour", "layer_masking"), seeds=(0, 1, 2))
    claim["arms"]["rectangles"]["title"] = LONG
    claim["provenance"]["command"] = "maskrobust claim " + "--arms.rectangles.model.masking=fill " * 12
    claim["verdict"]["reason"] = LONG
    set_undefined(claim, "patch_mixing", "black", "used_share", LONG)
    for page in measured(chromium, tmp_path, MEASURE, make_pages(claim, (320, 390, 768, 1280))).values():
        assert page["scrollWidth"] <= page["width"]
        assert page["right"] <= page["width"]
        assert page["stacked"]


def test_phones_get_the_narrow_chart(chromium, tmp_path, claim):
    found = measured(chromium, tmp_path, MEASURE, make_pages(claim, (390, 1280)))
    assert [(page["wide"], page["narrow"]) for page in found.values()] == [(False, True), (True, False)]


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_light_and_dark_follow_the_system(chromium, tmp_path, claim, scheme, dark):
    option = f"--blink-settings=preferredColorScheme={scheme}"
    (page,) = measured(chromium, tmp_path, MEASURE, make_pages(claim, (1280,)), option).values()
    background, text, chart = (brightness(page[part]) for part in ("background", "colour", "chart"))
    assert (background < 150 and text > 600) if dark else (background > 600 and text < 150)
    assert chart == text


def test_hostile_texts_make_no_elements(chromium, tmp_path, claim):
    (page,) = measured(chromium, tmp_path, MEASURE, make_pages(hostile_copy(claim), (1280,))).values()
    assert (page["bold"], page["claim"], page["sections"]) == (0, HOSTILE, 7)
