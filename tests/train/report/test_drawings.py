"""A report's parts: its drawings, and what it says in a terminal."""

import json
import re
import xml.etree.ElementTree as ET
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import Results, short_names
from maskrobust.train.report.sections.claim import chart_points, in_claim, reliance_limit, retention, retention_chart
from maskrobust.train.report.sections.curves import curves
from maskrobust.train.report.terminal import results_table, verdict_panel
from maskrobust.train.report.wording import in_sentence, method_title


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/version_0/checkpoints/last.ckpt"], ["a"]),
        (["last.ckpt"], ["last.ckpt"]),
        (["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"], ["a", "b"]),
        (["runs/a.ckpt", "runs/b.ckpt"], ["a.ckpt", "b.ckpt"]),
        (["runs/three/a/version_0/last.ckpt", "runs/demo/b/version_0/last.ckpt"], ["a", "b"]),
        (["a/b/x.ckpt", "a/x.ckpt"], ["b", "a"]),
        (["/one/x.pt", "two/x.pt", "/one/y.pt"], ["one/x.pt", "two/x.pt", "one/y.pt"]),
        (["a", "./a"], ["a", "./a"]),
        (["run-1/x", "run-12/x"], ["run-1", "run-12"]),
    ],
)
def test_networks_are_called_by_the_shortest_parts_of_their_paths_in_which_they_differ(paths, names):
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
        Curve.of(rows_at(x, y), 3, "1"),
        Curve.of(rows_at(x, [0.5] * 5), 7, "2", strong=False),
        Curve.of(rows_at([0.5], [None]), 8, "3"),
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


def test_every_curve_has_a_panel(made_claim):
    panels = curves(Results.read("claim", made_claim))
    assert panels is not None and panels.count("<svg") == 3 and "SLIC, object hidden first" in panels


def printed(renderable, width):
    console = Console(width=width, file=(text := StringIO()), color_system=None)
    console.print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_in_80_columns_each_network_is_a_line_below_its_way_of_hiding_and_each_value_below_its_heading(made_reliance):
    for name in ("plain", "a network that was fine-tuned for long, " * 3):
        content = json.loads(json.dumps(made_reliance).replace("plain", name))
        results = Results.read("reliance", content)
        _, heads, *lines = printed(results_table(results), 80)
        assert max(map(len, lines)) <= 80
        ends = {head: heads.index(head) + len(head) for head in ("outline", "circle", "50\u202f%", "none")}
        measures = zip(ends, ("silhouette_accuracy", "circle_accuracy", "retention", "clean_accuracy"), strict=True)
        of_head = dict(measures)
        for method in results.methods:
            assert lines.pop(0) == in_sentence(method_title(method))
            for network in results.networks:
                line = lines.pop(0)
                assert line.startswith(f"  {network.title[:15]}")
                for head, end in ends.items():
                    of = {"network": network.name, "method": method, "measure": of_head[head]}
                    (row,) = (
                        row
                        for row in select(results.over_seeds, **of)
                        if row.parameters.get("hidden_fraction", 0.5) == 0.5
                    )
                    assert line[:end].endswith(f" {100 * row.value:.0f}")
        assert lines == []


def test_titles_are_not_read_as_markup(claim):
    claim["arms"]["no_masks"]["title"] = "[red]A[/]"
    claim["claims"]["own"] = "[b]x[/b] [/]"
    text = "\n".join(printed(results_table(Results.read("claim", claim)), 120))
    assert "[red]A[/]" in text
    assert "[b]x[/b] [/]" in "\n".join(printed(verdict_panel(Results.read("claim", claim)), 120))


@pytest.mark.parametrize("width", [60, 120])
def test_the_panel_says_verdict_reason_fills_and_pairs(claim, width):
    rows = [row for row in claim["rows"] if row["measure"] == "reliance" and row["method"] == "mean"]
    first, second = (row for row in rows if row["compared_with"] == "layer_masking")
    bare, none = (row for row in rows if row["compared_with"] == "no_masks")
    bare |= {"value": -0.1, "low": -0.2, "high": 0.0}
    none |= {"value": None, "low": None, "high": None}
    first |= {"value": 0.21, "low": 0.15, "high": 0.27}
    second |= {"value": None, "low": None, "high": None, "reading": "open"}
    lines = printed(verdict_panel(Results.read("claim", claim)), width)
    text = " ".join(" ".join(line.strip("│╭╮╰╯─ ") for line in lines).split())
    assert max(map(len, lines)) <= width and claim["fills"] in text and "straw man" in text
    for verdict in claim["verdicts"]:
        said = (claim["claims"][verdict["case"]], verdict["outcome"].capitalize(), verdict["reason"])
        assert all(each in text for each in said) and "Undecided. Undecided" not in text
    assert all(" ".join(sentence.split()) in text for sentence in in_claim(Results.read("claim", claim)))
    numbers = "0.21 [0.15, 0.27], minus no masks −0.10 [−0.20, 0.00]"
    assert f"'Patches, mean fill' under mean colour fill: {numbers}, {first['reading']}" in text
    assert "'Other silhouettes, random colours' under mean colour fill: open" in text
