"""The bank of silhouettes and the holes drawn from it."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from augment import Batch, SilhouetteBank, sample_keys, silhouettes
from augment.families.silhouettes import unique_first

HEIGHT, WIDTH = 6, 9


def object_masks(ids: Tensor) -> Tensor:
    """A different non-empty mask for each id: its binary digits, and one pixel in the corner."""
    digits = (ids[:, None] >> torch.arange(HEIGHT * WIDTH)) & 1
    digits[:, -1] = 1
    return digits.bool().reshape(-1, 1, HEIGHT, WIDTH)


def batch_of(ids: list[int], empty: frozenset[int] = frozenset()) -> Batch:
    """Samples whose label is id modulo 4; those in `empty` have no object."""
    numbers = torch.tensor(ids, dtype=torch.int64)
    masks = object_masks(numbers)
    for position, number in enumerate(ids):
        masks[position] &= number not in empty
    return Batch(numbers, torch.zeros(len(ids), 3, HEIGHT, WIDTH), masks, numbers % 4)


def test_the_bank_keeps_mask_label_and_id_together_and_sorted_by_id() -> None:
    bank = SilhouetteBank.from_batches([batch_of([30, 5, 21]), batch_of([4, 90]), batch_of([])])
    assert bank.ids.tolist() == [4, 5, 21, 30, 90]
    assert torch.equal(bank.object_masks, object_masks(bank.ids))
    assert torch.equal(bank.labels, bank.ids % 4)
    assert len(bank) == 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_the_bank_does_not_depend_on_batch_size_or_order(batch_size: int, seed: int) -> None:
    expected = SilhouetteBank.from_batches([batch_of(list(range(20)))])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))
    bank = SilhouetteBank.from_batches(batch_of(part.tolist()) for part in order.split(batch_size))
    assert torch.equal(bank.ids, expected.ids)
    assert torch.equal(bank.labels, expected.labels)
    assert torch.equal(bank.object_masks, expected.object_masks)


def test_repeated_ids_are_kept_once_within_and_over_batches() -> None:
    bank = SilhouetteBank.from_batches([batch_of([8, 3, 8]), batch_of([3, 9, 8])])
    assert bank.ids.tolist() == [3, 8, 9]
    assert torch.equal(bank.object_masks, object_masks(bank.ids))


def test_samples_without_an_object_are_passed_over() -> None:
    bank = SilhouetteBank.from_batches([batch_of([1, 2, 3], frozenset({2})), batch_of([4], frozenset({4}))])
    assert bank.ids.tolist() == [1, 3]


def test_a_bank_without_any_object_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one non-empty object mask"):
        SilhouetteBank.from_batches([batch_of([1, 2], frozenset({1, 2}))])
    with pytest.raises(ValueError, match="at least one batch, got none"):
        SilhouetteBank.from_batches([])


def test_a_bank_moves_to_a_device_as_a_whole() -> None:
    moved = SilhouetteBank.from_batches([batch_of([1, 2])]).to(torch.device("meta"))
    assert {moved.object_masks.device.type, moved.labels.device.type, moved.ids.device.type} == {"meta"}


@pytest.mark.parametrize("seed", range(3))
def test_unique_first_finds_the_first_occurrence_of_each_id(seed: int) -> None:
    ids = torch.randint(-20, 20, (100,), generator=torch.Generator().manual_seed(seed))
    unique, first = unique_first(ids)
    assert unique.tolist() == sorted(set(ids.tolist()))
    assert first.tolist() == [ids.tolist().index(number) for number in unique.tolist()]


def test_unique_first_of_nothing_is_nothing() -> None:
    unique, first = unique_first(torch.empty(0, dtype=torch.int64))
    assert unique.shape == first.shape == (0,)


def drawn_from(bank: SilhouetteBank, keys: Tensor) -> Tensor:
    """Position in the bank of each drawn silhouette; exactly one has to match pixel for pixel."""
    hidden = ~silhouettes(keys, HEIGHT, WIDTH, bank=bank)
    matches = (hidden[:, None] == bank.object_masks[None]).flatten(2).all(dim=2)
    assert (matches.sum(dim=1) == 1).all()
    return matches.int().argmax(dim=1)


@pytest.mark.parametrize("size", [1, 2, 37])
def test_every_silhouette_of_the_bank_is_drawn_unchanged_and_equally_often(size: int) -> None:
    bank = SilhouetteBank.from_batches([batch_of(list(range(size)))])
    drawn = drawn_from(bank, sample_keys(0, torch.arange(3000)))
    counts = torch.bincount(drawn, minlength=size)
    assert len(counts) == size
    assert size == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_the_hidden_area_is_that_of_the_drawn_object() -> None:
    bank = SilhouetteBank.from_batches([batch_of(list(range(37)))])
    keys = sample_keys(0, torch.arange(200))
    hidden = (~silhouettes(keys, HEIGHT, WIDTH, bank=bank)).sum(dim=(1, 2, 3))
    assert torch.equal(hidden, bank.object_masks.sum(dim=(1, 2, 3))[drawn_from(bank, keys)])


@pytest.mark.parametrize("seed", range(3))
def test_the_class_of_the_outline_is_independent_of_the_class_of_the_image(seed: int) -> None:
    bank = SilhouetteBank.from_batches([batch_of(list(range(40)))])
    ids = torch.arange(4000)
    outline_class = bank.labels[drawn_from(bank, sample_keys(seed, ids))]
    table = torch.bincount((ids % 4) * 4 + outline_class, minlength=16).reshape(4, 4)
    assert stats.chi2_contingency(table.numpy()).pvalue > 1e-3


def test_drawing_does_not_change_the_bank() -> None:
    bank = SilhouetteBank.from_batches([batch_of(list(range(10)))])
    silhouettes(torch.arange(50), HEIGHT, WIDTH, bank=bank).logical_not_()
    assert torch.equal(bank.object_masks, object_masks(bank.ids))


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH + 1), (WIDTH, HEIGHT), (1, 1)])
def test_a_bank_of_another_size_is_refused(size: tuple[int, int]) -> None:
    bank = SilhouetteBank.from_batches([batch_of([1])])
    with pytest.raises(ValueError, match="silhouette bank must hold masks of") as caught:
        silhouettes(torch.arange(2), *size, bank=bank)
    assert str(size) in str(caught.value) and str((HEIGHT, WIDTH)) in str(caught.value)
