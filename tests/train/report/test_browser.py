"""The pages in a real browser: nothing overflows or overlaps, charts fit every screen, dark is dark and legible."""

import copy
import json

import pytest

from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.pages import render_claim, render_reliance
from tests.train.report.conftest import without_curves
from tests.train.report.evaluations import read_results
from tests.train.report.pages import brightness, measured
from tests.train.report.test_pages import HOSTILE, hostile_copy, pictures

LONG = "Rectangles_of_every_size_and_aspect_ratio_" * 4 + " and so on, black, with a title that goes on and on"
LAYOUT = """
  const tables = [...page.querySelectorAll("table")].filter(each => each.getClientRects().length);
  const printed = {
    right: Math.max(...tables.map(each => each.getBoundingClientRect().right)), width: root.clientWidth,
    sticky: tables.some(each => [...each.querySelectorAll("th, thead")]
      .some(part => view.getComputedStyle(part).position === "sticky")),
  };
  const bold = [...page.querySelectorAll("b")].filter(each => each.textContent.includes("]]>"));
  const hostile = [bold.length, page.getElementById("claim-own")?.textContent];
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...page.querySelectorAll("main > *, main > section > *, .legend li, .strip, .pictures")]
    .map(each => each.getBoundingClientRect());
  const overlaps = [];
  for (const svg of page.querySelectorAll("svg[role=img]")) {
    const texts = [...svg.querySelectorAll("text")].filter(each => each.getClientRects().length)
      .map(each => [each.textContent.trim(), each.getBoundingClientRect()]);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) overlaps.push([one, other]);
    }));
  }
  const charts = [...page.querySelectorAll("svg[role=img]")]
    .filter(each => each.getClientRects().length);
  const sizes = charts.flatMap(each => [...each.querySelectorAll("text")])
    .map(each => each.getBoundingClientRect().height);
  return {
    printed, hostile,
    scrollWidth: root.scrollWidth, width: root.clientWidth, right: Math.max(...boxes.map(box => box.right)), overlaps,
    charts: charts.length, smallest: Math.min(...sizes),
    stacked: [...page.querySelectorAll("main > *")].every((each, i, all) =>
      i === 0 || each.getBoundingClientRect().top >= all[i - 1].getBoundingClientRect().bottom),
    regions: Math.max(...[...page.querySelectorAll(".scroll")].map(each => each.getBoundingClientRect().right)),
  };
"""
CONTRAST = """
  const canvas = page.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const painted = colour => {
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = colour => painted(colour).map(x => x / 255)
    .map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const style = each => view.getComputedStyle(each);
  const ground = each => {
    for (let at = each; at; at = at.parentElement)
      if (style(at).backgroundColor !== "rgba(0, 0, 0, 0)") return style(at).backgroundColor;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = {
    swatches: ".swatch", cells_of_all: ".numbers td", words: ".line .share b", quiet: ".caption", head: "h1",
  };
  const found = {};
  for (const [name, selector] of Object.entries(texts))
    found[name] = Math.min(21, ...[...page.querySelectorAll(selector)]
      .map(each => contrast(style(each).color, ground(each))));
  found.background = style(page.body).backgroundColor;
  found.numbers = Math.min(21, ...[...page.querySelectorAll(".panels .name")]
    .map(each => contrast(style(each).fill, ground(page.querySelector(".panels")))));
  return found;
"""


def example_strips():
    return [ExampleStrip("Original", None, pictures(5)), ExampleStrip("Hidden", "layer_masking", pictures(5))]


@pytest.fixture(scope="module")
def full_pages(made_claim, made_reliance):
    """Both pages with everything on them and with long names, by name."""
    claim, reliance = copy.deepcopy(made_claim), json.loads(json.dumps(made_reliance).replace("patches/last", LONG))
    claim["arms"]["patches_mean"]["title"] = claim["verdicts"][0]["reason"] = LONG
    claim["provenance"]["command"] = "maskrobust claim " + "--arms.rectangles.model.masking=fill " * 12
    for row in claim["rows"]:
        if row["network"] == "no_masks" and row["measure"] == "used_share":
            row |= {"value": None, "low": None, "high": None, "undefined_because": LONG}
    return {
        "claim": render_claim(read_results("claim", claim), example_strips()),
        "reliance": render_reliance(read_results("reliance", reliance), example_strips()),
    }


@pytest.fixture(scope="module")
def seen(chromium, tmp_path_factory, full_pages, made_claim):
    """What a browser sees of every page, by kind and name: as it is, on paper, and with hostile texts.

    On paper: what the print style says, in a frame as wide as A4 within the margins, in a narrow and a wide font.
    """
    pages = [
        (f"screen {name}{width}", width, text) for name, text in full_pages.items() for width in (320, 390, 768, 1280)
    ]
    pages += [
        (
            f"paper {name} in {font}",
            703,
            text.replace("@media print", "@media all").replace("1.6 system-ui", f"1.6 {font}"),
        )
        for name, text in full_pages.items()
        for font in ("system-ui", "monospace")
    ]
    hostile = render_claim(read_results("claim", hostile_copy(without_curves(made_claim))), [])
    return measured(chromium, tmp_path_factory.mktemp("seen"), LAYOUT, [*pages, ("hostile", 1280, hostile)])


def test_pages_neither_overflow_nor_overlap_and_charts_are_legible_on_every_screen(seen):
    for name, page in ((name.removeprefix("screen "), each) for name, each in seen.items() if "screen" in name):
        assert page["scrollWidth"] <= page["width"] and page["right"] <= page["width"], name
        assert page["regions"] <= page["width"] and page["overlaps"] == [] and page["stacked"], name
        assert page["smallest"] >= 8, name
        assert page["charts"] == {"claim": 35, "reliance": 16}[name.rstrip("0123456789")], name


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)], ids=["dark", "light"])
def test_every_text_stands_out_from_its_ground_which_follows_the_system(chromium, tmp_path, full_pages, scheme, dark):
    option = f"--blink-settings=preferredColorScheme={scheme}"
    pages = [(name, 1280, text) for name, text in full_pages.items()]
    for name, page in measured(chromium, tmp_path, CONTRAST, pages, option).items():
        background = brightness(page.pop("background"))
        assert background < 150 if dark else background > 600
        assert {text: ratio for text, ratio in page.items() if ratio < 4.5} == {}, name


def test_on_paper_tables_fit_and_nothing_sticks(seen):
    pages = {name: page["printed"] for name, page in seen.items() if "paper" in name}
    assert len(pages) == 4
    for name, page in pages.items():
        assert page["right"] <= page["width"] and not page["sticky"], name


def test_hostile_texts_make_no_elements(seen):
    assert seen["hostile"]["hostile"] == [0, HOSTILE]
