"""The probes, of masks and of features, and pointwise information: they find what is there, whatever the order."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from maskrobust.augment import SilhouetteBank, sample_keys, uniform
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.features import (
    cross_validated_probabilities,
    pointwise_information,
    with_feature_predictions,
)
from maskrobust.lm_modules.reliance.measures.feature_information import (
    carried_bits,
    carried_information,
    carried_mlp,
    carried_neighbours,
    feature_bits,
)
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import (
    FOLDS,
    ProbeOutcomes,
    object_folds,
    probe_outcomes,
    train_probe,
)
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_batch
from tests.lm_modules.reliance.tables import make_outcomes, take

INVALID = (2, 3, 11)
RNG_SEED = 5


def likeliest(features, labels, folds, *probe):
    probabilities = cross_validated_probabilities(features, labels, folds, *probe)
    if not len(labels):
        return labels
    return np.where(np.isnan(probabilities[:, 0]), -1, np.unique(labels)[probabilities.argmax(axis=1)])


def with_features(outcomes, silhouette, circle):
    valid = outcomes.object_valid[:, np.newaxis]
    return replace(
        outcomes,
        features={"silhouette": np.where(valid, silhouette, np.nan), "circle": np.where(valid, circle, np.nan)},
    )


def draw(images=400, width=6, signal=1.0, invalid=INVALID):
    """Noise behind the circle; behind the silhouette the class as well, as far as `signal` goes."""
    outcomes, rng = make_outcomes(images, seed=0, invalid=invalid), np.random.default_rng(RNG_SEED)
    one_hot = np.eye(width)[outcomes.labels]
    return with_features(
        outcomes, signal * one_hot + rng.normal(size=(images, width)), rng.normal(size=(images, width))
    )


def value_of(measure, outcomes):
    found = estimate(measure, [outcomes], replicates=200).interval
    assert found is not None
    return found.value


def test_features_that_hold_the_same_carry_nothing_of_the_outline():
    outcomes = draw()
    same = with_features(outcomes, outcomes.features["silhouette"], outcomes.features["silhouette"])
    found = estimate(carried_information(), [with_feature_predictions(same)])
    assert found.interval == (0.0, 0.0, 0.0)
    assert (found.images, found.left_out) == (397, 3)
    assert value_of(carried_mlp(), with_feature_predictions(same)) == 0.0


def test_predictions_are_those_of_a_pipeline_fitted_to_the_other_folds():
    outcomes = draw(signal=1.5)
    probed = with_feature_predictions(outcomes)
    valid = outcomes.object_valid
    numbers = uniform(sample_keys(7, torch.from_numpy(outcomes.ids))).numpy()
    for hole in ("silhouette", "circle"):
        for fold in range(5):
            held_out = (numbers >= fold / 5) & (numbers < (fold + 1) / 5) & valid
            fitted = valid & ~held_out
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=1000 / fitted.sum(), tol=1e-8, max_iter=5000))
            probe.fit(outcomes.features[hole][fitted], outcomes.labels[fitted])
            expected = probe.predict(outcomes.features[hole][held_out])
            assert held_out.sum() > 50
            assert (probed.predictions_under(f"features/{hole}")[held_out] == expected).mean() > 0.98
        assert (probed.predictions_under(f"features/{hole}")[~valid] == -1).all()


def test_neighbours_are_the_five_nearest_of_the_other_folds_by_their_inverse_distance():
    rng = np.random.default_rng(3)
    labels, folds = rng.integers(0, 3, 90), np.arange(90) % 5
    features = np.eye(3)[labels] + rng.normal(size=(90, 3))
    found = likeliest(features, labels, folds, "neighbours")
    for image in range(90):
        others = folds != folds[image]
        scaled = (features - features[others].mean(axis=0)) / features[others].std(axis=0)
        distances = np.linalg.norm(scaled[others] - scaled[image], axis=1)
        nearest = np.argsort(distances)[:5]
        votes = np.bincount(labels[others][nearest], weights=1 / distances[nearest], minlength=3)
        assert found[image] == votes.argmax()


@pytest.mark.parametrize("measure", [carried_mlp(), carried_neighbours()], ids=["mlp", "neighbours"])
def test_the_other_probes_read_what_no_linear_probe_does_and_nothing_where_nothing_is(measure):
    """The class is whether two signs agree."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (400, 2))
    labels = (signs[:, 0] == signs[:, 1]).astype(np.int64)
    outcomes = replace(make_outcomes(400, 0), labels=labels, num_classes=2)
    known = signs + 0.2 * rng.normal(size=(400, 2))
    probed = with_feature_predictions(with_features(outcomes, known, rng.normal(size=(400, 2))))
    assert abs(value_of(carried_information(), probed)) < 0.15
    assert value_of(measure, probed) > 0.35
    empty = with_features(outcomes, rng.normal(size=(400, 2)), rng.normal(size=(400, 2)))
    found = estimate(measure, [with_feature_predictions(empty)]).interval
    assert found is not None and found.low < 0.0 < found.high


@pytest.mark.parametrize("images_a_class", [1, 2, 4])
def test_about_one_image_a_class_is_told_in_a_sentence_of_our_own(images_a_class):
    random = np.random.default_rng(0)
    labels = np.arange(60) // images_a_class
    outcomes = replace(
        make_outcomes(60, seed=0),
        labels=labels,
        features={"circle": random.normal(size=(60, 4)), "silhouette": random.normal(size=(60, 4))},
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read = with_feature_predictions(outcomes)
    assert len(read.predictions["features/circle"]) == 60
    said = {str(each.message) for each in found}
    assert len(said) == (images_a_class < 4)
    assert all("at least two images of a class, got" in each and each.endswith("features to false.") for each in said)


def test_folds_follow_from_ids_and_not_from_what_else_was_asked():
    outcomes = draw(signal=1.5)
    probed = with_feature_predictions(outcomes)
    order = np.random.default_rng(1).permutation(len(outcomes))
    halves = [take(outcomes, order[:150]), take(outcomes, order[120:])]
    again = with_feature_predictions(Outcomes.merge(halves))
    for condition in ("features/silhouette", "features/circle"):
        assert again.predictions_under(condition).tolist() == probed.predictions_under(condition).tolist()


def test_no_object_is_in_two_folds():
    """Six images of one object share its features exactly: a probe that had seen one would know the others."""
    outcomes = make_outcomes(240, 0)
    objects = np.arange(40).repeat(6)
    labels = np.random.default_rng(0).integers(0, 3, 40)[objects]
    features = {"silhouette": np.eye(40)[objects]}
    many = replace(outcomes, objects=objects, labels=labels, features=features)
    right = {
        name: np.mean(with_feature_predictions(each).predictions_under("features/silhouette") == labels)
        for name, each in {"objects": many, "images": replace(many, objects=many.ids)}.items()
    }
    assert right["images"] > 0.95 and right["objects"] < 0.6


def test_images_whose_features_are_not_finite_are_left_out():
    outcomes = draw()
    broken = outcomes.features["circle"].copy()
    broken[7, 2], broken[8, 0] = np.nan, np.inf
    found = estimate(
        carried_information(),
        [with_feature_predictions(replace(outcomes, features={**outcomes.features, "circle": broken}))],
    )
    assert (found.images, found.left_out) == (395, 5)


def test_outcomes_without_features_say_so():
    outcomes = make_outcomes(20, seed=0)
    assert with_feature_predictions(outcomes).predictions.keys() == outcomes.predictions.keys()
    with pytest.raises(ValueError, match="got 'features/silhouette'"):
        estimate(carried_information(), [with_feature_predictions(outcomes)])


CLASSES, IMAGES = 40, 320


def balanced():
    """Labels, and folds in which classes are unequally frequent."""
    labels = np.random.default_rng(0).permutation(np.arange(IMAGES) % CLASSES)
    return labels, np.arange(IMAGES) % 5


def measured(*information):
    keys = ("silhouette", "circle")[: len(information)]
    outcomes = replace(make_outcomes(IMAGES, 0), information=dict(zip(keys, information, strict=True)))
    found = [estimate(feature_bits(hole), [outcomes]) for hole in keys]
    return found if len(keys) == 1 else [*found, estimate(carried_bits(), [outcomes])]


def test_it_is_the_formula_image_by_image():
    rng = np.random.default_rng(1)
    labels, folds = np.array([3, 5, 5, 9, 3, 9, 5, 3, 3, 9]), np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 2])
    probabilities = rng.dirichlet(np.ones(3), 10)
    probabilities[np.arange(10), np.searchsorted([3, 5, 9], labels)] += 0.3
    probabilities[3] = [1.3, 0.0, 0.0]  # its own class is one that the probe does not know
    probabilities /= 1.3
    found = pointwise_information(probabilities, labels, folds)

    def gain(image, trust):
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


def test_features_without_information_have_none_however_sure_the_probe_is():
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


def test_features_that_tell_the_class_hold_its_whole_entropy_and_no_more():
    labels, folds = balanced()
    features = 20 * np.eye(CLASSES)[labels] + np.random.default_rng(3).normal(size=(IMAGES, CLASSES))
    information = pointwise_information(cross_validated_probabilities(features, labels, folds), labels, folds)
    entropy = np.log2(CLASSES)
    assert (information <= entropy).all() and information.mean() > entropy - 0.2
    found, nothing, carried = measured(information, np.zeros(IMAGES))
    assert [found.value, carried.value] == pytest.approx([information.mean()] * 2)
    assert nothing.interval == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("sharpened", [1.0, 4.0])
def test_a_channel_of_known_information_is_not_exceeded(sharpened):
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


def test_images_of_one_fold_or_without_features_do_not_count(tmp_path):
    assert np.isnan(pointwise_information(np.full((4, 2), np.nan), np.array([0, 1, 0, 1]), np.zeros(4, int))).all()
    some = np.where(np.arange(IMAGES) < 3, np.nan, 1.0)
    (found,) = measured(some)
    assert (found.value, found.images, found.left_out) == (1.0, IMAGES - 3, 3)
    before = make_outcomes(IMAGES, 0)
    assert "measure again" in str(estimate(feature_bits("circle"), [before]).undefined_because)
    replace(before, information={"circle/layer1": some}).save(tmp_path / "outcomes.npz")
    kept = Outcomes.load(tmp_path / "outcomes.npz")
    assert np.array_equal(kept.information["circle/layer1"], some, equal_nan=True)


TRAIN, HELD_OUT, TEST = shape_batch(600, 0), shape_batch(150, 1), shape_batch(150, 2, first_id=500)


def train(seed, max_epochs, patience=3):
    return train_probe(
        SilhouetteBank.from_batches([TRAIN]),
        SilhouetteBank.from_batches([HELD_OUT]),
        NUM_CLASSES,
        seed,
        max_epochs=max_epochs,
        patience=patience,
    )


def accuracy(probe):
    return (probe(TEST.object_mask) == TEST.labels).double().mean().item()


def test_shapes_are_read_and_the_held_out_accuracy_is_that_of_the_kept_weights():
    probe = train(seed=0, max_epochs=8)
    assert accuracy(probe) > 0.8
    held_out = (probe(HELD_OUT.object_mask) == HELD_OUT.labels).double().mean().item()
    assert probe.validation_accuracy == held_out
    assert 1 <= probe.epochs <= 8


def test_a_seed_decides_the_probe_and_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(1)
    first = train(seed=3, max_epochs=1)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = train(seed=3, max_epochs=1)
    other = train(seed=4, max_epochs=1)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    weights, again = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not all(torch.equal(weights[name], value) for name, value in other.network.state_dict().items())


def test_training_stops_when_the_held_out_accuracy_no_longer_rises():
    constant = torch.ones(80, 1, 16, 16, dtype=torch.bool)
    bank = SilhouetteBank(constant, torch.zeros(80, dtype=torch.int64), torch.arange(80))
    probe = train_probe(bank, bank, 2, seed=0, max_epochs=1000, patience=2)
    assert probe.validation_accuracy == 1.0
    assert probe.epochs < 50


def test_outcomes_are_sorted_by_id_with_each_id_once():
    probe = train(seed=0, max_epochs=1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    batches = [
        type(TEST)(*(None if field is None else field[chosen] for field in TEST)) for chosen in (order[:80], order[60:])
    ]
    found = probe_outcomes(probe, batches)
    assert isinstance(found, ProbeOutcomes)
    assert found.ids.tolist() == TEST.ids.tolist()
    assert found.predictions.tolist() == probe(TEST.object_mask).tolist()
    assert found.labels.tolist() == TEST.labels.tolist()


def test_folds_keep_objects_whole_and_have_equal_numbers_of_each_class():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(2**62, (97,), generator=generator)
    classes = torch.randint(4, (97,), generator=generator)
    shown = torch.randint(97, (400,), generator=generator)
    folds = object_folds(kinds[shown], classes[shown], seed=0)
    fold_of = dict(zip(kinds[shown].tolist(), folds.tolist(), strict=True))
    assert all(fold_of[kind] == fold for kind, fold in zip(kinds[shown].tolist(), folds.tolist(), strict=True))
    for label in range(4):
        of_class = [fold_of[kind] for kind in kinds[classes == label].tolist() if kind in fold_of]
        counts = [of_class.count(fold) for fold in range(FOLDS)]
        assert max(counts) - min(counts) <= 1
    order = torch.randperm(400, generator=generator)
    assert torch.equal(object_folds(kinds[shown][order], classes[shown][order], seed=0), folds[order])
    assert not torch.equal(object_folds(kinds[shown], classes[shown], seed=1), folds)


def test_fewer_objects_than_folds_are_refused():
    with pytest.raises(ValueError, match="at least 5 objects, one a fold, got 4"):
        object_folds(torch.arange(8) % 4, torch.zeros(8, dtype=torch.int64), seed=0)
