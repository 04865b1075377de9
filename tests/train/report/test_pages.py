"""Both pages: every number of the JSON where it belongs, nothing loaded, nothing that a name can break."""

import base64
import copy
import itertools
import re
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrobust.lm_modules.reliance import catalogue as catalogue_module, measures
from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.headline import said
from maskrobust.train.report.pages import render_claim, render_reliance
from maskrobust.train.report.tables import GROUP_TITLES
from maskrobust.train.report.wording import points
from tests.train.report.conftest import summarised_reliance
from tests.train.report.evaluations import read_results
from tests.train.report.pages import Page, squeezed

HOSTILE = "</script><b>&\"'{{ 7 * 7 }} ]]>"
METHODS = {"black": "Black fill", "mean": "Mean colour fill", "random_colour": "Random colour fill"}
METHODS |= {"layer_masking": "Layer masking"}


def pictures(count=2):
    return tuple(np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8))


def expected_cell(row, *, sign=True):
    """A number as the pages must write it, told apart from how they do it."""
    if row["value"] is None:
        return "undefineda"
    unit = catalogue()[row["measure"]].unit
    scale, decimals, mark = {"fraction": (100, 1, "%"), "points": (100, 1, "")}.get(unit, (1, 2, ""))
    ends = [row[end] for end in ("value", "low", "high") if row[end] is not None]
    value, *bounds = [f"{end:.3g}" if unit == "logits" else rounded(scale * end, decimals) for end in ends]
    interval = f" [{bounds[0]}, {bounds[1]}]" if bounds else ""
    return f"{value}{mark if sign and not row['compared_with'] else ''}{interval}"


def rounded(value, decimals):
    text = format(value, f".{decimals}f")
    return text.removeprefix("-") if float(text) == 0 else text


@pytest.fixture(scope="module")
def claim_page(made_claim):
    return render_claim(read_results("claim", made_claim), [])


@pytest.fixture(scope="module")
def reliance_page(made_reliance):
    return render_reliance(read_results("reliance", made_reliance), [])


def lines_of(html):
    """The lines of the table of all numbers: network, way of hiding, measure, value, interval, images, what it says."""
    return [[squeezed(cell) for cell in line] for line in Page(html).tables["numbers"][1:]]


def test_every_number_over_all_seeds_but_points_of_curves_stands_in_its_line(
    made_claim, claim_page, made_reliance, reliance_page
):
    for content, html in ((made_claim, claim_page), (made_reliance, reliance_page)):
        shown = [row for row in content["rows"] if row["seed"] is None and row["measure"] != "curve_accuracy"]
        titles = {each.name: each.title for each in read_results(name_of(content), content).networks} | {"": ""}
        for line, row in zip(lines_of(html), shown, strict=True):
            network, method, measure, value, interval, images, says = line
            assert f"{value} {interval}".strip() == expected_cell(row).replace("undefineda", "undefined")
            assert network.split(" minus ")[0] == titles[row["network"]] and images == f"{row['images']:,}"
            assert (" minus " in network) == (row["compared_with"] not in ("", row["network"]))
            assert (" minus " in method) == bool(row["compared_method"])
            assert says == (row["undefined_because"] or row["reading"])
            for each in row["parameters"].values():
                assert str(each).lower() in measure.lower() or f"{100 * each:.0f}%" in measure


def name_of(content):
    return "claim" if "arms" in content else "reliance"


def test_a_choice_sorts_the_lines_and_another_thins_them_out(made_reliance, reliance_page):
    lines = lines_of(reliance_page)
    styles = re.findall(r'<tr class="g(\d+)" style="([^"]*)">', reliance_page)
    places = [dict(re.findall(r"--s(\d):(\d+)", style)) for _, style in styles]
    assert all(sorted(int(each[n]) for each in places) == [*range(len(lines))] for n in "1234")
    names = [line[0].partition(" minus ")[0] for line in lines]
    by_network = [name for _, name in sorted(zip(places, names, strict=True), key=lambda each: int(each[0]["2"]))]
    assert by_network == sorted(names) != names
    shown = [row for row in made_reliance["rows"] if row["measure"] != "curve_accuracy"]
    groups = {catalogue()[row["measure"]].group: group for row, (group, _) in zip(shown, styles, strict=True)}
    choices = re.findall(r'id="pick-2-(\d+)"[^>]*> ([^<]*)', reliance_page)
    assert {title.strip(): int(n) - 1 for n, title in choices if int(n) > 1} == {
        GROUP_TITLES[name]: int(group) for name, group in groups.items()
    }
    for n, _ in choices:
        assert n == "1" or f"main:has(#pick-2-{n}:checked) .numbers tbody tr:not(.g{int(n) - 1})" in reliance_page


def test_the_verdict_the_rule_and_what_is_said_of_the_images_are_on_the_page(made_claim, claim_page):
    page = Page(claim_page)
    assert page.texts["reason-own"] == made_claim["verdicts"][0]["reason"]
    for verdict in made_claim["verdicts"]:
        case = verdict["case"]
        assert page.texts[f"outcome-{case}"].lower() == verdict["outcome"]
        assert page.texts[f"claim-{case}"] == made_claim["claims"][case]
    assert made_claim["question"] in page.texts["question"]
    arms, rule = made_claim["arms"], made_claim["rule"]
    for part in (
        f"more than {points(rule['clean_accuracy_tolerance'])} below that of '{arms[rule['baseline']]['title']}'",
        f"to exceed that of '{arms[rule['layer_masking_arm']]['title']}' by more than {points(rule['margin'])}",
        "if more than half of such trainings are shown not to rely", "over 10\u202f% of its predictions",
        "fewer than 3 seeds", "in at most 2.5\u202f% of experiments", "0.025 / m", "0.0083, one-sided",
    ):  # fmt: skip
        assert squeezed(part) in squeezed(page.texts["rule"])
    assert made_claim["fills"] in page.texts["fills"] and made_claim["known_before"] in page.texts["power"]


def test_every_measure_that_is_shown_is_defined_where_the_pointer_rests(made_claim, claim_page):
    titles = {squeezed(attributes["title"]) for tag, attributes in Page(claim_page).elements if "title" in attributes}
    for row in made_claim["rows"]:
        definition = squeezed(catalogue()[row["measure"]].definition)
        assert row["measure"] == "curve_accuracy" or any(title.startswith(definition) for title in titles)


def test_the_grid_of_a_claim_has_every_arm_under_every_method_with_its_shape_choices_and_what_is_shown_of_the_pair(
    claim,
):
    readings = itertools.cycle(["relies more", "keeps less", "does as well", "open"])
    for row in claim["rows"]:
        if row["measure"] == "reliance" and row["compared_with"] == "layer_masking":
            row["reading"] = next(readings)
    html = render_claim(read_results("claim", claim), [])
    results, shares = (
        read_results("claim", claim),
        re.findall(r'<div class="share"><b>(.*?)</b> <span>(.*?)</span>', html),
    )
    found, expected = [squeezed(" ".join(each)) for each in shares], []
    for method, network in itertools.product(results.methods, results.networks):
        of = {"network": network.name, "method": method, "seed": None}
        (share,) = (
            row
            for row in claim["rows"]
            if ({**of, "measure": "shape_choice", "compared_with": ""}).items() <= row.items()
        )
        pair = {**of, "measure": "reliance", "compared_with": "layer_masking"}
        shown = [row["reading"] for row in claim["rows"] if pair.items() <= row.items()]
        expected.append(squeezed(" ".join([*shown, expected_cell(share)])))
    assert found == expected and sum("keeps less" in each for each in found) > 0
    lines = re.findall(r'<div class="label">(.*?)</div>', html)
    trained = [squeezed(each).partition(" <span")[0] for each in lines if "trained with it" in each]
    masked = [each.title for each in results.networks if each.arm["training"].get("masking", "none") != "none"]
    assert sorted(trained) == sorted(masked) and 0 < len(masked) < len(results.networks)


def test_the_measure_that_contributing_shows_has_its_column_by_its_file_alone(tmp_path, monkeypatch):
    text = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text.partition("## Add a measure")[2].partition("\n## ")[0], re.DOTALL)
    (tmp_path / "kept_behind_the_circle.py").write_text(code)
    monkeypatch.setattr(measures, "__path__", [*measures.__path__, str(tmp_path)])
    monkeypatch.setattr(catalogue_module, "MEASURES", copy.copy(catalogue_module.MEASURES))
    catalogue_module.import_modules.cache_clear()
    shapes = {"curve_families": (), "transfer_families": ()}
    reliance = summarised_reliance(tmp_path, **shapes)
    monkeypatch.delitem(sys.modules, f"{measures.__name__}.kept_behind_the_circle")
    html = render_reliance(read_results("reliance", reliance), [])
    rows = [row for row in reliance["rows"] if row["measure"] == "kept_behind_the_circle"]
    found = [line for line in lines_of(html) if line[2] == "Kept behind the circle"]
    assert [f"{line[3]} {line[4]}" for line in found] == [expected_cell(row) for row in rows] != []
    assert "Accuracy with the object&#39;s enclosing" in html


@pytest.mark.parametrize("name", ["claim_page", "reliance_page"])
def test_the_page_loads_nothing_runs_nothing_and_its_references_exist(name, request):
    html = request.getfixturevalue(name)
    page = Page(html)
    addresses = [
        value
        for _, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "action")
    ]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html)) and "@import" not in html
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.elements)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = {address[1:] for address in addresses if address.startswith("#")}
    assert references and references <= set(ids)


def hostile_copy(content):
    """The content with every text that a user or a file can choose replaced."""
    changed = copy.deepcopy(content)
    changed["provenance"]["command"] = HOSTILE
    if "arms" in changed:
        changed |= {"question": HOSTILE, "claims": dict.fromkeys(changed["claims"], HOSTILE)}
        for verdict in changed["verdicts"]:
            verdict["reason"] = HOSTILE
        changed["known_before"] = HOSTILE
        for arm in changed["arms"].values():
            free = {f"{HOSTILE}{key}": HOSTILE for key in arm["training"] if key != "masking"}  # which is one of four
            masking = {key: value for key, value in arm["training"].items() if key == "masking"}
            arm |= {"title": HOSTILE, "training": masking | free}
    else:
        first = changed["networks"][0]
        for row in changed["rows"]:
            for key in ("network", "compared_with"):
                row[key] = HOSTILE if row[key] == first else row[key]
        changed |= {"networks": [HOSTILE, *changed["networks"][1:]], "compared_with": HOSTILE}
    return changed


def test_names_and_texts_are_shown_as_they_are(claim, reliance):
    cases = (("claim", claim, render_claim), ("reliance", reliance, render_reliance))
    for name, content, render in cases:
        page, hostile = (Page(render(read_results(name, each), [])) for each in (content, hostile_copy(content)))
        assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in page.elements]
        assert hostile.texts["command"] == HOSTILE
    assert HOSTILE in hostile.texts["networks"]


def test_pictures_are_shown_as_they_are(claim):
    strips = [ExampleStrip("Original", None, pictures()), ExampleStrip("Hidden", "black", pictures())]
    page = Page(render_claim(read_results("claim", claim), strips))
    found = [attributes for tag, attributes in page.elements if tag == "img"]
    assert found[2]["alt"] == "Black fill, hidden, image 1"
    for attributes, pixels in zip(found, pictures() * 2, strict=True):
        raw = base64.b64decode(attributes["src"].split(",")[1])
        assert np.array_equal(np.asarray(Image.open(BytesIO(raw))), pixels)
    assert "checkerboard" not in page.texts["examples"]
    masked = Page(render_claim(read_results("claim", claim), [ExampleStrip("Hidden", "layer_masking", pictures())]))
    assert "checkerboard" in masked.texts["examples"]


def test_the_headline_comes_first_then_the_grid_with_every_accuracy(made_reliance, reliance_page):
    page, results = Page(reliance_page), read_results("reliance", made_reliance)
    assert page.texts["headline"] == said(results)[0]
    assert reliance_page.index('id="headline"') < reliance_page.index('id="grid"') < reliance_page.index('id="numbers"')
    panels = [attributes for _, attributes in page.elements if attributes.get("class") == "panel a"]
    told = [squeezed(attributes["aria-label"]).replace(" %", "%") for attributes in panels]
    expected = []
    for method, network in itertools.product(results.methods, results.networks):
        of = {"network": network.name, "method": method}
        outline, circle = (
            f"{100 * select(results.over_seeds, **of, measure=f'{hole}_accuracy')[0].value:.0f}%"
            for hole in ("silhouette", "circle")
        )
        where = f"{network.title}, {METHODS[method]}: right behind"
        expected.append(f"{where} outlines {outline}, behind circles {circle}")
    assert told == expected


def test_dots_lie_where_the_accuracies_are(made_reliance, reliance_page):
    results = read_results("reliance", made_reliance)
    pair = r'<circle class="circle" cx="([\d.]+)%" cy="50%" r="7"/><circle class="outline" cx="([\d.]+)%"'
    drawn, measures = re.findall(pair, reliance_page), ("circle_accuracy", "silhouette_accuracy")
    rows = [
        [only(results.over_seeds, network=each.name, method=method, measure=measure).value for measure in measures]
        for method in results.methods
        for each in results.networks
    ]
    np.testing.assert_allclose(np.array(drawn, dtype=float), 100 * np.array(rows), atol=0.01)
