import base64
import copy
import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from maskrobust.train.report import Answer, ExampleStrip, claim_csv, render_claim
from maskrobust.train.report.wording import CONCLUSIONS
from tests.train.report.conftest import (
    CAVEAT,
    NAMES,
    OUTLINES_HOLD_NOTHING,
    make_claim,
    set_undefined,
    undefined_figure,
)
from tests.train.report.everything import add_everything
from tests.train.report.expected import TABLES, body_rows, expected_cell, expected_cells
from tests.train.report.pages import Page, squeezed

HOSTILE = '</script ></style ><b onmouseover="x">&amp; $\\frac{1}{0}$ {{ 7*7 }} {% x %} \u2028 <!-- "\''


def hostile_copy(value):
    """The value with a hostile text in place of every free text, keys that are looked up kept."""
    kept = {"outcome", "baseline", "layer_masking_arm", "method", "arm", "compared_with"}
    if isinstance(value, dict):
        return {
            key: each if key in kept or (key == "methods" and isinstance(each, list)) else hostile_copy(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [hostile_copy(each) for each in value]
    return HOSTILE if isinstance(value, str) else value


def pictures(count=2):
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(count))


@pytest.fixture(scope="module")
def plain_page():
    return render_claim(make_claim(), [ExampleStrip("Original", None, pictures())])


@pytest.mark.parametrize(
    ("outcome", "said"), [("supported", "did not stop"), ("refuted", "stopped a"), ("undecided", "is not settled")]
)
def test_the_verdict_comes_first_and_in_words(outcome, said):
    assert said in CONCLUSIONS[outcome]
    claim = make_claim(outcome=outcome)
    html = render_claim(claim, [])
    page = Page(html)
    assert page.texts["outcome"] == outcome.capitalize()
    assert page.texts["conclusion"] == CONCLUSIONS[outcome]
    assert page.texts["claim"] == claim["claim"]
    assert page.texts["reason"] == claim["verdict"]["reason"]
    assert page.texts["question"] == claim["question"]
    assert all(sentence in page.texts["rule"] for sentence in claim["rule"]["text"])
    assert html.index('id="outcome"') < html.index('id="rule"') < html.index('id="comparisons"')


@pytest.mark.parametrize("arms", [1, 4, 11])
@pytest.mark.parametrize("everything", [False, True])
def test_every_number_of_the_tables_is_that_of_the_claim(arms, everything):
    claim = make_claim(arms, seeds=(0, 1, 7))
    claim = add_everything(claim) if everything else claim
    claim["arms"]["no_masks"]["methods"]["mean"]["all_seeds"]["hidden_pixel_sensitivity"]["value"] = 12.3456
    set_undefined(claim, "no_masks", "black", "used_share")
    page = Page(render_claim(claim, []))
    for table, keys in TABLES.items():
        results, seeds = [], []
        for arm in claim["arms"].values():
            for method in claim["methods"]:
                found = arm["methods"][method]
                results.append(expected_cells(found["all_seeds"], keys))
                seeds += [expected_cells(found["seeds"][seed], keys) for seed in ("0", "1", "7")]
        assert [row[1:] for row in body_rows(page, f"results-{table}")] == results
        assert [row[1:] for row in body_rows(page, f"seeds-{table}")] == seeds


def test_columns_without_figures_are_left_out(claim):
    page = Page(render_claim(claim, []))
    heads = {table: page.tables[f"results-{table}"][0][1:] for table in TABLES}
    assert heads["outline"] == ["Used share", "Leak", "Swap pull"]
    assert len(heads["accuracy"]) == 4 and len(heads["remains"]) == 3


def test_the_comparisons_show_difference_loss_and_what_they_say(claim):
    claim = make_claim(11)
    comparisons = claim["verdict"]["comparisons"]
    within = {"value": -0.01, "low": -0.031, "high": 0.049, "images": 9, "left_out": 0, "undefined_because": None}
    comparisons[1]["difference"] = within
    comparisons[2] |= {"eligible": False, "clean_accuracy_loss": 0.0437}
    comparisons[3]["difference"] = undefined_figure()
    comparisons[4]["difference"] = within | {"value": 0.04, "high": 0.051}
    rows = [[squeezed(cell) for cell in row] for row in Page(render_claim(claim, [])).tables["comparisons"][1:]]
    assert rows[0] == ["2 Patches, mean fill", "0.21 [0.15, 0.27]", "", "1.2 points", "above the margin"]
    assert rows[1][1:] == ["-0.01 [-0.03, 0.05]", "", "1.2 points", "within the margin"]
    assert rows[2][3:] == ["4.4 points", "does not count"]
    assert rows[3][1:] == ["undefined", OUTLINES_HOLD_NOTHING, "1.2 points", "undefined"]
    assert rows[4][4] == "not settled"
    assert len(rows) == len(comparisons)


def test_bars_keep_the_order_of_the_numbers_on_one_scale(claim, plain_page):
    bars = re.findall(r'<div class="bar".*?</div>', plain_page, flags=re.DOTALL)
    assert len(bars) == len(claim["verdict"]["comparisons"])
    scales = []
    for bar, comparison in zip(bars, claim["verdict"]["comparisons"], strict=True):
        left = {name: float(place) for name, place in re.findall(r'class="(\w+)" style="left: ([\d.]+)%', bar)}
        width = float(re.search(r'class="range" style="left: [\d.]+%; width: ([\d.]+)%', bar)[1])
        found = comparison["difference"]
        places = [left["zero"], left["margin"], left["range"], left["dot"], left["range"] + width]
        numbers = [0, claim["rule"]["margin"], found["low"], found["value"], found["high"]]
        slope, start = np.polyfit(numbers, places, 1)
        assert np.abs(np.polyval([slope, start], numbers) - places).max() < 0.02
        scales.append((slope, start))
    np.testing.assert_allclose(scales[0], scales[1], rtol=1e-3)


def test_probe_chance_seeds_and_seconds_are_named(claim):
    claim["rule"]["margin"] = 0.005
    claim["provenance"]["seconds"] = 7384.4
    html = render_claim(claim, [])
    page = Page(html)
    assert squeezed(page.texts["probe"]) == "81.2% [78.8, 83.6]"
    assert squeezed(page.texts["majority"]) == squeezed(page.texts["chance"]) == "12.5%"
    assert page.texts["run-seeds"] == "0, 1"
    assert page.texts["run-seconds"] == "7,384 s (2 h 3 min)"
    assert page.texts["command"] == claim["provenance"]["command"]
    assert "Margin 0.005 of used share" in squeezed(html)


def test_reasons_why_figures_are_undefined_are_footnotes_that_exist():
    claim = make_claim(4)
    set_undefined(claim, "no_masks", "black", "used_share")
    set_undefined(claim, "patches_mean", "mean", "swap_pull", "no image has a swap partner.")
    page = Page(render_claim(claim, []))
    assert squeezed(page.texts["notes"]) == f"a{OUTLINES_HOLD_NOTHING} bno image has a swap partner."
    targets = {element["href"] for tag, element in page.elements if tag == "a" and element["href"].startswith("#")}
    assert targets == {"#note-a", "#note-b"}
    assert {target.removeprefix("#") for target in targets} <= page.texts.keys()


@pytest.mark.parametrize("key", ["information_silhouette", "information_circle", "hidden_pixel_sensitivity"])
def test_undefined_information_and_sensitivity_are_shown_with_their_reason(claim, key):
    set_undefined(claim, "no_masks", "black", key, "no image has a valid object.")
    page = Page(render_claim(claim, []))
    names = ("information_silhouette", "information_circle", "hidden_pixel_sensitivity")
    row = dict(zip(names, body_rows(page, "results-remains")[0][1:], strict=True))
    assert [name for name, cell in row.items() if cell == "undefineda"] == [key]
    assert squeezed(page.texts["notes"]) == "ano image has a valid object."


def test_a_probe_that_saw_no_object_is_shown_as_undefined(claim):
    claim["probe"] = {"accuracy": undefined_figure("no image is valid for it."), "majority_share": None, "chance": 0.1}
    page = Page(render_claim(claim, []))
    assert squeezed(page.texts["probe"]) == "undefineda"
    assert page.texts["majority"] == "undefined"


def test_few_seeds_are_a_caveat_beside_the_comparisons_and_in_the_method():
    few, many = (Page(render_claim(make_claim(seeds=range(seeds)), [])) for seeds in (2, 5))
    assert few.texts["caveat"] == CAVEAT
    assert "caveat" not in many.texts
    assert "Fewer than five seeds" in few.texts["intervals"] == many.texts["intervals"]


def test_a_claim_where_no_used_share_is_defined_says_so_instead_of_a_chart(claim):
    for arm in claim["arms"]:
        for method in claim["methods"]:
            set_undefined(claim, arm, method, "used_share")
    page = Page(render_claim(claim, []))
    assert "nothing to draw" in page.texts["chart"]
    assert "svg" not in {tag for tag, element in page.elements if element.get("role") == "img"}


def test_hostile_texts_stay_texts():
    claim = hostile_copy(add_everything(make_claim(4)))
    claim["arms"] = {f"{HOSTILE}{name}" if name == "no_masks" else name: arm for name, arm in claim["arms"].items()}
    answers = ((Answer(HOSTILE, True, (1,)),),) * 2
    strips = [ExampleStrip(HOSTILE, None, pictures(), classes=(HOSTILE,) * 2, answers=answers)]
    plain, hostile = (Page(render_claim(each, strips)) for each in (add_everything(make_claim(4)), claim))
    assert "b" not in {tag for tag, _ in hostile.elements}
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert {tag for tag, _ in hostile.elements} == {tag for tag, _ in plain.elements}
    assert hostile.texts["claim"] == hostile.texts["question"] == hostile.texts["reason"] == HOSTILE


@pytest.mark.parametrize("change", [lambda claim: claim, hostile_copy], ids=["plain", "hostile"])
def test_the_whole_claim_can_be_read_back_from_the_page(change):
    claim = change(make_claim(4))
    page = Page(render_claim(claim, []))
    assert json.loads(page.texts["claim-json"]) == claim and "<" not in page.texts["claim-json"]
    link = next(attributes for tag, attributes in page.elements if attributes.get("id") == "download")
    kind, content = link["href"].split(",", maxsplit=1)
    assert kind == "data:application/json;base64" and link["download"] == "claim.json"
    assert json.loads(base64.b64decode(content)) == claim
    link = next(attributes for tag, attributes in page.elements if attributes.get("id") == "download-csv")
    assert link["download"] == "claim.csv"
    assert base64.b64decode(link["href"].split(",", maxsplit=1)[1]).decode() == claim_csv(claim)


def test_the_page_asks_for_nothing_from_outside(plain_page):
    page = Page(plain_page)
    addresses = [
        attributes[name]
        for _, attributes in page.elements
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster")
        if name in attributes
    ]
    assert addresses and all(re.match(r"data:|#", address) for address in addresses)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", plain_page))
    assert "@import" not in plain_page and "link" not in {tag for tag, _ in page.elements}
    assert [attributes["type"] for tag, attributes in page.elements if tag == "script"] == ["application/json"]
    assert any("default-src 'none'" in attributes.get("content", "") for _, attributes in page.elements)


def test_ids_are_unique_and_references_within_the_page_exist(plain_page):
    page = Page(plain_page)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [each["xlink:href"] for _, each in page.elements if "xlink:href" in each]
    assert references and {reference.removeprefix("#") for reference in references} <= set(ids)


def test_pictures_are_shown_as_they_are(claim):
    shown = pictures(3)
    page = Page(render_claim(claim, [ExampleStrip("Original", None, shown), ExampleStrip("Hidden", "black", shown)]))
    found = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [attributes["alt"] for attributes in found][3:4] == ["Black fill, hidden, image 1"]
    for attributes, pixels in zip(found, shown * 2, strict=True):
        picture = Image.open(BytesIO(base64.b64decode(attributes["src"].split(",")[1])))
        assert np.array_equal(np.asarray(picture), pixels)


def test_only_layer_masking_explains_a_checkerboard(claim):
    strips = [ExampleStrip("Hidden", method, pictures()) for method in ("mean", "layer_masking")]
    filled, both = render_claim(claim, strips[:1]), render_claim(claim, strips)
    assert ("checkerboard" in filled, "checkerboard" in both) == (False, True)
    assert "What the network is shown" in both and "What the network is shown" not in render_claim(claim, [])


def test_a_method_without_a_title_is_called_by_its_name_in_words():
    html = render_claim(make_claim(methods=("black", "image_mean", "layer_masking")), [])
    assert "Image mean" in html and ">image_mean<" not in html


def test_another_hidden_fraction_is_not_called_half(claim):
    claim["hidden_fraction"] = 0.3
    html = squeezed(render_claim(claim, []))
    assert "30% hidden" in html and "Accuracy with 30% of the patches hidden" in html
    assert "half of the" not in html and "Half hidden" not in html


def test_rows_that_the_rule_compares_are_marked(plain_page):
    results = plain_page[
        plain_page.index('<table id="results-outline"') : plain_page.index('<table id="results-accuracy"')
    ]
    assert results.count('<tr class="compared">') == 3


def test_curves_and_transfer_have_their_sections_only_where_the_claim_has_them(claim):
    plain, full = (Page(render_claim(each, [])) for each in (claim, add_everything(make_claim(4))))
    assert not {"curves", "transfer"} & plain.texts.keys()
    assert {"curves", "transfer"} <= full.texts.keys()


def test_scores_of_the_curves_are_those_of_each_arm_under_its_own_method():
    claim = add_everything(make_claim(4))
    page = Page(render_claim(claim, []))
    for metric, key in (("accuracy", "clean_accuracy"), ("class_entropy", "used_share")):
        rows = [[squeezed(cell) for cell in row[1:]] for row in page.tables[f"curves-{metric}"][2:]]
        for row, arm in zip(rows, claim["arms"].values(), strict=True):
            found = arm["methods"][arm["method"]]["all_seeds"]["curves"]
            scores = [order[metric]["score"] for by_order in found.values() for order in by_order.values()]
            assert row == [expected_cell(score, key) for score in scores]


def test_predictions_stand_below_their_pictures_with_number_class_and_whether_they_are_right(claim):
    answers = ((Answer("boot", True, (1, 3)), Answer("<b>coat", False, (2,))), ())
    strips = [
        ExampleStrip("Original", None, pictures(), classes=("boot", "shirt"), answers=answers),
        ExampleStrip("Hidden", "black", pictures(), classes=("boot", "shirt"), answers=answers[::-1]),
    ]
    page = Page(render_claim(claim, strips))
    text = squeezed(page.texts["examples"])
    assert "boot ✓ boot 1 3 ✗ <b>coat 2 shirt Black fill" in text
    assert text.endswith("Hidden ✓ boot 1 3 ✗ <b>coat 2")
    labels = [attributes.get("aria-label") for tag, attributes in page.elements if tag == "span"]
    assert labels.count("right") == labels.count("wrong") == 2


def test_equal_claims_give_equal_pages_and_the_claim_is_left_alone(claim):
    before = copy.deepcopy(claim)
    assert render_claim(claim, []) == render_claim(before, [])
    assert claim == before


def test_numbers_that_are_not_finite_and_other_formats_are_refused(claim):
    claim["provenance"]["seconds"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        render_claim(claim, [])
    with pytest.raises(ValueError, match="format 2, got 1"):
        render_claim(claim | {"format": 1}, [])


def test_the_fixture_has_as_many_names_as_arms():
    assert len(make_claim(11)["arms"]) == len(NAMES) == 11


def test_tables_say_how_many_images_their_figures_rest_on(claim):
    claim["arms"]["no_masks"]["methods"]["mean"]["all_seeds"]["swap_pull"] |= {"images": 12_000, "left_out": 0}
    page = Page(render_claim(claim, []))
    counts = [squeezed(cell) for cell in page.tables["results-outline"][-1]]
    assert counts == ["Images", "988 12 left out", "988 12 left out", "988 to 12,000 0 to 12 left out"]
    assert page.tables["results-remains"][-1][0] != "Images"
