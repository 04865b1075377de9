"""What has come of a claim is said in one sentence each, with the numbers behind it."""

import pytest

from maskrobust.train.report.sections.claim import in_claim
from tests.train.report.evaluations import claimed
from tests.train.report.pages import squeezed

ARMS = {
    "patches": {"black": (0.6, 0.43), "inpainting": (0.7, 0.21), "layer_masking": (0.3, 0.0)},
    "blobs": {"black": (0.5, 0.3), "inpainting": (0.65, 0.1), "layer_masking": (0.3, 0.0)},
    "masked": {"black": (0.2, 0.5), "layer_masking": (0.73, 0.02)},
}


@pytest.mark.parametrize(
    ("outcomes", "shown", "own", "share", "needed", "best"),
    [
        (
            ("supported", "supported"),
            "keeps less",
            "Networks trained with mask augmentation still rely on the outline, filled as in training (used {}).",
            "0.30 to 0.43",
            "Nothing tried replaces layer masking: no fill does as well at the same accuracy, patches hidden ({}).",
            "70% right at a used share of 0.21 for “patches” under inpainting",
        ),
        (
            ("refuted", "refuted"),
            "does as well",
            "Mask augmentation is enough: filled as in training, a network does not rely on the outline (used {}).",
            "0.30 for “blobs” under black fill",
            "Layer masking can be replaced: a fill does as well at the same accuracy, patches hidden ({}).",
            "60% right at a used share of 0.43 for “patches” under black fill",
        ),
        (
            ("undecided", "undecided"),
            "open",
            "Do networks trained with mask augmentation rely on outlines, filled as in training? Used {}.",
            "0.30 to 0.43",
            "Can a fill that was tried replace layer masking? {}.",
            "60% right at a used share of 0.43 for “patches” under black fill",
        ),
    ],
)
def test_the_outcome_of_both_claims_is_said_with_the_numbers_behind_it(outcomes, shown, own, share, needed, best):
    for fraction, words in ((0.5, "half"), (0.75, "75%")):
        said = in_claim(claimed(outcomes, ARMS, shown=shown, hidden=fraction))
        sizes = f"{words} hidden: {best}; with layer masking 73% at 0.02"
        assert list(map(squeezed, said)) == [
            own.format(f"share {share}; with layer masking 0.02"),
            needed.format(sizes if "(" in needed else sizes.capitalize()),
        ]
