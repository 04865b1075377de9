"""The page in a real browser: nothing overflows, phones get their own chart, dark is dark, hostile texts are texts."""

import base64
import html
import json
import re
import subprocess

import pytest

from tests.train.report.conftest import make_claim, set_undefined
from tests.train.report.test_page import HOSTILE, hostile_copy, pictures
from train.report import ExampleStrip, render_claim

LONG = "Rectangles_of_every_size_and_aspect_ratio_" * 4 + " and so on, black, with a title that goes on and on"
MEASURE = """
const results = {};
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, root = page.documentElement, view = frame.contentWindow;
  const shown = name => view.getComputedStyle(page.querySelector("#chart ." + name)).display !== "none";
  page.querySelectorAll("details").forEach(each => each.open = true);
  const boxes = [...page.querySelectorAll("main > *, .legend li, .strip")].map(each => each.getBoundingClientRect());
  results[frame.id] = {
    scrollWidth: root.scrollWidth, width: root.clientWidth, wide: shown("wide"), narrow: shown("narrow"),
    background: view.getComputedStyle(page.body).backgroundColor, colour: view.getComputedStyle(page.body).color,
    chart: view.getComputedStyle(page.querySelector("#chart svg text")).fill,
    right: Math.max(...boxes.map(box => box.right)), bold: page.querySelectorAll("b").length,
    claim: page.getElementById("claim").textContent, sections: page.querySelectorAll("main > section").length,
    stacked: [...page.querySelectorAll("main > *")].every((each, i, all) =>
      i === 0 || each.getBoundingClientRect().top >= all[i - 1].getBoundingClientRect().bottom),
  };
}
document.body.innerHTML = "<pre>" + btoa(unescape(encodeURIComponent(JSON.stringify(results)))) + "</pre>";
"""


def measured(chromium, folder, pages, *options):
    """What a browser sees of pages, each given as (name, width in pixels, text)."""
    frames = "".join(
        f'<iframe id="{name}" style="width: {width}px; height: 900px; border: 0" srcdoc="{html.escape(text)}"></iframe>'
        for name, width, text in pages
    )
    wrapper = folder / "wrapper.html"
    wrapper.write_text(f"<!doctype html>{frames}<script>window.onload = () => {{{MEASURE}}}</script>", encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--virtual-time-budget=3000", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,900"]
    command += [*options, "--dump-dom", wrapper.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    found = re.search(r"<pre>([\w+/=]+)</pre>", done.stdout.decode())
    assert found, done.stderr.decode()[-2000:]
    return json.loads(base64.b64decode(found[1]))


def make_pages(claim, widths):
    text = render_claim(claim, [ExampleStrip("Hidden along the outline", "layer_masking", pictures(5))])
    return [(f"w{width}", width, text) for width in widths]


def test_nothing_overflows_or_overlaps_at_any_width(chromium, tmp_path):
    claim = make_claim(11, methods=("black", "mean", "random_colour", "layer_masking"), seeds=(0, 1, 2))
    claim["arms"]["rectangles"]["title"] = LONG
    claim["provenance"]["command"] = "maskrobust claim " + "--arms.rectangles.model.masking=fill " * 12
    claim["verdict"]["reason"] = LONG
    set_undefined(claim, "patch_mixing", "black", "used_share", LONG)
    for page in measured(chromium, tmp_path, make_pages(claim, (320, 390, 768, 1280))).values():
        assert page["scrollWidth"] <= page["width"]
        assert page["right"] <= page["width"]
        assert page["stacked"]


def test_phones_get_the_narrow_chart(chromium, tmp_path, claim):
    found = measured(chromium, tmp_path, make_pages(claim, (390, 1280)))
    assert [(page["wide"], page["narrow"]) for page in found.values()] == [(False, True), (True, False)]


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_light_and_dark_follow_the_system(chromium, tmp_path, claim, scheme, dark):
    option = f"--blink-settings=preferredColorScheme={scheme}"
    (page,) = measured(chromium, tmp_path, make_pages(claim, (1280,)), option).values()
    background, text, chart = (
        sum(map(int, re.findall(r"\d+", page[part])[:3])) for part in ("background", "colour", "chart")
    )
    assert (background < 150 and text > 600) if dark else (background > 600 and text < 150)
    assert chart == text


def test_hostile_texts_make_no_elements(chromium, tmp_path, claim):
    (page,) = measured(chromium, tmp_path, make_pages(hostile_copy(claim), (1280,))).values()
    assert (page["bold"], page["claim"], page["sections"]) == (0, HOSTILE, 7)
