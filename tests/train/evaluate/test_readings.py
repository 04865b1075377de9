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


AT_CHANCE = "its mean recall over classes with nothing hidden is not shown to be better than chance"


@pytest.mark.parametrize("at_chance", ["", AT_CHANCE])
def test_numbers_of_a_network_at_chance_mean_nothing(at_chance):
    rows = [
        row("shape_choice", (0.5, 0.4, 0.6)),
        row("clean_accuracy", (0.8, 0.7, 0.9)),
        row("reliance", (-0.5, -0.6, -0.4), compared_with="b", reading="relies less"),
        row("shape_choice", (0.7, 0.6, 0.8), "b"),
        row("shape_choice", (0.4, 0.3, 0.45), "c"),
        row("silhouette_leak", (0.3, 0.2, 0.4), "b"),
        row("silhouette_leak", (0.3, 0.2, 0.4), compared_with="b"),
    ]
    *of_a, reader, misled, leak, difference = with_readings(rows, {"a": at_chance, "b": "", "c": ""})
    assert {meaningless_because(each) for each in of_a} == {at_chance}
    assert at_chance or [each.reading for each in of_a] == ["no evidence", "", "relies less"]
    assert [each.reading for each in (reader, misled)] == ["relies on outlines"] * 2
    assert leak.reading == difference.reading == ""


def clean_answers(labels, answers, objects=None, num_classes=None):
    outcomes = replace(
        make_outcomes(len(labels), 0, ()),
        num_classes=num_classes or int(max(labels)) + 1,
        labels=np.asarray(labels),
        objects=np.arange(len(labels)) if objects is None else objects,
    )
    return answering(outcomes, clean=np.asarray(answers))


@pytest.mark.parametrize(
    ("frequencies", "recalls", "is_better"),
    [
        ([50, 50], [0.5, 0.5], False),
        ([50, 50], [0.7, 0.7], True),
        ([90, 10], [1.0, 0.0], False),  # always the most frequent class
        ([90, 10], [0.87, 0.9], True),  # right less often than that, and better than chance
        ([90, 10], [0.5, 0.5], False),
        ([100, 0], [0.7, 0.0], True),  # one class is looked at: right more often than one answer of two at random
        ([100, 0], [0.5, 0.0], False),
    ],
)
def test_a_network_is_better_than_chance_by_its_mean_recall_over_classes(frequencies, recalls, is_better):
    labels = np.repeat([0, 1], frequencies)
    right = np.concatenate([np.arange(n) < r * n for n, r in zip(frequencies, recalls, strict=True)])
    said = at_chance(clean_answers(labels, np.where(right, labels, 1 - labels), num_classes=2))
    assert (said == "") is is_better
    recall = f"{100 * np.mean([r for n, r in zip(frequencies, recalls, strict=True) if n]):.1f}\u202f%"
    assert is_better or said.startswith(f"its mean recall over classes with nothing hidden, {recall}, is not shown")


def test_one_answer_for_all_images_of_an_object_is_one_draw():
    """8 objects, 60 images each, of 8 classes: a network that guesses once an object is seldom called better."""
    labels, better = np.repeat(np.arange(8), 60), {True: 0, False: 0}
    for known in better:
        objects = labels if known else np.arange(480)
        for seed in range(60):
            answers = np.repeat(np.random.default_rng(seed).integers(0, 8, 8), 60)
            better[known] += at_chance(clean_answers(labels, answers, objects)) == ""
    assert better[True] <= 5 < better[False]


def test_the_commonest_answer_is_counted():
    outcomes = make_outcomes(40, 0, (0.3,))
    valid, labels = outcomes.object_valid, outcomes.labels
    answers = np.where(np.arange(40) < 30, 1, labels)
    asked = answering(outcomes, silhouette=answers, circle=np.ones(40, int))
    both = np.concatenate([answers[valid], np.ones(valid.sum(), int)])
    assert commonest_answer()([asked]).value == np.mean(both == 1)


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
