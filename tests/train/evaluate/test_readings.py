"""What the numbers of an evaluation say, and every prediction as CSV."""

import csv
import io
from typing import Any

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.measures.accuracy import class_rows
from maskrobust.lm_modules.reliance.measures.remains import commonest_answer
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.predictions import predictions_csv
from maskrobust.train.evaluate.readings import with_readings
from maskrobust.train.report.results import meaningless_because
from tests.lm_modules.reliance.tables import answering, make_outcomes

Interval = tuple[float, float, float]


def row(measure: str, interval: Interval, network: str = "a", method: str = "black", **others: Any) -> Row:
    value, low, high = interval
    return Row(network, method, measure, value, low, high, 9, 0, **others)


def read(share: Interval, clean: Interval, commonest: float, majority: float = 0.3) -> list[Row]:
    """Networks a, of these numbers, and b, which is well, and their comparison, with readings."""
    good = (0.8, 0.7, 0.9)
    rows = [
        row("majority_fraction", (majority, 0.2, 0.4), "", ""),
        row("used_share", share),
        row("clean_accuracy", clean),
        row("commonest_answer", (commonest, commonest, commonest)),
        row("used_share", (0.5, 0.4, 0.6), "b"),
        row("clean_accuracy", good, "b"),
        row("commonest_answer", (0.4, 0.4, 0.4), "b"),
        row("reliance", (-0.5, -0.6, -0.4), compared_with="b", reading="relies less"),
    ]
    return [each for each in with_readings(rows, 10) if each.measure in ("used_share", "reliance")]


@pytest.mark.parametrize(
    ("clean", "commonest", "majority", "reason"),
    [
        ((0.8, 0.7, 0.9), 0.4, 0.3, ""),
        ((0.8, 0.7, 0.9), 1.0, 0.3, "100\u202f% of its answers behind object holes are one class"),
        ((0.8, 0.7, 0.9), 0.96, 0.3, "96\u202f% of its answers behind object holes are one class"),
        ((0.97, 0.9, 1.0), 0.96, 0.97, ""),  # the data have one class: what else should it answer?
        ((0.15, 0.1, 0.2), 0.4, 0.3, "its accuracy with nothing hidden is not above chance"),
        ((0.15, 0.11, 0.2), 0.4, 0.3, ""),
    ],
)
def test_the_share_of_a_collapsed_network_means_nothing(
    clean: Interval, commonest: float, majority: float, reason: str
) -> None:
    own, other, comparison = read((0.0, 0.0, 0.0), clean, commonest, majority)
    assert meaningless_because(own) == meaningless_because(comparison) == reason
    assert other.reading == "relies on outlines"
    assert reason or (own.reading, comparison.reading) == ("not shown", "relies less")


def test_the_commonest_answer_and_the_accuracy_of_each_class_are_counted() -> None:
    outcomes = make_outcomes(40, 0, (0.3,))
    valid, labels = outcomes.object_valid, outcomes.labels
    answers = np.where(np.arange(40) < 30, 1, labels)
    asked = answering(outcomes, silhouette=answers, circle=np.ones(40, int), clean=labels, **{"retention/0.3": answers})
    both = np.concatenate([answers[valid], np.ones(valid.sum(), int)])
    assert commonest_answer()([asked], 0, 0).value == np.mean(both == 1)
    names = [f"class {label}" for label in range(asked.num_classes)]
    rows = [*class_rows("a", {"black": asked}, names, 0.3, replicates=20)]
    for found in rows:
        of_class = labels == names.index(str(found.parameters["class"]))
        given = answers if found.method else labels
        assert found.value == pytest.approx(np.mean(given[of_class] == labels[of_class]))
        assert found.images == of_class.sum()
    assert len(rows) == 2 * len(np.unique(labels))


def test_every_prediction_is_a_line_with_its_sample_and_how_much_was_hidden() -> None:
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
    numbers = predictions_csv({"net": {"mean": hidden}}, (), [], str)
    assert [line["prediction"] for line in csv.DictReader(io.StringIO(numbers))] == ["0", "1", "9"]
