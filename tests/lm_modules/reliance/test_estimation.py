"""Figures over seeds and differences between arms."""

import numpy as np
import pytest

from lm_modules.reliance import (
    Outcomes,
    ProbeOutcomes,
    clean_accuracy,
    estimate,
    estimate_difference,
    silhouette_leak,
    used_share,
)
from tests.lm_modules.reliance.tables import make_outcomes


def arm(skill: float, seeds: int = 4, first_seed: int = 0) -> list[Outcomes]:
    return [make_outcomes(400, seed=1 + first_seed + seed, skill=skill, invalid=(1, 2)) for seed in range(seeds)]


def leak_of(run: Outcomes) -> float:
    valid = run.object_valid
    right = (run.silhouette == run.labels).astype(float) - (run.circle == run.labels)
    return float(right[valid].mean())


def test_the_figure_over_seeds_is_the_mean_of_their_figures() -> None:
    runs = arm(0.5)
    found = estimate(silhouette_leak(), runs)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(np.mean([leak_of(run) for run in runs]))
    assert found.estimate.low < found.estimate.value < found.estimate.high
    assert (found.images, found.left_out) == (398, 2)


def test_a_difference_is_that_of_the_figures_and_changes_sign_when_arms_are_exchanged() -> None:
    strong, weak = arm(0.8), arm(0.3, first_seed=50)
    forth = estimate_difference(silhouette_leak(), strong, weak).estimate
    back = estimate_difference(silhouette_leak(), weak, strong).estimate
    assert forth is not None
    assert back is not None
    expected = np.mean([leak_of(run) for run in strong]) - np.mean([leak_of(run) for run in weak])
    assert forth.value == pytest.approx(expected)
    assert forth == pytest.approx((-back.value, -back.high, -back.low))
    assert forth.low > 0


def test_an_arm_does_not_differ_from_itself() -> None:
    runs = arm(0.5)
    assert estimate_difference(silhouette_leak(), runs, runs).estimate == (0.0, 0.0, 0.0)


def test_pairing_on_images_narrows_the_interval() -> None:
    base = arm(0.5, seeds=1)
    nearly = [Outcomes(**vars(base[0]) | {"clean": np.where(base[0].ids % 20 == 0, -1, base[0].clean)})]
    single = estimate(clean_accuracy(), base).estimate
    difference = estimate_difference(clean_accuracy(), base, nearly).estimate
    assert single is not None
    assert difference is not None
    assert difference.high - difference.low < 0.5 * (single.high - single.low)


def test_a_difference_of_used_shares_is_undefined_when_the_outlines_hold_nothing() -> None:
    runs = arm(0.5)
    blind = ProbeOutcomes(runs[0].ids, np.full(400, -1), runs[0].labels)
    assert estimate_difference(used_share(blind), runs, runs).estimate is None
    seeing = ProbeOutcomes(runs[0].ids, runs[0].labels, runs[0].labels)
    found = estimate_difference(used_share(seeing), arm(0.9), runs).estimate
    assert found is not None
    assert found.low > 0


def test_confidence_widens_the_interval() -> None:
    narrow, wide = (estimate(silhouette_leak(), arm(0.5), confidence=level).estimate for level in (0.8, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


def test_no_valid_image_leaves_a_figure_undefined() -> None:
    found = estimate(silhouette_leak(), [make_outcomes(3, seed=0, invalid=(0, 1, 2))])
    assert found.estimate is None
    assert found.undefined_because == "undefined because no image is valid for it."
    assert (found.images, found.left_out) == (0, 3)


def test_runs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        estimate(silhouette_leak(), [])
    with pytest.raises(ValueError, match="same images"):
        estimate(silhouette_leak(), [make_outcomes(5, seed=0), make_outcomes(6, seed=0)])
    with pytest.raises(ValueError, match="got 4 and 3"):
        estimate_difference(silhouette_leak(), arm(0.5), arm(0.5, seeds=3))
