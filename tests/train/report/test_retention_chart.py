import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from maskrobust.train.report.retention_chart import (
    CHART_SIZES,
    chart_points,
    marker_points,
    reliance_limit,
    retention_chart,
)
from tests.train.report.conftest import make_claim, set_undefined

SVG = "{http://www.w3.org/2000/svg}"


def drawn_chart(claim, size="wide"):
    return ET.fromstring(retention_chart(claim, CHART_SIZES[size], "x"))


def markers(chart):
    """(arm colour, x, y) of every data marker."""
    found = []
    for use in chart.iter(f"{SVG}use"):
        colour = re.search(r"fill: var\(--arm-(\d+)\)", use.get("style", ""))
        if colour:
            found.append((int(colour[1]), float(use.get("x")), float(use.get("y"))))
    return found


def error_bars(chart):
    """(arm colour, x0, y0, x1, y1) of every interval."""
    found = []
    for path in chart.iter(f"{SVG}path"):
        colour = re.search(r"stroke: var\(--arm-(\d+)\)", path.get("style", ""))
        numbers = re.findall(r"-?[\d.]+", path.get("d"))
        if colour and len(numbers) == 4:
            found.append((int(colour[1]), *map(float, numbers)))
    return found


def drawn_figures(claim):
    """(arm colour, retention, used share) of every arm under its own method, and under the others."""
    own, other = [], []
    for number, arm in enumerate(claim["arms"].values(), start=1):
        for method in claim["methods"]:
            found = arm["methods"][method]["all_seeds"]
            group = own if method == arm["method"] else other
            group.append((number, found["retention"], found["used_share"]))
    return own, other


def assert_affine(values, pixels, tolerance=0.01):
    slope, start = np.polyfit(values, pixels, 1)
    assert np.abs(np.polyval([slope, start], values) - pixels).max() < tolerance
    return slope, start


@pytest.mark.parametrize("size", CHART_SIZES)
@pytest.mark.parametrize("arms", [2, 11])
def test_points_and_intervals_lie_where_the_numbers_say(arms, size):
    claim = make_claim(arms)
    chart = drawn_chart(claim, size)
    own, other = drawn_figures(claim)
    figures = [*other, *own]
    points = markers(chart)
    assert [point[0] for point in points] == [number for number, _, _ in figures]
    x_scale = assert_affine([x["value"] for _, x, _ in figures], [point[1] for point in points])
    y_scale = assert_affine([y["value"] for _, _, y in figures], [point[2] for point in points])
    assert x_scale[0] > 0 > y_scale[0]
    bars = error_bars(chart)
    for (number, x, y), horizontal, vertical in zip(own, bars[::2], bars[1::2], strict=True):
        assert horizontal[0] == vertical[0] == number
        ends = np.polyval(x_scale, [x["low"], x["high"]])
        np.testing.assert_allclose([horizontal[1], horizontal[3]], ends, atol=0.02)
        ends = np.polyval(y_scale, [y["low"], y["high"]])
        np.testing.assert_allclose([vertical[2], vertical[4]], ends, atol=0.02)


@pytest.mark.parametrize("size", CHART_SIZES)
def test_nothing_is_drawn_outside_the_frame(size):
    claim = make_claim(11)
    chart = drawn_chart(claim, size)
    assert chart.get("viewBox").split()[2:] == [str(CHART_SIZES[size].width), str(CHART_SIZES[size].height)]
    for _, x0, y0, x1, y1 in error_bars(chart):
        assert 0 < x0 <= x1 < CHART_SIZES[size].width
        assert 0 < y1 <= y0 < CHART_SIZES[size].height


def test_colours_are_left_to_the_page(claim):
    svg = retention_chart(claim, CHART_SIZES["wide"], "x")
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
    assert "currentColor" in svg and "var(--accent)" in svg
    assert {int(number) for number in re.findall(r"var\(--arm-(\d+)\)", svg)} == {1, 2, 3, 4}
    assert "<style" not in svg and "<metadata" not in svg


def test_text_stays_text(claim):
    texts = ["".join(text.itertext()).strip() for text in drawn_chart(claim).iter(f"{SVG}text")]
    assert "Accuracy with half of the patches hidden (%)" in texts
    assert "Used share of the outline" in texts
    assert [text for text in texts if text in "1234"] == ["1", "2", "3", "4"]


def test_ticks_of_one_axis_differ_however_small_the_range():
    claim = make_claim(1, methods=("black",))
    figures = claim["arms"]["no_masks"]["methods"]["black"]["all_seeds"]
    figures["retention"] |= {"value": 0.5, "low": 0.4999, "high": 0.5001}
    figures["used_share"] |= {"value": 0.001, "low": 0.0005, "high": 0.0015}
    texts = ["".join(text.itertext()).strip() for text in drawn_chart(claim).iter(f"{SVG}text")]
    ticks = [text for text in texts if re.fullmatch(r"−?[\d.]+", text)]
    assert len(ticks) - len(set(ticks)) <= 1


def test_points_with_an_undefined_figure_are_left_out(claim):
    set_undefined(claim, "no_masks", "black", "used_share")
    drawn, left_out = chart_points(claim)
    assert (len(drawn), [(point.arm, point.method) for point in left_out]) == (11, [(0, 0)])
    assert len(markers(drawn_chart(claim))) == 11


@pytest.mark.parametrize("share", [0.07, -0.07])
def test_the_band_holds_shares_of_either_sign_up_to_the_layer_masking_arms_reliance_and_the_margin(claim, share):
    claim["arms"]["layer_masking"]["methods"]["layer_masking"]["all_seeds"]["used_share"]["value"] = share
    assert reliance_limit(claim) == pytest.approx(0.12)
    chart = drawn_chart(claim)
    (band,) = [path for path in chart.iter(f"{SVG}path") if "fill: var(--accent)" in path.get("style", "")]
    pixels = [float(number) for number in re.findall(r"-?[\d.]+", band.get("d"))][1::2]
    own, other = drawn_figures(claim)
    values = [used_share["value"] for _, _, used_share in (*other, *own)]
    slope, start = assert_affine(values, [point[2] for point in markers(chart)])
    assert (min(pixels), max(pixels)) == pytest.approx(np.polyval([slope, start], [0.12, -0.12]), abs=0.02)


def test_no_band_is_drawn_without_a_layer_masking_arm():
    svg = retention_chart(make_claim(2), CHART_SIZES["wide"], "x")
    assert "var(--accent)" not in svg


def test_the_drawing_is_deterministic_and_its_ids_carry_the_prefix(claim):
    first, second = (retention_chart(claim, CHART_SIZES["wide"], "x") for _ in range(2))
    assert first == second
    assert all(name.startswith("x-") for name in re.findall(r'\bid="([^"]*)"', first))


def test_markers_of_methods_differ_and_fit_their_box():
    polygons = [marker_points(method) for method in range(8)]
    assert len(set(polygons)) == 8
    corners = [[float(number) for number in re.findall(r"-?[\d.]+", polygon)] for polygon in polygons]
    assert max(abs(number) for polygon in corners for number in polygon) <= 12
