"""The CSV holds every number of the JSON, and nothing else."""

import csv
import io
from collections import Counter

from maskrobust.train.report import claim_csv, reliance_csv
from tests.train.report.conftest import make_claim, set_undefined
from tests.train.report.everything import add_everything, make_reliance

LEFT_OUT = {"config", "rule", "provenance", "settings", "training", "hidden_fraction", "images", "left_out"}


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def numbers(part, key=""):
    """Every number of the JSON but settings, counts of images and the shares that curves are asked at."""
    if isinstance(part, dict):
        for name, each in part.items():
            if name not in LEFT_OUT:
                yield from numbers(each, name)
    elif isinstance(part, list):
        for each in part:
            yield from numbers(each, key)
    elif isinstance(part, int | float) and not isinstance(part, bool):
        yield repr(part)


def written(rows):
    return Counter(row[column] for row in rows for column in ("value", "low", "high") if row[column])


def test_every_number_of_a_claim_is_in_its_csv():
    claim = add_everything(make_claim(4, seeds=(0, 1)))
    found = written(rows_of(claim_csv(claim)))
    content = {key: claim[key] for key in ("probe", "arms")} | {"comparisons": claim["verdict"]["comparisons"]}
    assert Counter(numbers(content)) - found == Counter()
    eligible = len(claim["verdict"]["comparisons"])
    assert sum(found.values()) == sum(1 for _ in numbers(content)) + eligible


def test_every_number_of_an_evaluation_is_in_its_csv():
    reliance = make_reliance()
    content = {key: reliance[key] for key in ("checkpoints", "differences", "networks", "probe_accuracy")}
    assert written(rows_of(reliance_csv(reliance))) == Counter(numbers(content))


def test_rows_say_where_a_number_comes_from():
    claim = add_everything(make_claim(4, seeds=(0, 7)))
    arm = claim["arms"]["patches_mean"]
    rows = {(row["arm"], row["method"], row["seed"], row["figure"]): row for row in rows_of(claim_csv(claim))}
    seed = arm["methods"]["mean"]["seeds"]["7"]
    assert rows["patches_mean", "mean", "7", "swap_pull"]["high"] == str(seed["swap_pull"]["high"])
    point = arm["methods"]["mean"]["all_seeds"]["curves"]["slic"]["random"]["unchanged"]["points"][3]
    row = rows["patches_mean", "mean", "", "curves/slic/random/unchanged/0.3"]
    assert [row[end] for end in ("value", "low", "high")] == [str(point[end]) for end in ("value", "low", "high")]
    assert row["images"] == ""
    bits = rows["patches_mean", "mean", "", "information_circle/null_low"]
    assert bits["value"] == str(arm["methods"]["mean"]["all_seeds"]["information_circle"]["null_low"])
    worst = arm["worst_cell"]
    assert rows["patches_mean", worst["method"], "", f"worst_cell/{worst['family']}"]["value"] == str(worst["value"])


def test_an_undefined_figure_has_its_reason_in_place_of_numbers():
    claim = make_claim(2)
    set_undefined(claim, "no_masks", "black", "used_share", 'because, "so"')
    (row,) = (
        row
        for row in rows_of(claim_csv(claim))
        if (row["arm"], row["method"], row["seed"], row["figure"]) == ("no_masks", "black", "", "used_share")
    )
    assert (row["value"], row["low"], row["images"], row["undefined_because"]) == ("", "", "988", 'because, "so"')
