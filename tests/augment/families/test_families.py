"""What holds for every mask family."""

import hashlib

import pytest
import torch
from scipy import stats

from maskrobust.augment import (
    FAMILIES,
    Batch,
    RandomMasking,
    SilhouetteBank,
    build_family,
    family_needs,
    rectangles,
    sample_keys,
    uniform,
)

HEIGHT, WIDTH = 21, 34
IDS = torch.arange(48) * 7 - 100
BANK = SilhouetteBank(uniform(torch.arange(500), 1, HEIGHT, WIDTH) < 0.4, torch.arange(500) % 5, torch.arange(500))
FROM_KEYS_ALONE = ["enclosing_circles", "objects"]  # these need no key, but an object
CHOOSE_THEIR_FRACTION = [name for name, entry in FAMILIES.items() if "hidden_fraction" in entry.options]
OF_OBJECTS, OF_A_BANK = ([name for name in FAMILIES if need in family_needs(name)] for need in ("object_mask", "bank"))

every_family = pytest.mark.parametrize("name", FAMILIES)


def batch_of(ids, height=HEIGHT, width=WIDTH):
    """Images of few colours, each with a box as its object; the sample id alone decides both."""
    keys = sample_keys(99, ids)
    coarse = uniform(keys, 3, -(-height // 7), -(-width // 7))
    images = coarse.repeat_interleave(7, dim=2).repeat_interleave(7, dim=3)[:, :, :height, :width]
    place = uniform(keys, 2)
    rows = (torch.arange(height) - place[:, :1] * height * 0.6).div(0.35 * height).floor() == 0
    columns = (torch.arange(width) - place[:, 1:] * width * 0.6).div(0.35 * width).floor() == 0
    return Batch(ids, images, (rows[:, :, None] & columns[:, None, :]).unsqueeze(1), ids % 5)


def family_of(name):
    return build_family(name, patch_size=4, bank=BANK)


@every_family
def test_the_mask_of_a_sample_does_not_depend_on_its_batch_or_the_order(name):
    family, order = family_of(name), torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    visible = family(sample_keys(11, IDS), batch_of(IDS))
    for part in (order[:1], order[1:6], order[6:]):
        assert torch.equal(family(sample_keys(11, IDS[part]), batch_of(IDS[part])), visible[part])


@every_family
def test_the_mask_ignores_and_leaves_alone_the_global_random_state(name):
    before = torch.get_rng_state()
    visible = family_of(name)(sample_keys(11, IDS), batch_of(IDS))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(family_of(name)(sample_keys(11, IDS), batch_of(IDS)), visible)


@every_family
def test_another_seed_or_id_gives_another_mask(name):
    visible = family_of(name)(sample_keys(11, IDS), batch_of(IDS))
    same_over_seeds = (visible == family_of(name)(sample_keys(12, IDS), batch_of(IDS))).flatten(1).all(dim=1)
    same_over_ids = (visible == visible.roll(1, dims=0)).flatten(1).all(dim=1)
    assert same_over_ids.sum() <= 2
    assert same_over_seeds.all() if name in FROM_KEYS_ALONE else same_over_seeds.sum() <= 2


@every_family
def test_any_image_size_is_drawn_for(name):
    for size in ((1, 1), (1, 7), (9, 1), (3, 2), (37, 64)):
        bank = SilhouetteBank(torch.ones(10, 1, *size, dtype=torch.bool), torch.arange(10) % 5, torch.arange(10) + 1000)
        visible = build_family(name, bank=bank)(torch.arange(3), batch_of(torch.arange(3), *size))
        assert visible.shape == (3, 1, *size)


@pytest.mark.parametrize("name", CHOOSE_THEIR_FRACTION)
def test_fraction_zero_hides_nothing_and_fraction_one_everything(name):
    nothing, everything = (build_family(name, hidden_fraction=(both, both)) for both in (0.0, 1.0))
    assert nothing(IDS, batch_of(IDS)).all()
    assert not everything(IDS, batch_of(IDS)).any()


@pytest.mark.parametrize("name", CHOOSE_THEIR_FRACTION)
def test_the_hidden_fraction_spreads_over_its_range(name):
    batch = batch_of(torch.arange(200))
    family = build_family(name, hidden_fraction=(0.2, 0.8), patch_size=2)
    hidden = 1 - family(sample_keys(5, batch.ids), batch).double().mean(dim=(1, 2, 3))
    tolerance = 0.15 if name in ("slic", "quickshift") else 0.02
    assert hidden.min() > 0.2 - tolerance and hidden.max() < 0.8 + tolerance
    if name != "quickshift":  # its segments are too few here for a fine distribution
        assert stats.kstest(hidden, stats.uniform(0.2, 0.6).cdf).statistic < 0.1


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_nothing_is_hidden_where_there_is_no_object(name):
    batch = batch_of(IDS)
    empty = batch._replace(object_mask=torch.zeros_like(batch.object_mask))
    assert family_of(name)(IDS, empty).all()
    assert not family_of(name)(IDS, batch).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("name", OF_A_BANK)
def test_a_family_of_silhouettes_without_a_bank_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' draws from a SilhouetteBank, got none"):
        build_family(name)


PINNED = {0.1: "96427587e8c9d22a", 0.7: "1299b20c550151fb"}
"""SHA-256 of `visible` as version 0.1 drew it for ranges of the hidden fraction from 0.1 to these."""


@pytest.mark.parametrize("high", PINNED)
def test_the_same_keys_draw_the_same_masks_as_ever(high):
    choice = {"patches": 2.0, "blobs": 1.0, "silhouettes": 0.5, "rectangles": 0.0}
    family = build_family(choice, hidden_fraction=(0.1, high), patch_size=4, bank=BANK)
    visible = RandomMasking(family, probability=0.7).draw_visible(sample_keys(3, IDS), batch_of(IDS))
    assert hashlib.sha256(visible.numpy().tobytes()).hexdigest()[:16] == PINNED[high]


def test_options_change_what_is_drawn_and_come_before_the_common_settings():
    keys, batch = sample_keys(11, IDS), batch_of(IDS)
    for options in ({"count": 3}, {"aspect_ratio": [1, 1]}, {"hidden_fraction": [0.1, 0.2]}):
        drawn = build_family({"rectangles": options}, hidden_fraction=(0.3, 0.6))(keys, batch)
        expected = rectangles(keys, HEIGHT, WIDTH, **({"hidden_fraction": (0.3, 0.6)} | options))
        assert torch.equal(drawn, expected)
    mixed = build_family({"patches": 1, "blobs": {"weight": 0, "knots": 3}}, patch_size=4)(keys, batch)
    assert torch.equal(mixed, family_of("patches")(keys, batch))
