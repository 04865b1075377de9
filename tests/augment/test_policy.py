"""The augmentation policy."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import FILLS, Batch, RandomMasking, build_family, mixture, sample_keys, uniform

FAMILY = build_family("patches", hidden_fraction=(0.1, 0.9), patch_size=2)
every_fill = pytest.mark.parametrize("fill", FILLS)


def batch_of(images):
    ids = torch.arange(len(images))
    return Batch(ids, images, torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool), ids % 3)


def blank(count, side=8):
    return batch_of(torch.zeros(count, 3, side, side))


def masked(visible):
    return ~visible.flatten(1).all(dim=1)


@pytest.mark.parametrize("probability", [0.02, 0.3, 0.5, 0.95])
def test_the_fraction_of_masked_images_is_the_probability(probability):
    keys = sample_keys(1, torch.arange(5000))
    count = int(masked(RandomMasking(FAMILY, probability=probability).draw_visible(keys, blank(len(keys)))).sum())
    assert stats.binomtest(count, 5000, probability).pvalue > 1e-3


@pytest.mark.parametrize("family", [FAMILY, build_family("rectangles", hidden_fraction=(0.2, 0.5))])
def test_a_masked_image_has_the_hole_it_would_have_at_probability_one(family):
    keys = sample_keys(2, torch.arange(300))
    sometimes = RandomMasking(family, probability=0.5).draw_visible(keys, blank(len(keys)))
    always = RandomMasking(family).draw_visible(keys, blank(len(keys)))
    assert torch.equal(sometimes[masked(sometimes)], always[masked(sometimes)])


@every_fill
def test_filled_images_and_visible_agree_and_are_alike_in_any_batch(fill):
    images, keys = uniform(torch.arange(60), 3, 8, 8) + 2, sample_keys(4, torch.arange(60))
    policy = RandomMasking(FAMILY, fill, 0.5)
    filled, visible, *_ = policy(keys, batch_of(images))
    assert torch.equal(visible, policy.draw_visible(keys, batch_of(images)))
    assert torch.equal(filled[visible.expand_as(images)], images[visible.expand_as(images)])
    if fill in ("black", "mean", "random_colour", "uniform_noise"):
        assert torch.equal(filled <= 1, ~visible.expand_as(images))
    for part in torch.randperm(60, generator=torch.Generator().manual_seed(0)).split(17):
        again = policy(keys[part], batch_of(images[part]))
        assert torch.equal(again.images, filled[part]) and torch.equal(again.visible, visible[part])


def test_each_image_draws_its_fill_by_weight():
    images, keys = torch.full((4000, 3, 8, 8), 7.0), sample_keys(8, torch.arange(4000))
    family = build_family("patches", hidden_fraction=(1.0, 1.0))
    weights = {"black": 1.0, "mean": 3.0, "other_image": 0.0}
    filled = RandomMasking(family, weights, mean=(0.5, 0.5, 0.5))(keys, batch_of(images)).images
    black, grey = ((filled == value).flatten(1).all(dim=1) for value in (0.0, 0.5))
    assert (black ^ grey).all()
    assert stats.binomtest(int(grey.sum()), 4000, 0.75).pvalue > 1e-3
    for name in ("black", "mean"):
        alone = RandomMasking(family, name, mean=(0.5, 0.5, 0.5))(keys, batch_of(images)).images
        chosen = black if name == "black" else grey
        assert torch.equal(alone[chosen], filled[chosen])


def test_each_image_draws_its_family_by_weight_in_any_batch():
    keys, batch = sample_keys(9, torch.arange(3000)), blank(3000)
    everything = build_family("patches", hidden_fraction=(1.0, 1.0))
    family = mixture([(everything, 1.0), (FAMILY, 0.0), (build_family("patches", hidden_fraction=(0.0, 0.0)), 4.0)])
    visible = family(keys, batch)
    hidden = ~visible.flatten(1).any(dim=1)
    assert (visible.flatten(1).all(dim=1) ^ hidden).all()
    assert stats.binomtest(int(hidden.sum()), 3000, 0.2).pvalue > 1e-3
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(0))
    shuffled = family(keys[order], batch.select(order))
    assert torch.equal(shuffled, visible[order])


def test_another_image_in_the_hole_takes_its_share_of_the_label():
    images, keys = uniform(torch.arange(50), 3, 8, 8), sample_keys(10, torch.arange(50))
    masked = RandomMasking(FAMILY, "other_image", probability=0.7)(keys, batch_of(images))
    seen = masked.visible.double().mean(dim=(1, 2, 3))
    torch.testing.assert_close(masked.own_weight.double(), seen, rtol=0, atol=1e-6)
    assert torch.equal(masked.images, torch.where(masked.visible, images, images[masked.partners]))
    assert torch.equal(masked.partners == torch.arange(50), seen == 1)


def test_an_image_with_none_beside_it_is_not_masked_by_another():
    images = uniform(torch.arange(1), 3, 8, 8)
    masked = RandomMasking(FAMILY, "other_image")(torch.arange(1), batch_of(images))
    assert masked.visible.all() and torch.equal(masked.images, images) and masked.own_weight.tolist() == [1.0]
