"""Pointwise information: against its formula image by image, and where the truth is known, with many classes."""

import math
from dataclasses import replace

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, estimate
from maskrobust.lm_modules.reliance.features import cross_validated_probabilities, pointwise_information
from maskrobust.lm_modules.reliance.measures.feature_information import carried_bits, feature_bits
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from tests.lm_modules.reliance.tables import make_outcomes

CLASSES, IMAGES = 40, 320


def balanced() -> tuple[np.ndarray, np.ndarray]:
    """Labels, and folds in which classes are unequally frequent."""
    labels = np.random.default_rng(0).permutation(np.arange(IMAGES) % CLASSES)
    return labels, np.arange(IMAGES) % 5


def measured(*information: np.ndarray) -> list[Estimate]:
    keys = ("silhouette", "circle")[: len(information)]
    outcomes = replace(make_outcomes(IMAGES, 0), information=dict(zip(keys, information, strict=True)))
    found = [estimate(feature_bits(hole), [outcomes]) for hole in keys]
    return found if len(keys) == 1 else [*found, estimate(carried_bits(), [outcomes])]


def test_it_is_the_formula_image_by_image() -> None:
    rng = np.random.default_rng(1)
    labels, folds = np.array([3, 5, 5, 9, 3, 9, 5, 3, 3, 9]), np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 2])
    probabilities = rng.dirichlet(np.ones(3), 10)
    probabilities[np.arange(10), np.searchsorted([3, 5, 9], labels)] += 0.3
    probabilities[3] = [1.3, 0.0, 0.0]  # its own class is one that the probe does not know
    probabilities /= 1.3
    found = pointwise_information(probabilities, labels, folds)

    def gain(image: int, trust: float) -> float:
        known, share = sum(folds != folds[image]), {each: np.mean(labels == each) for each in (3, 5, 9)}
        mixed = [
            share[each] ** (1 - trust) * ((known * probability + share[each]) / (known + 1)) ** trust
            for each, probability in zip((3, 5, 9), probabilities[image], strict=True)
        ]
        own = (3, 5, 9).index(labels[image])
        return math.log2(mixed[own] / sum(mixed) / share[labels[image]])

    for image in range(10):
        others = [other for other in range(10) if folds[other] != folds[image]]
        means = [np.mean([gain(other, step / 20) for other in others]) for step in range(21)]
        assert found[image] == pytest.approx(gain(image, int(np.argmax(means)) / 20), abs=1e-9)


def test_features_without_information_have_none_however_sure_the_probe_is() -> None:
    (labels, folds), rng = balanced(), np.random.default_rng(2)
    features = rng.normal(size=(IMAGES, 60))
    probabilities = cross_validated_probabilities(features, labels, folds)
    log_loss = -np.log2(probabilities[np.arange(IMAGES), labels] + 1e-300).mean()
    assert log_loss > np.log2(CLASSES) + 1  # what H - log loss would be without trust: below -1 bit
    (found,) = measured(pointwise_information(probabilities, labels, folds))
    assert found.interval is not None
    assert found.interval.low <= 0.0 <= found.interval.high and abs(found.interval.value) < 0.02
    certain = np.eye(CLASSES)[rng.permutation(labels)]
    assert abs(pointwise_information(certain, labels, folds).mean()) < 0.02


def test_features_that_tell_the_class_hold_its_whole_entropy_and_no_more() -> None:
    labels, folds = balanced()
    features = 20 * np.eye(CLASSES)[labels] + np.random.default_rng(3).normal(size=(IMAGES, CLASSES))
    information = pointwise_information(cross_validated_probabilities(features, labels, folds), labels, folds)
    entropy = np.log2(CLASSES)
    assert (information <= entropy).all() and information.mean() > entropy - 0.2
    found, nothing, carried = measured(information, np.zeros(IMAGES))
    assert [found.value, carried.value] == pytest.approx([information.mean()] * 2)
    assert nothing.interval == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("sharpened", [1.0, 4.0])
def test_a_channel_of_known_information_is_not_exceeded(sharpened: float) -> None:
    """A tenth of the time the features are the class, else any one: accuracy .12 among 40."""
    images, rng = 20000, np.random.default_rng(4)
    labels, folds = np.arange(images) % CLASSES, rng.integers(0, 5, images)
    seen = np.where(rng.random(images) < 0.1, labels, rng.integers(0, CLASSES, images))
    posterior = 0.9 / CLASSES + 0.1 * np.eye(CLASSES)
    truth = (posterior * np.log2(posterior * CLASSES)).sum(axis=1).mean()
    probabilities = posterior[seen] ** sharpened
    information = pointwise_information(probabilities / probabilities.sum(axis=1, keepdims=True), labels, folds)
    error = information.std() / np.sqrt(images)
    assert truth - 4 * error - 0.01 < information.mean() < truth + 4 * error


def test_images_of_one_fold_or_without_features_do_not_count(tmp_path) -> None:
    assert np.isnan(pointwise_information(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), np.zeros(4, int))).all()
    some = np.where(np.arange(IMAGES) < 3, np.nan, 1.0)
    (found,) = measured(some)
    assert (found.value, found.images, found.left_out) == (1.0, IMAGES - 3, 3)
    before = make_outcomes(IMAGES, 0)
    assert "measure again" in str(estimate(feature_bits("circle"), [before]).undefined_because)
    replace(before, information={"circle/layer1": some}).save(tmp_path / "outcomes.npz")
    kept = Outcomes.load(tmp_path / "outcomes.npz")
    assert np.array_equal(kept.information["circle/layer1"], some, equal_nan=True)
