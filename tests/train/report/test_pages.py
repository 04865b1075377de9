"""Both pages: every number of the JSON where it belongs, nothing loaded, nothing that a name can break."""

import base64
import copy
import csv
import json
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance import catalogue as catalogue_module, measures
from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.train.report.charts import Curve
from maskrobust.train.report.examples import ExampleStrip, Prediction
from maskrobust.train.report.findings import in_evaluation, row_of, views
from maskrobust.train.report.pages import render_claim, render_reliance
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import GROUP_TITLES
from tests.train.report.conftest import summarised_reliance
from tests.train.report.pages import Page, body_rows, squeezed

HOSTILE = "</script><b>&\"'{{ 7 * 7 }} ]]>"
METHODS = {"black": "Black fill", "mean": "Mean colour fill", "random_colour": "Random colour fill"}
METHODS |= {"layer_masking": "Layer masking"}


def pictures(count=2):
    return tuple(np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8))


def name_of(row):
    parts = (value if isinstance(value, str) else f"{value:g}" for value in row["parameters"].values())
    return "_".join((row["measure"], *parts))


def expected_cell(row, *, sign=True):
    """A number as the pages must write it, told apart from how they do it."""
    if row["value"] is None:
        return "undefineda"
    unit = catalogue()[row["measure"]].unit
    scale, decimals, mark = (100, 1, "%") if unit == "fraction" else (1, 2, "")
    ends = [row[end] for end in ("value", "low", "high") if row[end] is not None]
    value, *bounds = [f"{end:.3g}" if unit == "logits" else rounded(scale * end, decimals) for end in ends]
    interval = f" [{bounds[0]}, {bounds[1]}]" if bounds else ""
    return f"{value}{mark if sign and not row['compared_with'] else ''}{interval}"


def rounded(value, decimals):
    text = format(value, f".{decimals}f")
    return text.removeprefix("-") if float(text) == 0 else text


def expected_rows(content, group, titles, **wanted):
    """Title and cells of every line of a table of plain members, in order; columns in the order of the catalogue."""
    of_group = [key for key, entry in catalogue().items() if entry.group == group and key != "reliance"]
    columns = [name_of(row) for key in of_group for row in content["rows"] if row["measure"] == key]
    for network in titles:
        for method in content["methods"]:
            found = {
                name_of(row): expected_cell(row)
                for row in content["rows"]
                if (row["network"], row["method"]) == (network, method)
                and "layer" not in row["parameters"]
                and all(row[key] == value for key, value in wanted.items())
                and row["measure"] in of_group
            }
            if found:
                yield METHODS[method], [found[name] for name in dict.fromkeys(columns) if name in found]


@pytest.fixture(scope="module")
def claim_page(made_claim):
    return render_claim(Results.read("claim", made_claim), [])


@pytest.fixture(scope="module")
def reliance_page(made_reliance):
    return render_reliance(Results.read("reliance", made_reliance), [])


@pytest.mark.parametrize("group", GROUP_TITLES)
def test_every_measure_of_every_network_stands_in_its_line_and_column(
    group, made_claim, claim_page, made_reliance, reliance_page
):
    for content, html in ((made_claim, claim_page), (made_reliance, reliance_page)):
        titles = {name: "" for name in content.get("arms", content.get("networks", ()))}
        page, table = Page(html), f"results-{group}"
        found = body_rows(page, table) if table in page.tables else []
        expected = list(expected_rows(content, group, titles, seed=None, compared_with=""))
        assert [(row[0], row[1:]) for row in found] == expected


def test_seeds_have_lines_of_their_own(made_claim, claim_page):
    page = Page(claim_page)
    for seed in made_claim["seeds"]:
        lines = [row for row in body_rows(page, "seeds-outline") if row[0].endswith(f", seed {seed}")]
        arms = dict.fromkeys(made_claim["arms"], "")
        assert [row[1:] for row in lines] == [
            cells for _, cells in expected_rows(made_claim, "outline", arms, seed=seed)
        ]


def test_matrices_hold_the_rows_of_transfer(made_claim, claim_page):
    page = Page(claim_page)
    for place, name in enumerate(made_claim["arms"]):
        rows = [row for row in made_claim["rows"] if row["network"] == name and row["seed"] is None]
        matrix = {squeezed(line[0]): line[1:] for line in page.tables[f"transfer-{place + 1}"][1:]}
        for method, title in {**METHODS, "blur": "Blurred image"}.items():
            cells = [re.sub("[●▼] ?", "", squeezed(cell)) for cell in matrix[title]]
            expected = [
                expected_cell(row, sign=False)
                for row in rows
                if row["method"] == method and row["measure"] == "transfer_accuracy"
            ]
            assert cells == expected != []


def test_the_worst_cell_is_marked_and_passes_over_families_that_hide_the_object(made_claim, claim_page):
    page = Page(claim_page)
    for place, name in enumerate(made_claim["arms"], start=1):
        accuracies = {
            (row["method"], row["parameters"]["family"]): row
            for row in made_claim["rows"]
            if row["network"] == name and row["measure"] == "transfer_accuracy" and row["seed"] is None
        }
        worst = min(row["value"] for key, row in accuracies.items() if key[1] != "objects")
        marked = [cell for line in page.tables[f"transfer-{place}"] for cell in line if "▼" in cell]
        assert len(marked) == 1 and f"{100 * worst:.1f} [" in squeezed(marked[0])
        assert f"{made_claim['arms'][name]['title']}: lowest {100 * worst:.1f}% [" in squeezed(page.texts["transfer"])
    trained = [[cell for line in page.tables[f"transfer-{place}"] for cell in line if "●" in cell] for place in (1, 2)]
    assert [len(cells) for cells in trained] == [0, 1]


def test_every_cell_that_has_the_lowest_accuracy_is_marked(claim):
    for row in claim["rows"]:
        if row["measure"] == "transfer_accuracy":
            row["value"] = 0.25
    head, *lines = Page(render_claim(Results.read("claim", claim), [])).tables["transfer-1"]
    for column, family in enumerate(map(squeezed, head)):
        counts = column > 0 and family != "Objects"
        assert all(("▼" in line[column]) == counts for line in lines), family


def test_comparisons_are_printed_as_they_were_decided(made_claim, claim_page, made_reliance, reliance_page):
    for content, html, table in ((made_claim, claim_page, "comparisons"), (made_reliance, reliance_page, "pairs")):
        rows = [row for row in content["rows"] if row["measure"] == "reliance"]
        found = body_rows(Page(html), table)
        lines = [line for line in found if len(line) > 2]
        for line, row in zip(lines, rows, strict=True):
            named = content is made_reliance and row["reading"].startswith("relies")
            assert expected_cell(row) in line and row["reading"] in line[-1]
            assert (line[-1] != row["reading"]) is named  # the verdict on a pair says of which network


def test_the_pairs_of_a_claim_have_the_accuracy_that_a_fill_keeps(made_claim, claim_page):
    lines = [line for line in body_rows(Page(claim_page), "comparisons") if len(line) > 2]
    kept = [row for row in made_claim["rows"] if row["measure"] == "retention" and row["compared_with"]]
    assert [line[1] for line in lines] == [expected_cell(row) for row in kept] and len(lines) == 6
    own = [line for line in lines if "●" in line[0]]
    assert [squeezed(line[0]).lstrip("● ") for line in own] == ["Mean colour fill", "Random colour fill"]


def test_the_factorial_has_the_share_of_every_arm_under_every_method_and_marks_its_own(made_claim, claim_page):
    lines = body_rows(Page(claim_page), "factorial-shares")
    assert len(lines) == len(made_claim["arms"])
    for (name, arm), line in zip(made_claim["arms"].items(), lines, strict=True):
        for method, cell in zip(made_claim["methods"], line[1:], strict=True):
            wanted = {"network": name, "method": method, "measure": "used_share", "seed": None, "compared_with": ""}
            (row,) = (row for row in made_claim["rows"] if wanted.items() <= row.items())
            assert squeezed(cell).endswith(expected_cell(row))
            assert ("●" in cell) is (method == arm["method"])


def test_the_manipulation_checks_are_on_the_page(made_claim, claim_page):
    page = Page(claim_page)
    lines = body_rows(page, "manipulation_check")
    checks = [row for row in made_claim["rows"] if row["measure"] == "manipulation_check"]
    assert [cell for line in lines for cell in line[2:]] == [
        expected_cell(row)
        for name in made_claim["arms"]
        for network in (name, "no_masks")
        for row in checks
        if (row["parameters"]["training"], row["network"]) == (name, network)
    ]
    assert len(lines) == len(made_claim["arms"]) - 1


def test_two_claims_have_their_reasons_on_the_page_and_one_reason_that_they_share_once(claim):
    assert claim["verdicts"][0]["reason"] == claim["verdicts"][1]["reason"]  # two seeds decide neither
    for reasons in (["Shared."], ["One.", "Other."]):
        for verdict, reason in zip(claim["verdicts"], reasons * 2, strict=False):
            verdict["reason"] = reason
        page = Page(render_claim(Results.read("claim", claim), []))
        assert [text for name, text in page.texts.items() if name.startswith("reason-")] == reasons


def test_the_verdict_the_rule_and_what_is_said_of_the_images_are_on_the_page(made_claim, claim_page):
    page = Page(claim_page)
    assert page.texts["reason-own"] == made_claim["verdicts"][0]["reason"]
    for verdict in made_claim["verdicts"]:
        case = verdict["case"]
        assert page.texts[f"outcome-{case}"].lower() == verdict["outcome"]
        assert page.texts[f"claim-{case}"] == made_claim["claims"][case]
    assert made_claim["question"] in page.texts["question"]
    assert all(sentence in page.texts["rule"] for sentence in made_claim["rule"]["text"])
    data = {row["measure"]: expected_cell(row) for row in made_claim["rows"] if not row["network"]}
    assert squeezed(page.texts["probe"]) == data["probe_accuracy"]
    majority = next(row for row in made_claim["rows"] if row["measure"] == "majority_fraction")
    assert squeezed(page.texts["majority"]).startswith(f"{100 * majority['value']:.1f}%")
    assert squeezed(page.texts["chance"]) == f"{100 * made_claim['chance']:.1f}%"
    assert made_claim["fills"] in page.texts["fills"] and made_claim["power"] in page.texts["power"]


def test_what_is_shown_is_defined(made_claim, claim_page, reliance_page):
    definitions = squeezed(Page(claim_page).texts["definitions"])
    for row in made_claim["rows"]:
        assert squeezed(catalogue()[row["measure"]].definition.removesuffix(" The mean over the curve.")) in definitions
    assert "30% hidden, 50% hiddenRetention" in squeezed(Page(reliance_page).texts["definitions"])


def test_json_and_csv_hold_every_row_unrounded(made_claim, claim_page):
    page = Page(claim_page)
    links = {attributes.get("id"): attributes for tag, attributes in page.elements if tag == "a"}
    downloads = {
        name: base64.b64decode(links[name]["href"].split(",")[1]).decode() for name in ("download-json", "download-csv")
    }
    assert json.loads(downloads["download-json"]) == made_claim
    lines = list(csv.DictReader(downloads["download-csv"].splitlines()))
    assert len(lines) == len(made_claim["rows"])
    for line, row in zip(lines, made_claim["rows"], strict=True):
        for name in ("network", "method", "measure", "value", "low", "high", "images", "left_out", "reading"):
            assert line[name] == ("" if row[name] is None else str(row[name]))


def test_an_undefined_number_has_a_footnote_that_says_why(claim):
    for row in claim["rows"]:
        if row["measure"] in ("swap_pull", "reliance"):
            reason = f"undefined because of {row['measure']}."
            row |= {"value": None, "low": None, "high": None, "undefined_because": reason, "reading": "undefined"}
    html = render_claim(Results.read("claim", claim), [])
    page = Page(html)
    assert squeezed(page.texts["results-outline-notes"]) == "aundefined because of swap_pull."
    over_seeds = [row for row in claim["rows"] if row["measure"] == "swap_pull" and row["seed"] is None]
    assert html.count('href="#results-outline-note-a"') == sum(not row["compared_with"] for row in over_seeds)
    assert [squeezed(cell) for cell in page.tables["comparisons"][2][2:4]] == ["undefineda", "undefined"]
    assert squeezed(page.texts["comparisons-notes"]) == "aundefined because of reliance."


def test_where_no_used_share_is_defined_no_pair_of_networks_is_compared_by_it(reliance):
    undefined = {"value": None, "low": None, "high": None, "undefined_because": "undefined because of its probe."}
    for row in reliance["rows"]:
        if row["measure"] in ("used_share", "reliance"):
            row.update(undefined, reading="undefined" if row["compared_with"] else "")
    page = Page(render_reliance(Results.read("reliance", reliance), []))
    assert "undefined because of its probe" in page.texts["outlines"] and "pairs" not in page.tables


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
    page, networks = (
        Page(render_reliance(Results.read("reliance", reliance), [])),
        dict.fromkeys(reliance["networks"], ""),
    )
    found = body_rows(page, "results-accuracy")
    assert [(row[0], row[1:]) for row in found] == [
        *expected_rows(reliance, "accuracy", networks, seed=None, compared_with="")
    ]
    assert "Kept behind the circle" in [squeezed(cell) for cell in page.tables["results-accuracy"][0]]
    assert "Kept behind the circleAccuracy with the object's enclosing" in squeezed(page.texts["definitions"])


@pytest.mark.parametrize("name", ["claim_page", "reliance_page"])
def test_the_page_loads_nothing_runs_nothing_and_its_references_exist(name, request):
    html: str = request.getfixturevalue(name)
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
        changed["rule"]["text"] = [HOSTILE for _ in changed["rule"]["text"]]
        for arm in changed["arms"].values():
            arm |= {"title": HOSTILE, "training": {f"{HOSTILE}{key}": HOSTILE for key in arm["training"]}}
    else:
        first = changed["networks"][0]
        for row in changed["rows"]:
            for key in ("network", "compared_with"):
                row[key] = HOSTILE if row[key] == first else row[key]
        changed |= {"networks": [HOSTILE, *changed["networks"][1:]], "compared_with": HOSTILE}
    return changed


def test_names_and_texts_are_shown_as_they_are(claim, reliance):
    cases: Any = (("claim", claim, render_claim), ("reliance", reliance, render_reliance))
    for name, content, render in cases:
        page, hostile = (Page(render(Results.read(name, each), [])) for each in (content, hostile_copy(content)))
        assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in page.elements]
        assert hostile.texts["command"] == HOSTILE
    assert HOSTILE in hostile.texts["networks"]


def test_pictures_are_shown_as_they_are_with_what_networks_take_them_for(claim):
    answers = ((Prediction("boot", True, (1, 3)), Prediction("<b>coat", False, (2,))), ())
    strips = [
        ExampleStrip("Original", None, pictures(), classes=("boot", "shirt"), answers=answers),
        ExampleStrip("Hidden", "black", pictures(), classes=("boot", "shirt"), answers=answers[::-1]),
    ]
    page = Page(render_claim(Results.read("claim", claim), strips))
    found = [attributes for tag, attributes in page.elements if tag == "img"]
    assert found[2]["alt"] == "Black fill, hidden, image 1"
    for attributes, pixels in zip(found, pictures() * 2, strict=True):
        assert np.array_equal(
            np.asarray(Image.open(BytesIO(base64.b64decode(attributes["src"].split(",")[1])))), pixels
        )
    text = squeezed(page.texts["examples"])
    assert "boot 1 3 ✓ boot 2 ✗ <b>coat shirt Black fill" in text and text.endswith("Hidden 1 3 ✓ boot 2 ✗ <b>coat")
    assert "checkerboard" not in text and "as the first network is shown them" in text
    masked = Page(render_claim(Results.read("claim", claim), [ExampleStrip("Hidden", "layer_masking", pictures())]))
    assert "checkerboard" in masked.texts["examples"]


def test_the_predictions_of_a_single_network_have_no_numbers(reliance):
    first = reliance["networks"][0]
    rows = [row for row in reliance["rows"] if row["network"] in ("", first) and not row["compared_with"]]
    strips = [ExampleStrip("Original", None, pictures(), answers=((Prediction("boot", True, (1,)),), ()))]
    page = Page(render_reliance(Results.read("reliance", {**reliance, "networks": [first], "rows": rows}), strips))
    text = squeezed(page.texts["examples"])
    assert text.endswith("Original ✓ boot") and "first network" not in text


def test_equal_results_give_equal_pages_and_are_left_alone(made_claim, claim_page):
    before = copy.deepcopy(made_claim)
    assert render_claim(Results.read("claim", before), []) == claim_page and before == made_claim


def test_the_sentence_comes_first_then_one_chart_then_all_accuracies_and_those_of_classes_are_below(
    made_reliance, reliance_page
):
    page = Page(reliance_page)
    results = Results.read("reliance", made_reliance)
    assert page.texts["headline"] == in_evaluation(results)
    assert list(page.tables)[:2] == ["found", "results-accuracy"]
    shown = {cell for line in body_rows(page, "found") for cell in line}
    for view in views(results):
        row = row_of(results, view, "silhouette_accuracy")
        assert row is not None and expected_cell(row.as_json()) in shown
    of_classes = [row for row in made_reliance["rows"] if row["measure"] == "class_accuracy"]
    first = [row for row in of_classes if row["network"] == made_reliance["networks"][0]]
    found = [cell for line in body_rows(page, "classes-1") for cell in line[1:]]
    assert found == [expected_cell(row) for row in first] != []


def test_every_curve_is_over_one_sample_of_the_images(made_reliance, monkeypatch):
    drawn, of = [], Curve.of
    monkeypatch.setattr(Curve, "of", lambda rows, *others, **look: drawn.append(rows) or of(rows, *others, **look))
    content = copy.deepcopy(made_reliance)
    for row in content["rows"]:  # curves are over a sample of the images, accuracies with patches hidden over all
        row.update({"images": 15, "left_out": 45} if row["measure"].startswith("curve_") else {})
    render_reliance(Results.read("reliance", content), [])
    assert len(drawn) > 8 and all(len({row.images for row in rows}) == 1 for rows in drawn)


def test_what_is_read_first_is_open_and_the_contents_name_every_section(claim_page, reliance_page):
    for html, are_open in ((claim_page, 1), (reliance_page, 1)):
        page = Page(html)
        sections = [attributes["id"] for tag, attributes in page.elements if tag == "section"]
        (contents,) = re.findall(r"<nav.*?</nav>", html, re.DOTALL)
        assert re.findall('href="#([^"]*)"', contents) == sections
        assert html.count('<details class="section">') == len(sections) - are_open


def test_many_classes_are_folded(made_reliance, reliance_page):
    row = next(row for row in made_reliance["rows"] if row["measure"] == "class_accuracy")
    many = [row | {"parameters": {"class": f"<i>{place}", "hidden_fraction": 0.3}} for place in range(21)]
    rows = [row for row in made_reliance["rows"] if row["measure"] in ("used_share", "clean_accuracy", "retention")]
    page = render_reliance(Results.read("reliance", {**made_reliance, "rows": [*rows, *many]}), [])
    few, folded = (each.partition('id="classes"')[2].partition("</section>")[0] for each in (reliance_page, page))
    assert "<details open>" in few and "<details open>" not in folded
    assert "&lt;i&gt;20" in folded and "<i>" not in folded


def test_numbers_that_are_not_finite_and_other_formats_are_refused(claim, reliance):
    with pytest.raises(InputError, match=r"claim.json of format 7, got 2; run the command again\.$"):
        render_claim(Results.read("claim", claim | {"format": 2}), [])
    with pytest.raises(InputError, match=r"reliance.json of format 3, got None"):
        render_reliance(
            Results.read("reliance", {key: value for key, value in reliance.items() if key != "format"}), []
        )
    claim["another"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        render_claim(Results.read("claim", claim), [])


def test_tables_say_how_many_images_their_numbers_rest_on(claim):
    for row in claim["rows"]:
        if (row["network"], row["method"], row["measure"]) == ("no_masks", "mean", "swap_pull"):
            row |= {"images": 12_000, "left_out": 0}
    counts = [
        squeezed(cell) for cell in Page(render_claim(Results.read("claim", claim), [])).tables["results-outline"][-1]
    ]
    assert counts[:2] == ["Images", "58 of 60"] and counts[-1] == "58 to 12,000 of 60 to 12,000"
