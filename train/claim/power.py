"""Compute before any training which differences a claim's design can find."""

from collections.abc import Sequence

from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.claim.verdict import few_seeds, level_of, third_of_level
from maskrobust.train.report.wording import PERCENT, decimal

SEED_DEVIATION, IMAGE_DEVIATION = 0.04, 0.6
"""Standard deviations of a difference of two used shares, over seeds and over images.

With eight seeds and 1,500 images they give a 95 % interval of ± 0.045; the garments of docs/results-scratch.md have
± 0.04. On its generated images seeds vary about twice as much.
"""

_POWER, _HARDLY, _LARGE = 0.8, 0.2, 0.3


def chance_to_show(distance: float, seeds: int, images: int, level: float) -> float:
    """The chance in [0, 1] that a bound clears what the true difference exceeds by `distance`.

    With V_S and V_O the variances due to seeds and images, X of a chi-squared distribution with S - 1 degrees of
    freedom, t_S Student's quantile at these and z the normal one, it is the mean over X of

        Phi((distance - sqrt(t_S^2 V_S X / (S - 1) + z^2 V_O)) / sqrt(V_S + V_O)).

    Args:
        distance: distance of the true difference from the margin, in used share.
        seeds: number S of runs of each arm, at least 2.
        images: number of images with an object.
        level: one-sided, of the signed bound.
    """
    import numpy as np  # here: with SciPy it takes a second, which the help of commands does without
    from scipy import stats

    of_seeds, of_images = SEED_DEVIATION**2 / seeds, IMAGE_DEVIATION**2 / images
    spread = stats.chi2.ppf((np.arange(100) + 0.5) / 100, seeds - 1) / (seeds - 1)
    reach = np.sqrt(stats.t.isf(level, seeds - 1) ** 2 * of_seeds * spread + stats.norm.isf(level) ** 2 * of_images)
    return float(stats.norm.cdf((distance - reach) / np.sqrt(of_seeds + of_images)).mean())


def least_difference(seeds: int, images: int, level: float) -> float:
    """The distance at which `chance_to_show` is 80 %."""
    from scipy import optimize  # here, as above

    return float(optimize.brentq(lambda each: chance_to_show(each, seeds, images, level) - _POWER, 0.0, 1e3))


def power_in_words(config: ClaimConfig, images: int) -> Sequence[str]:
    """What the design can show, and where it can hardly decide, as sentences.

    Args:
        config: the claim.
        images: number of images with an object in the split that is measured.
    """
    seeds, rule = len(config.seeds), config.rule
    if few := few_seeds(seeds):
        return [few]
    third, arms = third_of_level(rule), sum(arm.augmentation_only for arm in config.arms.values())
    own, needed = (rule.margin + least_difference(seeds, images, level) for level in (third, third / 2.0))
    below = chance_to_show(
        rule.margin * 2.0**0.5, seeds, images, level_of(rule) / arms
    )  # one share varies less than two
    refute = max(0.0, 2.0 * below - 1.0)  # below the margin and above minus it
    usual, rare = (f"{100 * each:.0f}{PERCENT}" for each in (_POWER, refute))
    found = [
        f"With {seeds} seeds and {images:,} images, {usual} of experiments show that an arm relies more than layer "
        f"masking if its used share is larger by {decimal(own)} (first claim) or {decimal(needed)} (second). The "
        f"margin is {decimal(rule.margin)}. If it does not rely, at the accuracy that the rule asks for, {rare} of "
        "experiments show that."
    ]
    if own > _LARGE:
        found.append("This design can hardly support a claim: give more seeds, or more test images.")
    if refute < _HARDLY:
        found.append("This design can hardly refute a claim: give more seeds, or more test images.")
    return found
