"""What is found is said in one sentence, with its size: outcomes that are known, and what is said of each."""

import pytest

from maskrobust.train.report.findings import besides, in_evaluation
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
        "the images under black fill (74% with nothing hidden), in 73.5% under layer masking.",
    ),
    "chance": (
        evaluated(black_and_layer_masking(READ), {"net": 0.26}, at_chance={"net": "its accuracy is chance"}),
        "net is at chance: its accuracy is chance; what it answers behind holes means nothing.",
    ),
    "reliance": (
        evaluated(black_and_layer_masking(READ), {"net": 0.8}),
        "With the object hidden along its outline, net is still right in 46% of the images under black fill (chance: "
        "25%), in 26% under layer masking.",
    ),
    "reliance without accuracy lost": (
        evaluated(black_and_layer_masking(READ | {"half": 0.78}), {"net": 0.8}),
        "With the object hidden along its outline, net is still right in 46% of the images under black fill (chance: "
        "25%), in 26% under layer masking; it keeps its accuracy with half of the patches hidden (78%).",
    ),
    "little reliance": (
        evaluated(black_and_layer_masking(READ | {"silhouette": 0.3, "share": (0.06, 0.02, 0.1)}), {"net": 0.8}),
        "Little reliance on outlines (used share 0.06): with the object hidden along its outline, net is right in 30% "
        "of the images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "outlines that mislead": (
        evaluated(
            black_and_layer_masking({"silhouette": 0.2, "circle": 0.4, "share": (-0.3, -0.4, -0.2)}), {"net": 0.8}
        ),
        "Outlines mislead: with the object hidden along its outline, net is right in 20% of the images under black "
        "fill (40% behind a circle), in 26% under layer masking.",
    ),
    "no reliance": (
        evaluated(black_and_layer_masking(SEEN), {"net": 0.8}),
        "No reliance on outlines (used share within ±0.05): with the object hidden along its outline, net is right in "
        "26% of the images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "undecided": (
        evaluated(black_and_layer_masking(SEEN | {"share": (0.1, -0.2, 0.4)}), {"net": 0.8}),
        "Undecided whether outlines matter (used share up to ±0.40): with the object hidden along its outline, net is "
        "right in 26% of the images under black fill (chance: 25%), in 26% under layer masking.",
    ),
    "no object masks": (
        evaluated(black_and_layer_masking({"half": 0.5}, {"half": 0.735}), {"net": 0.74}),
        "With half of the patches hidden, net is right in 50% of the images under black fill (74% with nothing "
        "hidden), in 73.5% under layer masking.",
    ),
    "no labels": (
        evaluated(
            black_and_layer_masking({"silhouette": 0.46, "circle": 0.3}, {"silhouette": 0.26, "circle": 0.25}),
            {"net": None},
            chance=None,
        ),
        "With the object hidden along its outline, net predicts the same as with nothing hidden in 46% of the images "
        "under black fill (30% behind a circle), in 26% under layer masking (25% behind a circle).",
    ),
    "two networks as they were trained": (
        evaluated(
            {"a": {"black": READ, "layer_masking": SEEN}, "b": {"black": READ, "layer_masking": SEEN}},
            {"a": 0.8, "b": 0.8},
            own={"a": "black", "b": "layer_masking"},
        ),
        "With the object hidden along its outline, the network trained on painted holes is still right in 46% of the "
        "images (chance: 25%); the network trained with layer masking in 26%.",
    ),
    "many networks": (
        evaluated({name: black_and_layer_masking(READ)["net"] for name in "abc"}, dict.fromkeys("abc", 0.8)),
        "With the object hidden along its outline, accuracy is between 26% (a under layer masking) and 46% (a under "
        "black fill).",
    ),
}


@pytest.mark.parametrize("outcome", KNOWN)
def test_a_known_outcome_is_said_in_one_sentence_with_its_size(outcome):
    results, expected = KNOWN[outcome]
    assert squeezed(in_evaluation(results)) == expected


def test_what_was_not_measured_or_means_nothing_is_said_below_the_sentence():
    assert "needs object masks" in besides(KNOWN["no object masks"][0])[-1]
    (shares,) = besides(KNOWN["reliance"][0])
    assert "0.34 [0.30, 0.38] for net under black fill and 0.01 [-0.03, 0.05] for net under" in squeezed(shares)
    two = {"a": {"black": READ}, "b": {"black": READ}}
    one_at_chance = evaluated(two, {"a": 0.8, "b": 0.2}, at_chance={"b": "it guesses"})
    assert "b is at chance" in besides(one_at_chance)[-1] and in_evaluation(one_at_chance).count("b") == 2
