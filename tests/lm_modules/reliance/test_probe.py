"""The mask-only probe: reads shapes, repeats itself, leaves global random state alone."""

import pytest
import torch

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.reliance.probe import (
    FOLDS,
    ProbeOutcomes,
    cross_validate_probe,
    object_folds,
    probe_outcomes,
    train_probe,
)
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_batch

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


def test_an_object_that_is_shown_often_is_not_known_by_heart():
    """Classes that have nothing to do with outlines: a fold that held copies of its objects would be read rightly."""
    shown = shape_batch(20, 3)
    copies = torch.arange(160) % 20
    labels = torch.randint(2, (20,), generator=torch.Generator().manual_seed(1))[copies]
    bank = SilhouetteBank(shown.object_mask[copies], labels, torch.arange(160))
    by_object, by_image = (
        cross_validate_probe(bank, objects, 2, seed=0).predictions == labels.numpy() for objects in (copies, bank.ids)
    )
    assert by_image.mean() > 0.8
    assert by_object.mean() < 0.7


def test_fewer_objects_than_folds_are_refused():
    with pytest.raises(ValueError, match="at least 5 objects, one a fold, got 4"):
        object_folds(torch.arange(8) % 4, torch.zeros(8, dtype=torch.int64), seed=0)
