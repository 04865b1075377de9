"""The pages in a real browser: nothing overflows or overlaps, charts are legible at any width, dark is dark."""

import json

from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.pages import render_claim, render_reliance
from tests.train.report.evaluations import read_results
from tests.train.report.pages import brightness, measured
from tests.train.report.test_pages import pictures

LONG = "Rectangles_of_every_size_and_aspect_ratio_" * 4 + " and so on, black, with a title that goes on and on"
LAYOUT = """
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
  const sizes = charts.flatMap(each => [...each.querySelectorAll("text")])
    .map(each => each.getBoundingClientRect().height);
  return {
    scrollWidth: root.scrollWidth, width: root.clientWidth, right: Math.max(...boxes.map(box => box.right)), overlaps,
    charts: charts.length, smallest: Math.min(...sizes), background: view.getComputedStyle(page.body).backgroundColor,
    stacked: [...page.querySelectorAll("main > *")].every((each, i, all) =>
      i === 0 || each.getBoundingClientRect().top >= all[i - 1].getBoundingClientRect().bottom),
    regions: Math.max(...[...page.querySelectorAll(".scroll")].map(each => each.getBoundingClientRect().right)),
  };
"""


def test_pages_neither_overflow_nor_overlap_and_charts_are_legible_on_every_screen(
    claim, made_claim, made_reliance, chromium, tmp_path
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
    pages = [(f"{name}{width}", width, text) for name, text in texts.items() for width in (320, 768, 1280)]
    for name, page in measured(chromium, tmp_path, LAYOUT, pages, "--blink-settings=preferredColorScheme=0").items():
        assert page["scrollWidth"] <= page["width"] and page["right"] <= page["width"], name
        assert page["regions"] <= page["width"] and page["overlaps"] == [] and page["stacked"], name
        assert page["smallest"] >= 8 and brightness(page["background"]) < 150, name
        assert page["charts"] == {"claim": 35, "reliance": 16}[name.rstrip("0123456789")], name
