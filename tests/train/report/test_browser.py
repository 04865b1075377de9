"""The pages in a real browser: nothing overflows or overlaps, charts are legible at any width, dark is dark."""

import contextlib
import dataclasses
import itertools
import json

from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.pages import render_claim, render_reliance
from maskrobust.train.report.results import Results
from tests.train.report.evaluations import read_results
from tests.train.report.pages import brightness
from tests.train.report.test_pages import pictures

LONG = "Rectangles_of_every_size_and_aspect_ratio_" * 4 + " and so on, black, with a title that goes on and on"
LAYOUT = """() => {
  const page = document, root = document.documentElement, view = window;
  const grown = (each, view) => {  // the box of a line has no height
    const box = each.getBoundingClientRect(), half = parseFloat(view.getComputedStyle(each).strokeWidth) / 2 || 0;
    return {left: box.left, right: box.right, top: box.top - half, bottom: box.bottom + half};
  };
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...page.querySelectorAll("main > *, main > section > *, .legend li, .strip, .pictures")]
    .map(each => each.getBoundingClientRect());
  const charts = [...page.querySelectorAll("svg[role=img]")].filter(each => each.getClientRects().length);
  const overlaps = [];
  for (const svg of charts) {
    const texts = [...svg.querySelectorAll("text")].filter(each => each.getClientRects().length)
      .map(each => [each.textContent.trim(), each.getBoundingClientRect()]);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
          && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1) overlaps.push([one, other]);
    }));
  }
  const texts = [], reader = page.createTreeWalker(page.querySelector("#grid"), view.NodeFilter.SHOW_TEXT);
  while (reader.nextNode()) {
    const range = page.createRange();
    range.selectNodeContents(reader.currentNode);
    for (const box of range.getClientRects()) texts.push([reader.currentNode.data.trim(), box]);
  }
  const bars = [...page.querySelectorAll("#grid .band, #grid .gap, #grid .loss, #grid circle, #grid path, #grid img")]
    .map(each => [each.getAttribute("class") || each.tagName, grown(each, view)]);
  const written = texts.filter(([text, box]) => text && box.width);
  written.forEach(([one, a], i) => [...written.slice(i + 1), ...bars].forEach(([other, b]) => {
    if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
        && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 2) overlaps.push([one, other]);
  }));
  const sizes = charts.flatMap(each => [...each.querySelectorAll("text")])
    .map(each => each.getBoundingClientRect().height);
  return {
    filled: Math.max(...charts.map(each => each.getBoundingClientRect().right), ...[...page.querySelectorAll(".share")]
      .map(each => each.getBoundingClientRect().right)) / page.querySelector("#grid").getBoundingClientRect().right,
    scrollWidth: root.scrollWidth, width: root.clientWidth, right: Math.max(...boxes.map(box => box.right)), overlaps,
    charts: charts.length, smallest: Math.min(...sizes), background: view.getComputedStyle(page.body).backgroundColor,
    stacked: [...page.querySelectorAll("main > *")].every((each, i, all) =>
      i === 0 || each.getBoundingClientRect().top >= all[i - 1].getBoundingClientRect().bottom),
    regions: Math.max(...[...page.querySelectorAll(".scroll")].map(each => each.getBoundingClientRect().right)),
  };
}"""


def measured(browser, texts, widths, colours="light"):
    """What `LAYOUT` finds in pages, given by name, in a window of each width: by name and width."""
    with contextlib.closing(browser.new_page(color_scheme=colours)) as tab:
        found = {}
        for (name, text), width in itertools.product(texts.items(), widths):
            tab.set_viewport_size({"width": width, "height": 900})
            tab.set_content(text)
            found[name, width] = tab.evaluate(LAYOUT)
    return found


def test_pages_neither_overflow_nor_overlap_and_charts_are_legible_on_every_screen(
    claim, made_claim, made_reliance, browser
):
    """With everything on them, and with long names."""
    long = claim | {"rows": made_claim["rows"]}
    reliance = json.loads(json.dumps(made_reliance).replace("patches/last", LONG))
    long["arms"]["patches_mean"]["title"] = long["verdicts"][0]["reason"] = LONG
    long["provenance"]["command"] = "maskrobust claim " + "--arms.rectangles.model.masking=fill " * 12
    strips = [ExampleStrip("Original", None, pictures(5)), ExampleStrip("Hidden", "layer_masking", pictures(5))]
    texts = {
        "claim": render_claim(read_results("claim", long), strips),
        "reliance": render_reliance(read_results("reliance", reliance), strips),
    }
    for name, page in measured(browser, texts, (320, 420, 768, 1280), "dark").items():
        assert page["scrollWidth"] <= page["width"] and page["right"] <= page["width"], name
        assert page["regions"] <= page["width"] and page["overlaps"] == [] and page["stacked"], name
        assert page["smallest"] >= 8 and brightness(page["background"]) < 150, name
        assert page["charts"] == {"claim": 35, "reliance": 16}[name[0]], name


def test_numbers_stand_beside_bars_wherever_these_end_and_columns_fill_the_page(reliance, browser):
    results = read_results("reliance", reliance)
    strips = [
        ExampleStrip("", method, pictures(1), condition)
        for method, condition in [
            ("black", "silhouette"),
            ("black", "circle"),
            ("black", "retention/0.5"),
            (None, "clean"),
        ]
    ]
    texts = {}
    for place, (value, low, high) in enumerate([(0.0, 0.0, 0.3), (1.0, 0.7, 1.0), (0.5, 0.02, 0.98), (0.07, 0.0, 1.0)]):
        rows = [
            dataclasses.replace(row, value=value, low=low, high=high)
            if row.measure in ("silhouette_accuracy", "retention")
            else row
            for row in results.rows
        ]
        content = reliance | {"chance": value}
        texts[f"ends{place}"] = render_reliance(Results("reliance", content, rows), strips)
    shapeless = [row for row in results.rows if "silhouette" not in row.measure and row.measure != "shape_choice"]
    texts["shapeless"] = render_reliance(Results("reliance", reliance, shapeless), strips)
    for name, page in measured(browser, texts, (420, 1280)).items():
        assert page["overlaps"] == [] and page["scrollWidth"] <= page["width"], name
        assert page["filled"] > 0.8, name
