"""Swap triples: three classes, areas as alike as the bank allows, uniform draws."""

import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.augment import SilhouetteBank, sample_keys
from maskrobust.lm_modules.reliance.holes.swaps import SwapTriples, swap_index, swap_triples

SIDE = 12


def bank_of(areas: list[int], labels: list[int]) -> SilhouetteBank:
    """Objects of given areas, each the first pixels of the image."""
    masks = torch.arange(SIDE * SIDE) < torch.tensor(areas)[:, None]
    return SilhouetteBank(masks.reshape(-1, 1, SIDE, SIDE), torch.tensor(labels), torch.arange(len(areas)))


def random_bank(objects: int, classes: int, seed: int) -> SilhouetteBank:
    rng = np.random.default_rng(seed)
    return bank_of(rng.integers(1, SIDE * SIDE, objects).tolist(), rng.integers(0, classes, objects).tolist())


def draw(bank: SilhouetteBank, labels: torch.Tensor, seed: int = 0) -> SwapTriples:
    keys = sample_keys(seed, torch.arange(len(labels)))
    return swap_triples(keys, labels, SIDE, SIDE, index=swap_index(bank))


def hidden_pixels(visible: torch.Tensor) -> torch.Tensor:
    return (~visible).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("classes", [3, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_k_is_of_a_third_class_and_closest_in_area(classes: int, seed: int) -> None:
    bank = random_bank(60, classes, seed)
    labels = torch.arange(200) % classes
    triples = draw(bank, labels, seed)
    areas = bank.object_masks.sum(dim=(1, 2, 3)).numpy()
    assert triples.valid.all()
    for i in range(200):
        y_i, y_j, y_k = labels[i].item(), triples.labels_j[i].item(), triples.labels_k[i].item()
        assert len({y_i, y_j, y_k}) == 3
        area_j, area_k = hidden_pixels(triples.visible_j)[i].item(), hidden_pixels(triples.visible_k)[i].item()
        allowed = [area for area, label in zip(areas, bank.labels.tolist(), strict=True) if label not in (y_i, y_j)]
        assert abs(area_j - area_k) == np.abs(np.array(allowed) - area_j).min()
        assert ((areas == area_k) & (bank.labels.numpy() == y_k)).any()


def test_j_is_uniform_over_the_objects_of_other_classes() -> None:
    bank = bank_of(list(range(1, 31)), [0] * 5 + [1] * 10 + [2] * 15)
    triples = draw(bank, torch.full((6000,), 1))
    drawn = np.bincount(hidden_pixels(triples.visible_j).numpy(), minlength=31)[1:]
    assert drawn[5:15].sum() == 0
    assert stats.chisquare(np.delete(drawn, range(5, 15))).pvalue > 1e-3


def test_equally_close_objects_are_equally_likely() -> None:
    bank = bank_of([20, 20, 20, 19, 21, 20], [0, 1, 2, 2, 3, 3])
    triples = draw(bank, torch.zeros(9000, dtype=torch.int64))
    from_class_1 = triples.labels_j == 1
    by_class = triples.labels_k[from_class_1].bincount(minlength=4)[2:]
    assert stats.chisquare(by_class.numpy()).pvalue > 1e-3
    assert torch.equal(hidden_pixels(triples.visible_j)[from_class_1], hidden_pixels(triples.visible_k)[from_class_1])


@pytest.mark.parametrize("labels_in_bank", [[0, 0, 1], [1, 1, 1], [0, 0, 0]])
def test_fewer_than_two_other_classes_are_said_and_nothing_is_hidden(labels_in_bank: list[int]) -> None:
    triples = draw(bank_of([3, 4, 5], labels_in_bank), torch.zeros(10, dtype=torch.int64))
    assert not triples.valid.any()
    assert triples.visible_j.all()
    assert triples.visible_k.all()
    assert (triples.labels_j == -1).all()


def test_triples_do_not_depend_on_the_order_of_the_bank() -> None:
    bank = bank_of([3, 8, 5, 9, 4, 7], [0, 1, 2, 0, 1, 2])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = SilhouetteBank(bank.object_masks[order], bank.labels[order], bank.ids[order])
    labels = torch.arange(30) % 3
    for one, other in zip(draw(bank, labels), draw(shuffled, labels), strict=True):
        assert torch.equal(one, other)
