import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from maskrobust.train.report.curve_chart import CurveLine, curve_chart, curve_panels, curve_sizes
from maskrobust.train.report.networks import networks_of_claim
from tests.train.report.conftest import make_claim
from tests.train.report.everything import CURVE_FAMILIES, CURVE_ORDERS, add_everything

SVG = "{http://www.w3.org/2000/svg}"


def make_lines(arms=4, emphasised=(2, 4)):
    networks = networks_of_claim(add_everything(make_claim(arms)))
    return [CurveLine(each, each.number in emphasised, each.methods["black"]["curves"]) for each in networks]


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text)]


def drawn(chart):
    """By panel: (colour, width, points in pixels) of every line, and colours of the bands."""
    panels = []
    for axes in (group for group in chart.iter(f"{SVG}g") if re.search(r"-axes_\d+$", group.get("id", ""))):
        lines = []
        for path in axes.iter(f"{SVG}path"):
            stroke = re.search(r"stroke: var\(--arm-(\d+)\)", path.get("style", ""))
            if stroke:
                width = re.search(r"stroke-width: ([\d.]+)", path.get("style"))
                points = np.reshape(numbers(path.get("d")), (-1, 2))
                lines.append((int(stroke[1]), float(width[1]) if width else 1.0, points))
        bands = [re.search(r"fill: var\(--arm-(\d+)\)", each.get("style", "")) for each in axes.iter(f"{SVG}use")]
        panels.append((sorted(lines, key=lambda line: line[0]), [int(band[1]) for band in bands if band]))
    return panels


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_every_curve_lies_where_its_numbers_say_in_every_panel(name):
    lines = make_lines()
    found = drawn(ET.fromstring(curve_chart(lines, name, "x")))
    panels = curve_panels(lines)
    assert len(found) == len(panels) == 9
    for panel, (paths, _) in zip(panels, found, strict=True):
        assert [colour for colour, _, _ in paths] == [1, 2, 3, 4]
        points = [line.curves[panel.family][panel.order]["accuracy"]["points"] for line in lines]
        for axis, key in enumerate(("hidden_fraction", "value")):
            values = [point[key] for each in points for point in each]
            pixels = np.concatenate([path[:, axis] for _, _, path in paths])
            fitted = np.polyfit(values, pixels, 1)
            assert np.abs(np.polyval(fitted, values) - pixels).max() < 0.01 and (fitted[0] > 0) == (axis == 0)


def test_lines_that_the_rule_compares_are_thick_with_intervals_and_the_others_thin():
    for paths, bands in drawn(ET.fromstring(curve_chart(make_lines(), "wide", "x"))):
        widths = {colour: width for colour, width, _ in paths}
        assert widths[2] == widths[4] > widths[1] == widths[3]
        assert sorted(set(bands)) == [2, 4]


def test_every_line_carries_its_number():
    chart = ET.fromstring(curve_chart(make_lines(11), "wide", "x"))
    texts = ["".join(text.itertext()).strip() for text in chart.iter(f"{SVG}text")]
    assert all(texts.count(str(number)) >= 9 for number in range(1, 12))
    assert "SLIC, most salient first" in texts and "Patches, random" in texts


def test_undefined_points_are_passed_over_and_missing_curves_leave_the_panel_to_the_others():
    lines = make_lines(2)
    points = lines[0].curves["patches"]["random"]["accuracy"]["points"]
    points[4] |= {"value": None, "low": None, "high": None}
    for point in lines[1].curves["patches"]["random"]["accuracy"]["points"]:
        point |= {"value": None, "low": None, "high": None}
    del lines[1].curves["slic"]
    found = dict(zip(curve_panels(lines), drawn(ET.fromstring(curve_chart(lines, "wide", "x"))), strict=True))
    (path,) = found["patches", "random"][0]
    assert path[0] == 1 and len(path[2]) == 10
    assert [colour for colour, _, _ in found["slic", "random"][0]] == [1]


def test_panels_come_family_by_family():
    assert curve_panels(make_lines(1)) == [(family, order) for family in CURVE_FAMILIES for order in CURVE_ORDERS]


def test_colours_are_left_to_the_page_and_the_drawing_is_deterministic():
    svg = curve_chart(make_lines(), "wide", "x")
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == [] and "currentColor" in svg
    assert svg == curve_chart(make_lines(), "wide", "x")
    assert all(name.startswith("x-") for name in re.findall(r'\bid="([^"]*)"', svg))
    sizes = curve_sizes(curve_panels(make_lines(1)))
    assert sizes["narrow"].width < 360 < sizes["wide"].width
