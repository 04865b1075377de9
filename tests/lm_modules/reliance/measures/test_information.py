"""Mutual information against SciPy's likelihood-ratio statistic, and its bias and null interval."""

import numpy as np
import pytest
from scipy import stats
from scipy.stats.contingency import crosstab

from maskrobust.lm_modules.reliance.measures.information import mutual_information


def plug_in_bits(predictions: np.ndarray, labels: np.ndarray) -> float:
    """G = 2 N I in nats, for a table of counts."""
    table = crosstab(predictions, labels).count
    statistic = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
    return statistic / (2 * len(labels) * np.log(2))


def miller_madow_bits(predictions: np.ndarray, labels: np.ndarray) -> float:
    joint = len(set(zip(predictions.tolist(), labels.tolist(), strict=True)))
    excess = len(set(predictions.tolist())) - 1 + len(set(labels.tolist())) - 1 - (joint - 1)
    return plug_in_bits(predictions, labels) + excess / (2 * len(labels) * np.log(2))


def dependent_pair(images: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    return np.where(rng.random(images) < 0.4, (labels + 1) % classes, rng.integers(0, classes, images)), labels


@pytest.mark.parametrize("classes", [2, 5, 30])
@pytest.mark.parametrize("images", [40, 2000])
def test_the_figure_is_scipys_with_the_miller_madow_correction(classes: int, images: int) -> None:
    predictions, labels = dependent_pair(images, classes, 0)
    found = mutual_information([predictions], labels, permutations=10)
    assert found.bits == pytest.approx(miller_madow_bits(predictions, labels), abs=1e-9)


def test_the_null_interval_holds_independent_predictions_in_95_percent() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        found = mutual_information([rng.integers(0, 3, 100)], rng.integers(0, 3, 100), permutations=100, seed=trial)
        inside += found.null_low <= found.bits <= found.null_high
    assert 0.88 <= inside / 200 <= 0.99


def test_labels_are_permuted_alike_for_all_runs_and_the_mean_is_compared_with_its_own_interval() -> None:
    rng = np.random.default_rng(0)
    labels, run = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    alone, twice = (mutual_information([run] * count, labels, permutations=200) for count in (1, 2))
    assert twice == pytest.approx(alone)  # two equal runs say what one says
    others = [rng.integers(0, 4, 300) for _ in range(16)]
    together = mutual_information(others, labels, permutations=200)
    single = [mutual_information([other], labels, permutations=200) for other in others]
    assert together.bits == pytest.approx(np.mean([each.bits for each in single]))
    widths = [each.null_high - each.null_low for each in single]
    assert together.null_high - together.null_low < 0.5 * np.mean(widths)  # independent runs: about a quarter


def test_labels_are_permuted_among_objects_and_not_among_their_images() -> None:
    """A guess for each object that says nothing of its class: twenty images of each prove nothing more."""
    rng = np.random.default_rng(0)
    inside = {True: 0, False: 0}
    for trial in range(60):
        labels, guesses = (rng.integers(0, 3, 30).repeat(20) for _ in range(2))
        for by_object in inside:
            objects = np.arange(30).repeat(20) if by_object else None
            found = mutual_information([guesses], labels, objects, permutations=100, seed=trial)
            inside[by_object] += found.null_low <= found.bits <= found.null_high
    assert inside[True] >= 52 and inside[False] <= 20
