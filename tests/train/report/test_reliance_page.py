import base64
import json
import re

import pytest

from maskrobust.train.report import Answer, ExampleStrip, reliance_csv, render_reliance
from tests.train.report.conftest import undefined_figure
from tests.train.report.everything import CHECKPOINTS, make_reliance
from tests.train.report.expected import TABLES, body_rows, expected_cell, expected_cells
from tests.train.report.pages import Page, squeezed
from tests.train.report.test_claim_page import HOSTILE, hostile_copy, pictures


@pytest.fixture(scope="module")
def reliance():
    return make_reliance()


@pytest.fixture(scope="module")
def page(reliance):
    return Page(render_reliance(reliance, []))


@pytest.mark.parametrize("part", ["checkpoints", "differences"])
def test_every_number_of_the_tables_is_that_of_the_evaluation(reliance, page, part):
    identity = "results" if part == "checkpoints" else part
    for table, keys in TABLES.items():
        expected = [
            expected_cells(figures, keys, differences=part == "differences")
            for methods in reliance[part].values()
            for figures in methods.values()
        ]
        assert [row[1:] for row in body_rows(page, f"{identity}-{table}")] == expected


def test_used_shares_stand_side_by_side_by_masking_method(reliance, page):
    rows = [[squeezed(cell) for cell in row] for row in page.tables["shares"] if len(row) == 3][1:]
    expected = [
        expected_cell(methods[method]["used_share"], "used_share")
        for method in reliance["checkpoints"][CHECKPOINTS[0]]
        for methods in reliance["checkpoints"].values()
    ]
    assert [row[1] for row in rows] == expected


def test_scores_are_those_of_each_checkpoint_under_each_masking_method(reliance, page):
    for method in ("black", "mean", "layer_masking"):
        rows = page.tables[f"curves-{method}-unchanged"][2:]
        for row, methods in zip(rows, reliance["checkpoints"].values(), strict=True):
            found = methods[method]["curves"]
            scores = [order["unchanged"]["score"] for orders in found.values() for order in orders.values()]
            assert [squeezed(cell) for cell in row[1:]] == [expected_cell(x, "clean_accuracy") for x in scores]


def test_inner_layers_have_a_table_of_what_they_carry(reliance, page):
    rows = [row[1:] for row in body_rows(page, "layers-remains")]
    keys = ("features_silhouette", "features_circle", "carried_information")
    assert rows == [
        expected_cells(layer, keys)
        for methods in reliance["checkpoints"].values()
        for figures in methods.values()
        for layer in figures["layers"].values()
    ]


def test_the_headline_comes_first_and_whole_paths_are_named():
    html = render_reliance(make_reliance(everything=False), [])
    page = Page(html)
    assert "no_masks/version_0 relies most on outlines" in page.texts["headline"]
    assert all(title in page.texts["findings"] for title in ("Black fill", "Mean colour fill", "Layer masking"))
    assert html.index('id="headline"') < html.index('id="shares"') < html.index('id="results-outline"')
    assert all(path in page.texts["checkpoints"] for path in CHECKPOINTS)


def test_sections_without_figures_are_left_out():
    page = Page(render_reliance(make_reliance(CHECKPOINTS[:1], everything=False), []))
    assert not {"transfer", "examples", "curves-black", "differences-outline"} & page.texts.keys()
    assert {"shares", "results-outline", "download-csv"} <= page.texts.keys()


def test_everything_can_be_read_back_from_the_page(reliance, page):
    assert json.loads(page.texts["reliance-json"]) == reliance
    links = {attributes.get("download"): attributes["href"] for tag, attributes in page.elements if tag == "a"}
    contents = {
        name: base64.b64decode(links[name].split(",")[1]).decode() for name in ("reliance.json", "reliance.csv")
    }
    assert json.loads(contents["reliance.json"]) == reliance
    assert contents["reliance.csv"] == reliance_csv(reliance)


def test_reasons_why_figures_are_undefined_are_footnotes():
    reliance = make_reliance(everything=False)
    reliance["checkpoints"][CHECKPOINTS[1]]["black"]["used_share"] = undefined_figure("no outline tells a class.")
    page = Page(render_reliance(reliance, []))
    assert squeezed(page.texts["notes"]) == "ano outline tells a class."
    assert "undefineda" in [squeezed(cell) for row in page.tables["shares"] for cell in row]


def test_hostile_texts_stay_texts_and_nothing_is_asked_for_from_outside():
    reliance = make_reliance(methods=("black",))
    hostile = hostile_copy({**reliance, "checkpoints": {}, "differences": {}, "networks": {}})
    names = {path: f"{HOSTILE}/{place}" for place, path in enumerate(CHECKPOINTS)}
    for part in ("checkpoints", "differences", "networks"):
        hostile[part] = {names[path]: found for path, found in reliance[part].items()}
    hostile["compared_with"] = names[CHECKPOINTS[0]]
    answers = ((Answer(HOSTILE, False, (1,)),),) * 2
    strips = [ExampleStrip(HOSTILE, None, pictures(), classes=(HOSTILE,) * 2, answers=answers)]
    html = render_reliance(hostile, strips)
    page, plain = Page(html), Page(render_reliance(reliance, strips))
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all(path in page.texts["checkpoints"] for path in names.values())
    addresses = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "xlink:href")
        if name in attributes
    ]
    assert addresses and all(re.match(r"data:|#", address) for address in addresses)
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.elements)


def test_ids_are_unique_and_references_within_the_page_exist(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [each["xlink:href"] for _, each in page.elements if "xlink:href" in each]
    assert {reference.removeprefix("#") for reference in references} <= set(ids)


def test_numbers_that_are_not_finite_are_refused():
    reliance = make_reliance(CHECKPOINTS[:1], everything=False)
    reliance["settings"]["seed"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        render_reliance(reliance, [])
