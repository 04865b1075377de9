"""The pages in a real browser: nothing overflows or overlaps, phones get their own charts, dark is dark and legible."""

import pytest

from maskrobust.train.report import Answer, ExampleStrip, render_claim, render_reliance
from tests.train.report.conftest import make_claim, set_undefined
from tests.train.report.everything import add_everything, make_reliance
from tests.train.report.pages import brightness, measured
from tests.train.report.test_claim_page import HOSTILE, hostile_copy, pictures

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

LAYOUT = """
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...page.querySelectorAll("main > *, main > section > *, .legend li, .strip, .picture")]
    .map(each => each.getBoundingClientRect());
  const overlaps = [];
  for (const svg of page.querySelectorAll("figure svg[role=img]")) {
    const texts = [...svg.querySelectorAll("text")].filter(each => each.getClientRects().length)
      .map(each => [each.textContent.trim(), each.getBoundingClientRect()]);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) overlaps.push([one, other]);
    }));
  }
  const shown = [...page.querySelectorAll("figure div.wide, figure div.narrow")]
    .filter(each => view.getComputedStyle(each).display !== "none").map(each => each.className);
  return {
    scrollWidth: root.scrollWidth, width: root.clientWidth, right: Math.max(...boxes.map(box => box.right)), overlaps,
    shown: [...new Set(shown)], charts: shown.length,
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
    cells: ".heat-cell .value", intervals: ".heat-cell .interval", right: ".right .said", wrong: ".wrong .said",
    swatches: ".swatch", quiet: ".figures .interval", head: "h1",
  };
  const found = {};
  for (const [name, selector] of Object.entries(texts))
    found[name] = Math.min(...[...page.querySelectorAll(selector)]
      .map(each => contrast(style(each).color, ground(each))));
  found.numbers = Math.min(...[...page.querySelectorAll(".curves text[style*='--arm']")]
    .map(each => contrast(style(each).fill, ground(page.querySelector(".curves")))));
  return found;
"""


def example_strips():
    answers = ((Answer("a class with a long name", True, tuple(range(1, 4))), Answer("coat", False, (2,))),) * 5
    shown = {"classes": ("coat",) * 5, "answers": answers}
    return [
        ExampleStrip(label, method, pictures(5), **shown) for label, method in (("Original", None), ("Hidden", "black"))
    ]


@pytest.fixture(scope="module")
def full_pages():
    """Both pages with everything on them, by name."""
    claim = make_claim(11, methods=("black", "mean", "random_colour", "layer_masking"), seeds=(0, 1, 2))
    return {
        "claim": render_claim(add_everything(claim), example_strips()),
        "reliance": render_reliance(make_reliance(), example_strips()),
    }


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


@pytest.mark.parametrize(("width", "size"), [(390, "narrow"), (1280, "wide")])
def test_pages_with_everything_neither_overflow_nor_overlap(chromium, tmp_path, full_pages, width, size):
    pages = [(name, width, text) for name, text in full_pages.items()]
    for name, page in measured(chromium, tmp_path, LAYOUT, pages).items():
        assert page["scrollWidth"] <= page["width"] and page["right"] <= page["width"], name
        assert page["regions"] <= page["width"], name
        assert page["overlaps"] == [], name
        assert page["shown"] == [size]
        assert page["charts"] == {"claim": 2, "reliance": 3}[name]


@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_every_text_stands_out_from_its_ground(chromium, tmp_path, full_pages, scheme):
    option = f"--blink-settings=preferredColorScheme={scheme}"
    pages = [(name, 1280, text) for name, text in full_pages.items()]
    for name, page in measured(chromium, tmp_path, CONTRAST, pages, option).items():
        assert {text: ratio for text, ratio in page.items() if ratio < 4.5} == {}, name


def test_on_paper_tables_fit_and_nothing_sticks(chromium, tmp_path, full_pages):
    """What the print style says, applied to a frame as wide as A4 within the margins."""
    pages = [(name, 703, text.replace("@media print", "@media all")) for name, text in full_pages.items()]
    script = """
      const tables = [...page.querySelectorAll("table")].filter(each => each.getClientRects().length);
      return {
        right: Math.max(...tables.map(each => each.getBoundingClientRect().right)), width: root.clientWidth,
        sticky: tables.some(each => [...each.querySelectorAll("th, thead")]
          .some(part => view.getComputedStyle(part).position === "sticky")),
      };
    """
    for name, page in measured(chromium, tmp_path, script, pages).items():
        assert page["right"] <= page["width"] and not page["sticky"], name


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
