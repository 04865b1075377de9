"""A report's parts: its drawings, and what it says in a terminal."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import MEANINGLESS, Results, short_names
from maskrobust.train.report.sections.accuracy import curves
from maskrobust.train.report.sections.claim import chart_points, reliance_limit, retention, retention_chart
from maskrobust.train.report.sections.measures import margins, measures, pairs
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.report.wording import CONCLUSIONS, short
from tests.train.report.evaluations import evaluated


def test_a_network_at_chance_is_marked_and_compared_with_none():
    networks = {name: {"black": {"silhouette": 0.4, "circle": 0.3, "share": (0.5, 0.4, 0.6)}} for name in "ab"}
    results = evaluated(networks, {"a": 0.8, "b": 0.125}, at_chance={"b": "its accuracy is no better than guessing"})
    reading = MEANINGLESS + "its accuracy is no better than guessing"
    pair = Row("b", "black", "reliance", 0.1, 0.0, 0.2, 9, 0, compared_with="a", reading=reading)
    found = replace(results, rows=[*results.rows, pair])
    assert "no comparison: b is at chance (12.5\u202f%)" in (pairs(found) or "")
    shown = measures(found)
    assert shown.count('class="tag">at chance') == 1 and shown.count('<tr class="muted"') == 1


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/version_0/last.ckpt"], ["last.ckpt"]),
        (["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"], ["a", "b"]),
        (["runs/a.ckpt", "runs/b.ckpt"], ["a.ckpt", "b.ckpt"]),
        (["a/b/x.ckpt", "a/x.ckpt"], ["b/x.ckpt", "x.ckpt"]),
        (["/one/x.pt", "two/x.pt", "/one/y.pt"], ["/one/x.pt", "two/x.pt", "/one/y.pt"]),
        (["run-1/x", "run-12/x"], ["run-1", "run-12"]),
    ],
)
def test_networks_are_called_by_the_parts_of_their_paths_in_which_they_differ(paths, names):
    assert list(short_names(paths).items()) == list(zip(paths, names, strict=True))


SVG = "{http://www.w3.org/2000/svg}"


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def texts_of(svg):
    return ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]


def coloured(svg, tag, kind):
    """Elements that are filled or stroked in a colour of the page, with its number."""
    found = []
    for element in ET.fromstring(svg).iter(f"{SVG}{tag}"):
        colour = re.search(rf"{kind}: var\(--arm-(\d+)\)", element.get("style", ""))
        if colour:
            found.append((int(colour[1]), element))
    return found


def assert_affine(values, pixels):
    fitted = np.polyfit(values, pixels, 1)
    assert np.abs(np.polyval(fitted, values) - pixels).max() < 0.01
    return fitted


def rows_at(fractions, values):
    return [
        Row("a", "black", "retention", value, value and value - 0.1, value and value + 0.1, 9, 0,
            parameters={"hidden_fraction": fraction})
        for fraction, value in zip(fractions, values, strict=True)
    ]  # fmt: skip


def test_lines_lie_where_their_numbers_say_stand_out_or_not_and_pass_over_what_is_undefined():
    x, y = [0.5, 0.0, 0.75, 0.25, 1.0], [0.4, 0.9, 0.3, None, 0.2]
    drawn = [
        Curve.of(rows_at(x, y), "hidden_fraction", 3, "1"),
        Curve.of(rows_at(x, [0.5] * 5), "hidden_fraction", 7, "2", strong=False),
        Curve.of(rows_at([0.5], [None]), "hidden_fraction", 8, "3"),
    ]
    svg = line_chart(drawn, "x", "Black <fill>", "Hidden", "Accuracy", label='Chart "of" <b>')
    drawn_lines = [each for each in coloured(svg, "path", "stroke") if "fill: none" in each[1].get("style", "")]
    lines = dict(drawn_lines)
    assert lines.keys() == {3, 7}
    points = np.reshape(numbers(lines[3].get("d", "")), (-1, 2))
    assert len(points) == 4
    assert assert_affine([0.0, 0.5, 0.75, 1.0], points[:, 0].tolist())[0] > 0
    assert assert_affine([0.9, 0.4, 0.3, 0.2], points[:, 1].tolist())[0] < 0
    assert "stroke-width: 2" in lines[3].get("style", "") and "stroke-width" not in lines[7].get("style", "")
    assert {number for number, _ in coloured(svg, "use", "fill")} >= {3}  # the band of the one that stands out
    texts = texts_of(svg)
    assert {"1", "2", "Hidden", "Accuracy", "Black <fill>", "100"} <= {*texts} and "3" not in texts
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == [] and "currentColor" in svg and "<style" not in svg
    assert all(identity.startswith("x-") for identity in re.findall(r'\bid="([^"]*)"', svg))
    assert ET.fromstring(svg).get("aria-label") == 'Chart "of" <b>, Black <fill>'  # what a file names is no markup


def test_arms_and_their_intervals_lie_where_the_numbers_say(claim):
    results = Results.read("claim", claim)
    points = chart_points(results)
    svg = retention_chart(results, points)
    assert len(points) == 16 and sum(point.own for point in points) == 4
    markers = coloured(svg, "use", "fill")
    ordered = sorted(points, key=lambda point: point.own)
    assert [number for number, _ in markers] == [point.network.number for point in ordered]
    x_scale, y_scale = (
        assert_affine(
            [getattr(point, name).value for point in ordered], [float(use.get(axis, "")) for _, use in markers]
        )
        for name, axis in (("retention", "x"), ("used_share", "y"))
    )
    assert x_scale[0] > 0 > y_scale[0]
    bars = [numbers(path.get("d", "")) for _, path in coloured(svg, "path", "stroke")]
    bars = [ends for ends in bars if len(ends) == 4]
    own = [point for point in points if point.own]
    for point, across, upright in zip(own, bars[::2], bars[1::2], strict=True):
        ends = np.polyval(x_scale, [point.retention.low, point.retention.high])
        np.testing.assert_allclose([across[0], across[2]], ends, atol=0.02)
        ends = np.polyval(y_scale, [point.used_share.low, point.used_share.high])
        np.testing.assert_allclose([upright[1], upright[3]], ends, atol=0.02)
    texts = texts_of(svg)
    assert {"Accuracy with half of the patches hidden (%)", "Used share of the outline", *"1234"} <= set(texts)


@pytest.mark.parametrize("share", [0.07, -0.07])
def test_the_band_reaches_to_the_layer_masking_arms_reliance_and_the_margin(claim, share):
    for row in claim["rows"]:
        if (row["network"], row["method"], row["measure"]) == ("layer_masking", "layer_masking", "used_share"):
            row["value"] = share
    results = Results.read("claim", claim)
    assert reliance_limit(results) == pytest.approx(0.12)
    points = sorted(chart_points(results), key=lambda point: point.own)
    svg = retention_chart(results, points)
    (band,) = [path for path in ET.fromstring(svg).iter(f"{SVG}path") if "fill: var(--accent)" in path.get("style", "")]
    pixels = numbers(band.get("d", ""))[1::2]
    values = [point.used_share.value or 0.0 for point in points]
    fitted = assert_affine(values, [float(use.get("y", "")) for _, use in coloured(svg, "use", "fill")])
    assert (min(pixels), max(pixels)) == pytest.approx(np.polyval(fitted, [0.12, -0.12]), abs=0.02)


def test_an_arm_without_a_used_share_is_left_out_of_the_chart_which_says_so(claim):
    for row in claim["rows"]:
        if (row["network"], row["measure"]) == ("no_masks", "used_share"):
            row |= {"value": None, "low": None, "high": None}
    results = Results.read("claim", claim)
    assert {point.network.number for point in chart_points(results)} == {2, 3, 4}
    assert "4 of 16 points" in " ".join(retention(results).split())


def test_every_curve_has_a_panel_and_a_single_margin_is_no_curve(made_claim, made_reliance):
    panels = curves(Results.read("claim", made_claim))
    assert panels is not None and panels.count("<svg") == 3 and "SLIC, object hidden first" in panels
    results = Results.read("reliance", made_reliance)
    drawn = margins(results)
    assert drawn is not None and drawn.count("<svg") == len(results.methods)
    rows = [row for row in results.rows if row.measure != "margin_leak" or row.parameters["margin"] == 0]
    assert margins(replace(results, rows=rows)) is None


COLUMNS = ("used_share", "silhouette_leak", "swap_pull", "clean_accuracy", "retention")


def printed(renderable, width):
    console = Console(width=width, file=(text := StringIO()), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.256, ".26"), (-0.034, "-.03"), (-0.001, ".00"), (0.0, ".00"), (1.0, "1.00"), (0.999, "1.00"), (-1.2, "-1.20")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


@pytest.mark.parametrize("width", [70, 120])
def test_on_short_lines_no_number_is_lost_and_each_share_of_patches_has_a_column(made_reliance, width):
    lines = printed(results_table(Results.read("reliance", made_reliance)), width)
    assert max(map(len, lines)) <= width
    expected = [
        short(row[end])
        for row in made_reliance["rows"]
        if row["measure"] in (*COLUMNS, "outline_pull") and row["network"] and not row["compared_with"]
        and row["method"] in made_reliance["methods"]
        for end in ("value", "low", "high")
    ]  # fmt: skip
    assert sorted(re.findall(r"-?\d*\.\d\d", "\n".join(lines))) == sorted(expected)


def test_undefined_numbers_are_named_and_titles_are_not_read_as_markup(claim):
    claim["arms"]["no_masks"]["title"] = "[red]A[/]"
    claim["claims"]["own"] = "[b]x[/b] [/]"
    for row in claim["rows"]:
        if (row["network"], row["method"], row["measure"]) == ("no_masks", "black", "used_share"):
            row |= {"value": None, "low": None, "high": None}
    text = "\n".join(printed(results_table(Results.read("claim", claim)), 120))
    assert text.count("undefined") == 1 and "[red]A[/]" in text
    assert "[b]x[/b] [/]" in "\n".join(printed(verdict_panel(Results.read("claim", claim)), 120))


@pytest.mark.parametrize("width", [60, 120])
def test_the_panel_says_verdict_reason_fills_and_pairs(claim, width):
    first, second = (row for row in claim["rows"] if row["measure"] == "reliance" and row["method"] == "mean")
    first |= {"value": 0.21, "low": 0.15, "high": 0.27}
    second |= {"value": None, "low": None, "high": None, "reading": "open"}
    lines = printed(verdict_panel(Results.read("claim", claim)), width)
    text = " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in lines).split())
    assert max(map(len, lines)) <= width and claim["fills"] in text and "straw man" in text
    for verdict in claim["verdicts"]:
        conclusion = CONCLUSIONS[verdict["case"]][verdict["outcome"]]
        said = (claim["claims"][verdict["case"]], verdict["outcome"].capitalize(), conclusion, verdict["reason"])
        assert all(each in text for each in said) and "Undecided. Undecided" not in text
    assert f"'Patches, mean fill' under mean colour fill: 0.21 [0.15, 0.27], {first['reading']}" in text
    assert "'Other silhouettes, random colours' under mean colour fill: open" in text
