"""What has come of a claim is said in one sentence each, with the numbers behind it."""

import inspect
import re

import pytest

from maskrobust import MaskRobustClassifier
from maskrobust.train.report.results import PRESENTATION
from maskrobust.train.report.sections.claim import in_claim
from maskrobust.train.report.sections.doses import doses
from tests.train.report.evaluations import claimed
from tests.train.report.pages import squeezed

ARMS = {
    "patches": {"black": (0.6, 0.93), "inpainting": (0.7, 0.71), "layer_masking": (0.3, 0.5)},
    "blobs": {"black": (0.5, 0.8), "inpainting": (0.65, 0.6), "layer_masking": (0.3, 0.5)},
    "masked": {"black": (0.2, 0.7), "layer_masking": (0.73, 0.52)},
}


@pytest.mark.parametrize(
    ("outcomes", "shown", "own", "share", "needed", "best"),
    [
        (
            ("supported", "supported"),
            "keeps less",
            "Networks trained with mask augmentation still rely on the outline, filled as in training (shape {}).",
            "80% to 93%",
            "Nothing tried replaces layer masking: no fill does as well at the same accuracy, patches hidden ({}).",
            "70% right at shape choices of 71% for “patches” under inpainting",
        ),
        (
            ("refuted", "refuted"),
            "does as well",
            "Mask augmentation is enough: filled as in training, most networks do not rely on the outline (shape {}).",
            "80% for “blobs” under black fill",
            "Layer masking can be replaced: with a fill, most networks do as well at the same accuracy ({}).",
            "60% right at shape choices of 93% for “patches” under black fill",
        ),
        (
            ("undecided", "undecided"),
            "open",
            "Do networks trained with mask augmentation rely on outlines, filled as in training? Shape {}.",
            "80% to 93%",
            "Can a fill that was tried replace layer masking? {}.",
            "60% right at shape choices of 93% for “patches” under black fill",
        ),
    ],
)
def test_the_outcome_of_both_claims_is_said_with_the_numbers_behind_it(outcomes, shown, own, share, needed, best):
    for fraction, words in ((0.5, "half"), (0.75, "75%")):
        said = in_claim(claimed(outcomes, ARMS, shown=shown, hidden=fraction))
        sizes = f"{words} hidden: {best}; with layer masking 73% at 52%"
        assert list(map(squeezed, said)) == [
            own.format(f"choices {share}; with layer masking 52%; 50% is blind"),
            needed.format(sizes if "(" in needed else sizes.capitalize()),
        ]


def test_an_arm_that_the_first_claim_does_not_ask_about_is_no_number_of_it():
    said = in_claim(claimed(("supported", "undecided"), ARMS, shown="open", asked=("blobs",)))
    assert "(shape choices 80%; with" in squeezed(said[0]) and "for “patches” under" in said[1]
    nothing = in_claim(claimed(("undecided", "undecided"), ARMS, shown="open", asked=()))
    assert nothing[0].endswith("filled as in training?") and "for “patches” under" in nothing[1]


def test_a_claim_with_two_doses_draws_a_line_from_the_baseline_on_and_layer_masking_as_a_band():
    numbers = {"none": (0.3, 0.9), "most": (0.5, 0.6), "few": (0.5, 0.7), "blobs": (0.5, 0.8)}
    claim = claimed(
        ("open", "open"), {arm: {"black": each} for arm, each in numbers.items()} | {"masked": ARMS["masked"]}
    )
    claim.content["rule"]["baseline"] = "none"
    for arm, (masking, probability) in {"none": ("none", 0.9), "most": ("fill", 0.9), "few": ("fill", 0.3)}.items():
        claim.content["arms"][arm]["training"] = {"masking": masking, "mask_probability": probability}
    claim.content["arms"]["blobs"]["training"] = {"masking": "fill", "mask_family": "blobs", "mask_probability": 0.9}
    drawn = [
        [tuple(map(float, point.split(","))) for point in line.split()]
        for line in re.findall(r'<polyline points="([^"]*)"', str(doses(claim)))
    ]

    def at(dose, choices):
        return pytest.approx((34 + 256 * dose, 172 - 250 * (choices - 0.4)), abs=0.01)

    assert drawn == [[at(0, 0.9), at(0.3, 0.7), at(0.9, 0.6)], [at(0, 0.52), at(1, 0.52)]]
    few = claim.content["arms"]["few"]["training"]
    for other in ({"fill": "mean"}, {"objective": "focal"}, {"mask_probability": 0.9}):
        claim.content["arms"]["few"]["training"] = few | other
        assert doses(claim) is None, f"arms that differ in {other}, or in nothing, are no two doses"


def test_what_pages_take_for_a_trainings_defaults_are_the_classifiers():
    parameters = inspect.signature(MaskRobustClassifier).parameters
    assert {name: parameters[name].default for name in PRESENTATION} == PRESENTATION
