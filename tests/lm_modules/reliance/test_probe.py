"""The mask-only probe: reads shapes, repeats itself, leaves global random state alone."""

import pytest
import torch

from maskrobust.lm_modules.reliance.probe import OutlineProbe, ProbeOutcomes, probe_outcomes, train_probe
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_batch

TRAIN, HELD_OUT, TEST = shape_batch(600, 0), shape_batch(150, 1), shape_batch(150, 2, first_id=500)


def train(seed: int, max_epochs: int, patience: int = 3) -> OutlineProbe:
    return train_probe(
        TRAIN.object_mask,
        TRAIN.labels,
        HELD_OUT.object_mask,
        HELD_OUT.labels,
        NUM_CLASSES,
        seed,
        max_epochs=max_epochs,
        patience=patience,
    )


def accuracy(probe: OutlineProbe) -> float:
    return (probe(TEST.object_mask) == TEST.labels).double().mean().item()


def test_shapes_are_read_and_the_held_out_accuracy_is_that_of_the_kept_weights() -> None:
    probe = train(seed=0, max_epochs=8)
    assert accuracy(probe) > 0.8
    held_out = (probe(HELD_OUT.object_mask) == HELD_OUT.labels).double().mean().item()
    assert probe.validation_accuracy == held_out
    assert 1 <= probe.epochs <= 8


def test_the_weights_of_the_best_epoch_are_kept_when_later_ones_are_worse() -> None:
    masks, labels = HELD_OUT.object_mask, TRAIN.labels[:150]
    probe = train_probe(
        TRAIN.object_mask[:150], labels.flip(0), masks, labels, NUM_CLASSES, 0, max_epochs=5, patience=9
    )
    assert probe.epochs < 5
    assert probe.validation_accuracy == (probe(masks) == labels).double().mean().item()


def test_labels_that_have_nothing_to_do_with_the_masks_are_not_read() -> None:
    shuffled = TRAIN.labels[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    probe = train_probe(
        TRAIN.object_mask, shuffled, HELD_OUT.object_mask, HELD_OUT.labels, NUM_CLASSES, seed=0, max_epochs=2
    )
    assert accuracy(probe) < 0.5


def test_a_seed_decides_the_probe_and_global_random_state_is_neither_read_nor_changed() -> None:
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


def test_training_stops_when_the_held_out_accuracy_no_longer_rises() -> None:
    constant = torch.ones(80, 1, 16, 16, dtype=torch.bool)
    labels = torch.zeros(80, dtype=torch.int64)
    probe = train_probe(constant, labels, constant, labels, 2, seed=0, max_epochs=1000, patience=2)
    assert probe.validation_accuracy == 1.0
    assert probe.epochs < 50


@pytest.mark.parametrize("size", [(28, 28), (17, 40), (96, 96)])
def test_any_size_of_mask_is_read(size: tuple[int, int]) -> None:
    masks, labels = torch.rand(10, 1, *size) < 0.5, torch.arange(10) % 3
    assert train_probe(masks, labels, masks, labels, 3, seed=0, max_epochs=1)(masks).shape == (10,)


def test_outcomes_are_sorted_by_id_with_each_id_once() -> None:
    probe = train(seed=0, max_epochs=1)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(0))
    batches = [type(TEST)(*(field[chosen] for field in TEST)) for chosen in (order[:80], order[60:])]
    found = probe_outcomes(probe, batches)
    assert isinstance(found, ProbeOutcomes)
    assert found.ids.tolist() == TEST.ids.tolist()
    assert found.predictions.tolist() == probe(TEST.object_mask).tolist()
    assert found.labels.tolist() == TEST.labels.tolist()


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ValueError, match="got 600 and 0"):
        train_probe(TRAIN.object_mask, TRAIN.labels, HELD_OUT.object_mask[:0], HELD_OUT.labels[:0], 4, seed=0)
