"""What the numbers of an evaluation say, and every prediction as CSV."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.measures.accuracy import at_chance, commonest_answer
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.summary import predictions_csv, with_readings
from maskrobust.train.report.results import meaningless_because
from tests.lm_modules.reliance.tables import answering, make_outcomes


def row(measure, interval, network="a", method="black", **others):
    value, low, high = interval
    return Row(network, method, measure, value, low, high, 9, 0, **others)


AT_CHANCE = "its accuracy with nothing hidden is no better than chance"


def read(share, reason, commonest, majority=0.3):
    """Networks a, of these numbers, and b, which is well, and their comparison, with readings."""
    good = (0.8, 0.7, 0.9)
    rows = [
        row("majority_fraction", (majority, 0.2, 0.4), "", ""),
        row("used_share", share),
        row("clean_accuracy", good),
        row("commonest_answer", (commonest, commonest, commonest)),
        row("used_share", (0.5, 0.4, 0.6), "b"),
        row("clean_accuracy", good, "b"),
        row("commonest_answer", (0.4, 0.4, 0.4), "b"),
        row("reliance", (-0.5, -0.6, -0.4), compared_with="b", reading="relies less"),
    ]
    return [each for each in with_readings(rows, {"a": reason}) if each.measure in ("used_share", "reliance")]


@pytest.mark.parametrize(
    ("at_chance", "commonest", "majority", "reason"),
    [
        ("", 0.4, 0.3, ""),
        ("", 1.0, 0.3, "100\u202f% of its predictions behind object holes are one class"),
        ("", 0.96, 0.3, "96\u202f% of its predictions behind object holes are one class"),
        ("", 0.96, 0.97, ""),  # the data have one class: what else should it answer?
        (AT_CHANCE, 0.4, 0.3, AT_CHANCE),
    ],
)
def test_the_share_of_a_collapsed_network_means_nothing(at_chance, commonest, majority, reason):
    own, other, comparison = read((0.0, 0.0, 0.0), at_chance, commonest, majority)
    assert meaningless_because(own) == meaningless_because(comparison) == reason
    assert other.reading == "relies on outlines"
    assert reason or (own.reading, comparison.reading) == ("no evidence", "relies less")


@pytest.mark.parametrize(
    ("labels", "right", "said"),
    [
        ([50, 50], 50, "50.0\u202f%, is no better than always naming the most frequent class, 50.0\u202f%"),
        ([50, 50], 59, "59.0\u202f%, is no better than"),  # the exact lower bound of 59 of 100 is .487
        ([50, 50], 61, ""),  # that of 61 is .507
        ([80, 20], 80, "80.0\u202f%, is no better than always naming the most frequent class, 80.0\u202f%"),
        ([80, 20], 95, ""),
        ([100, 0], 70, ""),  # one class is looked at: right more often than one answer of two at random
        ([100, 0], 50, "50.0\u202f%, is no better than naming classes at random, 50.0\u202f%"),
    ],
)
def test_accuracy_is_at_chance_unless_an_exact_bound_lies_above_the_most_frequent_class(labels, right, said):
    given = np.repeat([0, 1], labels)
    outcomes = replace(make_outcomes(100, 0, ()), num_classes=2, labels=given)
    answers = np.where(np.arange(100) < right, given, 1 - given)
    asked = answering(outcomes, clean=answers)
    assert said in at_chance(asked) and bool(at_chance(asked)) == bool(said)


def test_the_commonest_answer_is_counted():
    outcomes = make_outcomes(40, 0, (0.3,))
    valid, labels = outcomes.object_valid, outcomes.labels
    answers = np.where(np.arange(40) < 30, 1, labels)
    asked = answering(outcomes, silhouette=answers, circle=np.ones(40, int))
    both = np.concatenate([answers[valid], np.ones(valid.sum(), int)])
    assert commonest_answer()([asked], 0, 0).value == np.mean(both == 1)


def test_every_prediction_is_a_line_with_its_sample_and_how_much_was_hidden():
    outcomes = make_outcomes(3, 0, (0.3,))
    hidden = answering(outcomes, clean=np.array([0, 1, 9]), **{"retention/0.3": np.array([2, -1, 0])})
    names = ["=sum", *map(str, range(1, outcomes.num_classes))]
    text = predictions_csv({"net": {"mean": hidden}}, (0.3,), names, lambda sample: f"{sample}.png")
    lines = list(csv.DictReader(io.StringIO(text)))
    found = [(line["sample"], line["method"], line["hidden_fraction"], line["prediction"]) for line in lines]
    first, second, third = (f"{sample}.png" for sample in outcomes.ids)
    assert found == [
        (first, "", "0.0", "'=sum"),
        (second, "", "0.0", "1"),
        (third, "", "0.0", "another class"),
        (first, "mean", "0.3", "2"),
        (third, "mean", "0.3", "'=sum"),
    ]
    assert [line["sample_id"] for line in lines[:3]] == [str(sample) for sample in outcomes.ids]
