"""The augmentation policy."""

from functools import partial

import pytest
import torch
from scipy import stats
from torch import Tensor

from augment import FILLS, FillName, RandomMasking, patches, random_keys, rectangles, sample_keys, uniform

FAMILY = partial(patches, hidden_fraction=(0.1, 0.9), patch_size=2)
every_fill = pytest.mark.parametrize("fill", FILLS)


def masked(visible: Tensor) -> Tensor:
    return ~visible.flatten(1).all(dim=1)


@every_fill
def test_probability_zero_masks_nothing(fill: FillName) -> None:
    images = uniform(torch.arange(200), 3, 8, 8)
    filled, visible = RandomMasking(FAMILY, fill, probability=0.0)(images, torch.arange(200))
    assert visible.all() and visible.shape == (200, 1, 8, 8) and visible.dtype == torch.bool
    assert torch.equal(filled, images)


def test_probability_one_masks_every_image_and_is_the_default() -> None:
    keys = sample_keys(0, torch.arange(5000))
    assert masked(RandomMasking(FAMILY).draw_visible(keys, 8, 8)).all()


@pytest.mark.parametrize("probability", [0.02, 0.3, 0.5, 0.95])
def test_the_share_of_masked_images_is_the_probability(probability: float) -> None:
    keys = sample_keys(1, torch.arange(5000))
    count = int(masked(RandomMasking(FAMILY, probability=probability).draw_visible(keys, 8, 8)).sum())
    assert stats.binomtest(count, 5000, probability).pvalue > 1e-3


@pytest.mark.parametrize("family", [FAMILY, partial(rectangles, hidden_fraction=(0.2, 0.5))])
def test_a_masked_image_has_the_hole_it_would_have_at_probability_one(family: partial[Tensor]) -> None:
    keys = sample_keys(2, torch.arange(300))
    sometimes = RandomMasking(family, probability=0.5).draw_visible(keys, 8, 8)
    always = RandomMasking(family).draw_visible(keys, 8, 8)
    assert torch.equal(sometimes[masked(sometimes)], always[masked(sometimes)])


def test_holes_follow_the_family() -> None:
    keys = sample_keys(2, torch.arange(2000))
    hidden = 1 - RandomMasking(partial(FAMILY, patch_size=1)).draw_visible(keys, 16, 16).double().mean(dim=(1, 2, 3))
    assert stats.kstest(hidden, stats.uniform(0.1, 0.8).cdf).pvalue > 1e-3


def test_whether_an_image_is_masked_says_nothing_about_its_hole_or_its_colour() -> None:
    keys = sample_keys(3, torch.arange(3000))
    chosen = masked(RandomMasking(FAMILY, probability=0.5).draw_visible(keys, 8, 8))
    filled, visible = RandomMasking(FAMILY, "random_colour")(torch.full((3000, 3, 8, 8), -1.0), keys)
    area, colour = (~visible).double().mean(dim=(1, 2, 3)), filled.amax(dim=(2, 3))
    assert stats.ks_2samp(area[chosen], area[~chosen]).pvalue > 1e-3
    for channel in colour.unbind(dim=1):
        assert stats.ks_2samp(channel[chosen], channel[~chosen]).pvalue > 1e-3
        assert stats.spearmanr(channel, area).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
@every_fill
def test_filled_images_and_visible_agree(fill: FillName, probability: float) -> None:
    images, keys = uniform(torch.arange(60), 3, 8, 8) + 2, sample_keys(4, torch.arange(60))
    policy = RandomMasking(FAMILY, fill, probability)
    filled, visible = policy(images, keys)
    assert torch.equal(visible, policy.draw_visible(keys, 8, 8))
    assert torch.equal(filled == images, visible.expand_as(images))
    assert torch.equal(filled <= 1, ~visible.expand_as(images))


def test_the_mean_of_the_policy_is_drawn() -> None:
    filled, visible = RandomMasking(FAMILY, "mean", mean=(0.25, 0.75))(torch.ones(10, 2, 8, 8), torch.arange(10))
    for channel, value in enumerate((0.25, 0.75)):
        assert (filled[:, channel][~visible[:, 0]] == value).all()


@every_fill
def test_a_sample_is_masked_alike_in_any_batch(fill: FillName) -> None:
    images, ids = uniform(torch.arange(40), 3, 8, 12), torch.arange(40)
    policy = RandomMasking(FAMILY, fill, probability=0.7)
    filled, visible = policy(images, sample_keys(5, ids))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    for part in order.split(7):
        filled_part, visible_part = policy(images[part], sample_keys(5, ids[part]))
        assert torch.equal(filled_part, filled[part])
        assert torch.equal(visible_part, visible[part])


def test_training_keys_reproduce_a_run_and_differ_from_step_to_step() -> None:
    images, policy = torch.ones(16, 3, 8, 8), RandomMasking(FAMILY, "random_colour", probability=0.8)
    runs = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(6)
        runs.append([policy(images, random_keys(16, generator))[0] for _ in range(2)])
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert not torch.equal(runs[0][0], runs[0][1])


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (9, 5)])
def test_height_and_width_are_not_mixed_up(size: tuple[int, int]) -> None:
    filled, visible = RandomMasking(FAMILY)(torch.ones(3, 3, *size), torch.arange(3))
    assert filled.shape == (3, 3, *size) and visible.shape == (3, 1, *size)


@pytest.mark.parametrize("probability", [-0.01, 1.01, float("nan")])
def test_a_probability_outside_zero_to_one_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        RandomMasking(FAMILY, probability=probability)
