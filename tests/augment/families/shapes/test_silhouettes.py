"""The bank of silhouettes, and the holes drawn from it."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import Batch, SilhouetteBank, sample_keys, silhouettes

HEIGHT, WIDTH = 6, 9


def object_masks(ids):
    """A different non-empty mask for each id: its binary digits, and one pixel in the corner."""
    digits = (ids[:, None] >> torch.arange(HEIGHT * WIDTH)) & 1
    digits[:, -1] = 1
    return digits.bool().reshape(-1, 1, HEIGHT, WIDTH)


def batch_of(ids, empty=frozenset()):
    """Samples whose label is id modulo 4; those in `empty` have no object."""
    numbers = torch.tensor(ids, dtype=torch.int64)
    masks = object_masks(numbers)
    for position, number in enumerate(ids):
        masks[position] &= number not in empty
    return Batch(numbers, torch.zeros(len(ids), 3, HEIGHT, WIDTH), masks, numbers % 4)


def test_the_bank_keeps_mask_label_and_id_together_and_sorted_by_id():
    bank = SilhouetteBank.from_batches([batch_of([30, 5, 21]), batch_of([4, 90]), batch_of([])])
    assert bank.ids.tolist() == [4, 5, 21, 30, 90]
    assert torch.equal(bank.object_masks, object_masks(bank.ids))
    assert torch.equal(bank.labels, bank.ids % 4)
    assert len(bank) == 5


def class_bank(size=40):
    return SilhouetteBank.from_batches([batch_of(list(range(1, size + 1)))])


def positions(hidden, bank):
    """Position in the bank of each drawn silhouette; exactly one has to match pixel for pixel."""
    matches = (hidden[:, None] == bank.object_masks[None]).flatten(2).all(dim=2)
    assert (matches.sum(dim=1) == 1).all()
    return matches.int().argmax(dim=1)


@pytest.mark.parametrize("size", [1, 2, 37])
def test_every_silhouette_of_the_bank_is_drawn_unchanged_and_equally_often(size):
    bank = SilhouetteBank.from_batches([batch_of(list(range(size)))])
    drawn = positions(~silhouettes(sample_keys(0, torch.arange(3000)), HEIGHT, WIDTH, bank=bank), bank)
    counts = torch.bincount(drawn, minlength=size)
    assert len(counts) == size
    assert size == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_class_of_the_outline_is_independent_of_the_class_of_the_image():
    bank, ids = class_bank(), torch.arange(4000)
    outline_class = bank.labels[positions(~silhouettes(sample_keys(0, ids), HEIGHT, WIDTH, bank=bank), bank)]
    table = torch.bincount((ids % 4) * 4 + outline_class, minlength=16).reshape(4, 4)
    assert stats.chi2_contingency(table.numpy()).pvalue > 1e-3
