"""What is found is said in one sentence, with its size: outcomes that are known, and what is said of each."""

from dataclasses import replace

import pytest

from maskrobust.train.report.findings import (
    accuracies_compared,
    besides,
    in_evaluation,
)
from maskrobust.train.report.results import Results
from tests.train.report.evaluations import evaluated
from tests.train.report.pages import squeezed

SEEN = {"silhouette": 0.26, "circle": 0.25, "half": 0.6, "share": (0.01, -0.03, 0.05)}
READ = {"silhouette": 0.46, "circle": 0.26, "half": 0.5, "share": (0.34, 0.3, 0.38)}


def black_and_layer_masking(black, masked=SEEN):
    return {"net": {"black": black, "layer_masking": masked}}


KNOWN = {
    "collapse to one class": (
        evaluated(
            black_and_layer_masking({"half": 0.5, "commonest": (1.0, "defective")}, {"half": 0.735}), {"net": 0.74}
        ),
        "With half of the patches hidden under black fill, net calls every image “defective”: it is right in 50% of "
        "400 images under black fill (74% with nothing hidden), in 73.5% under layer masking.",
    ),
    "chance": (
        evaluated(black_and_layer_masking(READ), {"net": 0.26}, at_chance={"net": "its accuracy is chance"}),
        "net is at chance: its accuracy is chance; what it answers behind holes means nothing.",
    ),
    "reliance": (
        evaluated(black_and_layer_masking(READ), {"net": 0.8}),
        "The outline of a hole gives the object away: "
        "with the object cut out along its outline, net is still right in 46% of 400 images under black fill (chance: "
        "25%), in 26% under layer masking.",
    ),
    "reliance without accuracy lost": (
        evaluated(black_and_layer_masking(READ | {"half": 0.78}), {"net": 0.8}),
        "The outline of a hole gives the object away: "
        "with the object cut out along its outline, net is still right in 46% of 400 images under black fill (chance: "
        "25%), in 26% under layer masking; it keeps its accuracy with half of the patches hidden (78%).",
    ),
    "little reliance": (
        evaluated(black_and_layer_masking(READ | {"silhouette": 0.3, "share": (0.06, 0.02, 0.1)}), {"net": 0.8}),
        "Little reliance on outlines (used share 0.06): with the object cut out along its outline, net is right in 30% "
        "of 400 images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "outlines that mislead": (
        evaluated(
            black_and_layer_masking({"silhouette": 0.2, "circle": 0.4, "share": (-0.3, -0.4, -0.2)}), {"net": 0.8}
        ),
        "Outlines mislead: with the object cut out along its outline, net is right in 20% of 400 images under black "
        "fill (40% behind a circle), in 26% under layer masking.",
    ),
    "no reliance": (
        evaluated(black_and_layer_masking(SEEN), {"net": 0.8}),
        "No reliance on outlines (used share within ±0.05): with the object cut out along its outline, net is right in "
        "26% of 400 images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "undecided": (
        evaluated(black_and_layer_masking(SEEN | {"share": (0.1, -0.2, 0.4)}), {"net": 0.8}),
        "Undecided whether outlines matter (used share up to ±0.40): with the object cut out along its outline, net is "
        "right in 26% of 400 images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "no object masks": (
        evaluated(black_and_layer_masking({"half": 0.5}, {"half": 0.735}), {"net": 0.74}),
        "With half of the patches hidden, net is right in 50% of 400 images under black fill (74% with nothing "
        "hidden), in 73.5% under layer masking.",
    ),
    "no labels": (
        evaluated(
            black_and_layer_masking({"silhouette": 0.46, "circle": 0.3}, {"silhouette": 0.26, "circle": 0.25}),
            {"net": None},
            chance=None,
        ),
        "With the object cut out along its outline, net predicts the same as with nothing hidden in 46% of 400 images "
        "under black fill (30% behind a circle), in 26% under layer masking (25% behind a circle).",
    ),
    "no labels, many networks": (
        evaluated(
            {name: black_and_layer_masking({"half": 0.5}, {"half": 0.735})["net"] for name in "ab"},
            dict.fromkeys("ab"),
            chance=None,
        ),
        "With half of the patches hidden, the fraction of predictions that are the same as with nothing hidden over "
        "400 images is between 50% (a under black fill) and 73.5% (a under layer masking).",
    ),
    "two networks as they were trained": (
        evaluated(
            {"a": {"black": READ, "layer_masking": SEEN}, "b": {"black": READ, "layer_masking": SEEN}},
            {"a": 0.8, "b": 0.8},
            own={"a": "black", "b": "layer_masking"},
        ),
        "The outline of a hole gives the object away: "
        "with the object cut out along its outline, the network trained on painted holes is still right in 46% of 400 "
        "images (chance: 25%); the network trained with layer masking in 26%.",
    ),
    "many networks": (
        evaluated({name: black_and_layer_masking(READ)["net"] for name in "abc"}, dict.fromkeys("abc", 0.8)),
        "The outline of a hole gives the object away: "
        "with the object cut out along its outline, accuracy over 400 images is between 26% (a under layer "
        "masking) and 46% (a under black fill).",
    ),
}


@pytest.mark.parametrize("outcome", KNOWN)
def test_a_known_outcome_is_said_in_one_sentence_with_its_size(outcome):
    results, expected = KNOWN[outcome]
    assert squeezed(in_evaluation(results)) == expected


@pytest.mark.parametrize(
    ("outcome", "measure"),
    [
        ("collapse to one class", "retention"),
        ("reliance", "silhouette_accuracy"),
        ("two networks as they were trained", "silhouette_accuracy"),
        ("no object masks", "retention"),
        ("many networks", None),
        ("chance", None),
    ],
)
def test_what_is_compared_is_what_the_sentence_tells(outcome, measure):
    compared = accuracies_compared(KNOWN[outcome][0])
    assert (compared and compared[2].measure) == measure


def test_a_network_that_collapses_although_objects_are_known_is_compared_behind_patches():
    collapsed = READ | {"commonest": (1.0, "defective")}
    results = evaluated(black_and_layer_masking(collapsed), {"net": 0.8})
    first, second, row = accuracies_compared(results)
    assert in_evaluation(results).startswith("With half of the patches hidden")
    assert (first.method, second.method, row.measure) == ("black", "layer_masking", "retention")


def hidden_otherwise(results, fraction, measures, **content):
    """The results with rows of some measures at another hidden fraction, and what is wrong at half in their place."""
    moved = [row for row in results.rows if row.measure in measures and row.parameters["hidden_fraction"]]
    others = [row for row in results.rows if row not in moved]
    at_half = [replace(row, value=0.01) for row in moved if row.measure == "retention"]
    moved = [replace(row, parameters={**row.parameters, "hidden_fraction": fraction}) for row in moved]
    return Results(results.name, {**results.content, **content}, [*others, *at_half, *moved])


def test_a_collapse_is_told_with_accuracies_at_the_same_hidden_fraction():
    results, expected = KNOWN["collapse to one class"]
    strong = hidden_otherwise(results, 0.9, ("retention", "commonest_class"))
    assert squeezed(in_evaluation(strong)) == expected.replace("half", "90%")
    assert accuracies_compared(strong)[2].parameters["hidden_fraction"] == 0.9


def test_accuracies_behind_patches_are_not_compared_below_a_sentence_about_pulls():
    pulled = {"half": 0.5, "pull": (1.2, 0.9, 1.5)}
    results = evaluated(black_and_layer_masking(pulled, {"half": 0.7, "pull": (0.0, -0.1, 0.1)}), {"net": 0.8})
    assert "hole in an empty scene pulls" in in_evaluation(results)
    assert accuracies_compared(results) is None


def test_the_two_accuracies_of_the_sentence_are_compared_below_it_image_by_image():
    results = KNOWN["two networks as they were trained"][0]
    found = {"difference": {"value": 0.2, "low": 0.16, "high": 0.24}}
    said = "The two {} of the headline differ by 20.0 points [16.0, 24.0], paired by image."
    for labels, numbers in (("of the data", "accuracies"), ("none", "fractions")):
        settings = {"settings": {**results.content["settings"], "labels": labels}}
        compared = Results("reliance", {**results.content, **settings, **found}, [])
        assert squeezed(besides(compared)[0]) == said.format(numbers)


def test_what_was_not_measured_or_means_nothing_is_said_below_the_sentence():
    assert "needs object masks" in besides(KNOWN["no object masks"][0])[-1]
    (shares,) = besides(KNOWN["reliance"][0])
    assert "0.34 [0.30, 0.38] for net under black fill and 0.01 [-0.03, 0.05] for net under" in squeezed(shares)
    both = evaluated(
        black_and_layer_masking({"half": 0.3, "nearest": 0.2}, {"half": 0.5, "nearest": 0.884}), {"net": 0.8}
    )
    assert (
        "With half of the patches hidden, the nearest of 400 clean pictures, by the network's features, is the "
        "picture's own in 20% [18.0, 22.0] for net under black fill and 88.4% [86.4, 90.4] for net under layer masking "
        "(chance: 0.25%)."
    ) in map(squeezed, besides(both))
    two = {"a": {"black": READ}, "b": {"black": READ}}
    one_at_chance = evaluated(two, {"a": 0.8, "b": 0.2}, at_chance={"b": "it guesses"})
    assert "b is at chance" in besides(one_at_chance)[-1] and ", b " not in in_evaluation(one_at_chance)
