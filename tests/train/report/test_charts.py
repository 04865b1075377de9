"""The drawings: every number lies where it says, nothing is lost, and the page decides the colours."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report import Results
from maskrobust.train.report.curves import Line, curve_chart, curve_panels
from maskrobust.train.report.margins import margins_section
from maskrobust.train.report.retention_chart import (
    chart_points,
    marker_points,
    reliance_limit,
    retention_chart,
)
from tests.train.report.conftest import Content

SVG = "{http://www.w3.org/2000/svg}"


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def texts_of(svg: str) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ET.fromstring(svg).iter(f"{SVG}text")]


def coloured(svg: str, tag: str, kind: str) -> list[tuple[int, ET.Element]]:
    """Elements that are filled or stroked in a network's colour, with its number."""
    found = []
    for element in ET.fromstring(svg).iter(f"{SVG}{tag}"):
        colour = re.search(rf"{kind}: var\(--arm-(\d+)\)", element.get("style", ""))
        if colour:
            found.append((int(colour[1]), element))
    return found


def assert_affine(values: list[float], pixels: list[float]) -> np.ndarray:
    fitted = np.polyfit(values, pixels, 1)
    assert np.abs(np.polyval(fitted, values) - pixels).max() < 0.01
    return fitted


def test_arms_and_their_intervals_lie_where_the_numbers_say(claim: Content) -> None:
    results = Results.read("claim", claim)
    svg = retention_chart(results)
    points = chart_points(results)
    assert len(points) == 12 and sum(point.best for point in points) == 4
    markers = coloured(svg, "use", "fill")
    ordered = [*(point for point in points if not point.best), *(point for point in points if point.best)]
    assert [number for number, _ in markers] == [point.network.number for point in ordered]
    x_scale = assert_affine([point.x for point in ordered], [float(use.get("x", "")) for _, use in markers])
    y_scale = assert_affine([point.y for point in ordered], [float(use.get("y", "")) for _, use in markers])
    assert x_scale[0] > 0 > y_scale[0]
    bars = [(number, numbers(path.get("d", ""))) for number, path in coloured(svg, "path", "stroke")]
    bars = [(number, ends) for number, ends in bars if len(ends) == 4]
    best = [point for point in points if point.best]
    assert len(bars) == 2 * len(best)
    for point, (_, across), (number, upright) in zip(best, bars[::2], bars[1::2], strict=True):
        assert number == point.network.number
        ends = np.polyval(x_scale, [point.retention.low, point.retention.high])
        np.testing.assert_allclose([across[0], across[2]], ends, atol=0.02)
        ends = np.polyval(y_scale, [point.used_share.low, point.used_share.high])
        np.testing.assert_allclose([upright[1], upright[3]], ends, atol=0.02)
        assert 0 < across[0] <= across[2] < 420


@pytest.mark.parametrize("share", [0.07, -0.07])
def test_the_band_reaches_to_the_layer_masking_arms_reliance_and_the_margin(claim: Content, share: float) -> None:
    for row in claim["rows"]:
        if (row["network"], row["method"], row["measure"]) == ("layer_masking", "layer_masking", "used_share"):
            row["value"] = share
    results = Results.read("claim", claim)
    assert reliance_limit(results) == pytest.approx(0.12)
    svg = retention_chart(results)
    (band,) = [path for path in ET.fromstring(svg).iter(f"{SVG}path") if "fill: var(--accent)" in path.get("style", "")]
    pixels = numbers(band.get("d", ""))[1::2]
    points = chart_points(results)
    ordered = [*(point.y for point in points if not point.best), *(point.y for point in points if point.best)]
    fitted = assert_affine(ordered, [float(use.get("y", "")) for _, use in coloured(svg, "use", "fill")])
    assert (min(pixels), max(pixels)) == pytest.approx(np.polyval(fitted, [0.12, -0.12]), abs=0.02)


def test_an_arm_without_a_used_share_is_left_out_of_the_chart(claim: Content) -> None:
    for row in claim["rows"]:
        if (row["network"], row["measure"]) == ("no_masks", "used_share"):
            row |= {"value": None, "low": None, "high": None}
    points = chart_points(Results.read("claim", claim))
    assert {point.network.number for point in points} == {2, 3, 4}


def test_the_chart_says_what_its_axes_are_and_leaves_colours_to_the_page(claim: Content) -> None:
    svg = retention_chart(Results.read("claim", claim))
    texts = texts_of(svg)
    assert "Accuracy with half of the patches hidden (%)" in texts and "Used share of the outline" in texts
    assert [number for number, _ in coloured(svg, "text", "fill")] == [1, 2, 3, 4] and {*"1234"} <= set(texts)
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == [] and "currentColor" in svg and "<style" not in svg
    assert all(name.startswith("retention-") for name in re.findall(r'\bid="([^"]*)"', svg))


def test_markers_of_methods_differ_and_fit_their_box() -> None:
    polygons = [marker_points(method) for method in range(8)]
    assert len(set(polygons)) == 8
    assert max(abs(number) for polygon in polygons for number in numbers(polygon)) <= 12


@pytest.fixture
def lines(made_claim: Content) -> list[Line]:
    results = Results.read("claim", made_claim)
    return [
        Line(
            network,
            results.is_in_the_rule(network),
            [
                row
                for row in results.over_seeds
                if row.measure.startswith("curve_")
                and (row.network, row.method) == (network.name, network.arm["method"])
            ],
        )
        for network in results.networks
    ]


def drawn_lines(svg: str) -> tuple[list[tuple[int, float, np.ndarray]], set[int]]:
    """(colour, width, points in pixels) of every line, and colours of the bands."""
    paths = []
    for number, path in coloured(svg, "path", "stroke"):
        width = re.search(r"stroke-width: ([\d.]+)", path.get("style", ""))
        points = np.reshape(numbers(path.get("d", "")), (-1, 2))
        paths.append((number, float(width[1]) if width else 1.0, points))
    return sorted(paths, key=lambda path: path[0]), {number for number, _ in coloured(svg, "use", "fill")}


def test_every_curve_lies_where_its_numbers_say_and_those_that_are_compared_stand_out(lines: list[Line]) -> None:
    panels = curve_panels(lines)
    assert panels == [("slic", "random"), ("slic", "most_salient"), ("slic", "least_salient")]
    scales = []
    for panel in panels:
        svg = curve_chart(lines, panel, "x")
        paths, bands = drawn_lines(svg)
        assert [colour for colour, _, _ in paths] == [1, 2, 3, 4] and bands == {2, 3, 4}
        widths = [width for _, width, _ in paths]
        assert widths[0] < widths[1] == widths[2] == widths[3]
        points = [
            [row for row in line.rows if row.measure == "curve_accuracy" and row.parameters["order"] == panel.order]
            for line in lines
        ]
        for axis, values in enumerate(
            (
                [float(row.parameters["hidden_fraction"]) for each in points for row in each],
                [row.value or 0.0 for each in points for row in each],
            )
        ):
            fitted = assert_affine(values, np.concatenate([path[:, axis] for _, _, path in paths]).tolist())
            assert (fitted[0] > 0) == (axis == 0)
            scales.append((axis, fitted[0]))
        texts = texts_of(svg)
        assert all(texts.count(str(number)) >= 1 for number in range(1, 5)) and panel.title in texts
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
        assert all(identity.startswith("x-") for identity in re.findall(r'\bid="([^"]*)"', svg))
    for axis in (0, 1):
        found = [scale for which, scale in scales if which == axis]
        assert np.allclose(found, found[0], rtol=1e-3)


def test_undefined_points_are_passed_over(lines: list[Line]) -> None:
    rows = [
        replace(row, value=None, low=None, high=None)
        if row.measure == "curve_accuracy" and row.parameters["hidden_fraction"] == 0.4
        else row
        for row in lines[0].rows
    ]
    changed = [lines[0]._replace(rows=rows), lines[1]]
    for panel in curve_panels(changed):
        paths, _ = drawn_lines(curve_chart(changed, panel, "x"))
        assert [len(points) for _, _, points in paths] == [10, 11]


def test_leaks_against_the_margin_lie_where_the_numbers_say(made_reliance: Content) -> None:
    results = Results.read("reliance", made_reliance)
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    section = margins_section(results)
    assert section is not None and len(section["charts"]) == len(results.methods)
    slopes = []
    for method, svg in zip(results.methods, section["charts"], strict=True):
        lines = [
            (number, numbers(path.get("d", "")))
            for number, path in coloured(svg, "path", "stroke")
            if "fill: none" in path.get("style", "")
        ]
        assert [number for number, _ in lines] == [network.number for network in results.networks]
        for network, (_, path) in zip(results.networks, lines, strict=True):
            values = [row.value or 0.0 for row in select(rows, network=network.name, method=method)]
            slopes.append((values[1] - values[0]) / (path[3] - path[1]))
        assert texts_of(svg).count("Leak") == 1
    assert np.allclose(slopes, slopes[0], rtol=1e-3) and slopes[0] < 0


def test_a_single_margin_is_no_curve(made_reliance: Content) -> None:
    results = Results.read("reliance", made_reliance)
    rows = [row for row in results.rows if row.measure != "margin_leak" or row.parameters["margin"] == 0]
    assert margins_section(replace(results, rows=rows)) is None
    assert margins_section(results) is not None
