"""What holds for every mask family."""

import pickle

import pytest
import torch
from scipy import stats
from torch import Tensor

from maskrobust.augment import (
    BANK_FAMILIES,
    FAMILIES,
    OBJECT_FAMILIES,
    Batch,
    FamilyName,
    MaskFamily,
    SilhouetteBank,
    build_family,
    random_keys,
    sample_keys,
    uniform,
)

HEIGHT, WIDTH = 21, 34
IDS = torch.arange(48) * 7 - 100
BANK = SilhouetteBank(uniform(torch.arange(500), 1, HEIGHT, WIDTH) < 0.4, torch.arange(500) % 5, torch.arange(500))
FROM_KEYS_ALONE = ["enclosing_circles", "objects", "broken_silhouettes"]  # these need no key, but an object
CHOOSE_THEIR_FRACTION = ["patches", "rectangles", "blobs", "slic", "quickshift"]

every_family = pytest.mark.parametrize("name", FAMILIES)


def batch_of(ids: Tensor, height: int = HEIGHT, width: int = WIDTH) -> Batch:
    """Images of few colours, each with a box as its object; the sample id alone decides both."""
    keys = sample_keys(99, ids)
    coarse = uniform(keys, 3, -(-height // 7), -(-width // 7))
    images = coarse.repeat_interleave(7, dim=2).repeat_interleave(7, dim=3)[:, :, :height, :width]
    place = uniform(keys, 2)
    rows = (torch.arange(height) - place[:, :1] * height * 0.6).div(0.35 * height).floor() == 0
    columns = (torch.arange(width) - place[:, 1:] * width * 0.6).div(0.35 * width).floor() == 0
    return Batch(ids, images, (rows[:, :, None] & columns[:, None, :]).unsqueeze(1), ids % 5)


def family_of(name: FamilyName) -> MaskFamily:
    return build_family(name, patch_size=4, bank=BANK)


@every_family
@pytest.mark.parametrize("batch_size", [0, 1, 5])
def test_visible_is_one_boolean_channel_for_each_key(name: FamilyName, batch_size: int) -> None:
    visible = family_of(name)(torch.arange(batch_size), batch_of(torch.arange(batch_size)))
    assert visible.shape == (batch_size, 1, HEIGHT, WIDTH)
    assert visible.dtype == torch.bool


@every_family
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_the_mask_of_a_sample_does_not_depend_on_its_batch(name: FamilyName, batch_size: int) -> None:
    family = family_of(name)
    visible = family(sample_keys(11, IDS), batch_of(IDS))
    parts = [family(sample_keys(11, part), batch_of(part)) for part in IDS.split(batch_size)]
    assert torch.equal(torch.cat(parts), visible)


@every_family
def test_the_mask_of_a_sample_does_not_depend_on_the_order(name: FamilyName) -> None:
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    visible = family_of(name)(sample_keys(11, IDS), batch_of(IDS))
    assert torch.equal(family_of(name)(sample_keys(11, IDS[order]), batch_of(IDS[order])), visible[order])


@every_family
def test_the_mask_ignores_and_leaves_alone_the_global_random_state(name: FamilyName) -> None:
    before = torch.get_rng_state()
    visible = family_of(name)(sample_keys(11, IDS), batch_of(IDS))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(family_of(name)(sample_keys(11, IDS), batch_of(IDS)), visible)


@every_family
def test_another_seed_or_id_gives_another_mask(name: FamilyName) -> None:
    visible = family_of(name)(sample_keys(11, IDS), batch_of(IDS))
    same_over_seeds = (visible == family_of(name)(sample_keys(12, IDS), batch_of(IDS))).flatten(1).all(dim=1)
    same_over_ids = (visible == visible.roll(1, dims=0)).flatten(1).all(dim=1)
    assert same_over_ids.sum() <= 2
    assert same_over_seeds.all() if name in FROM_KEYS_ALONE else same_over_seeds.sum() <= 2


@every_family
def test_keys_from_a_generator_reproduce_the_masks(name: FamilyName) -> None:
    batch = batch_of(IDS[:8])
    first, second = (family_of(name)(random_keys(8, torch.Generator().manual_seed(4)), batch) for _ in range(2))
    assert torch.equal(first, second)


@every_family
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (3, 2), (37, 64)])
def test_any_image_size_is_drawn_for(name: FamilyName, size: tuple[int, int]) -> None:
    bank = SilhouetteBank(torch.ones(10, 1, *size, dtype=torch.bool), torch.arange(10) % 5, torch.arange(10) + 1000)
    visible = build_family(name, bank=bank)(torch.arange(3), batch_of(torch.arange(3), *size))
    assert visible.shape == (3, 1, *size)


@every_family
def test_a_family_survives_pickling(name: FamilyName) -> None:
    batch, family = batch_of(IDS), family_of(name)
    assert torch.equal(pickle.loads(pickle.dumps(family))(IDS, batch), family(IDS, batch))


@pytest.mark.parametrize("name", CHOOSE_THEIR_FRACTION)
def test_fraction_zero_hides_nothing_and_fraction_one_everything(name: FamilyName) -> None:
    nothing, everything = (build_family(name, hidden_fraction=(share, share)) for share in (0.0, 1.0))
    assert nothing(IDS, batch_of(IDS)).all()
    assert not everything(IDS, batch_of(IDS)).any()


@pytest.mark.parametrize("name", CHOOSE_THEIR_FRACTION)
def test_the_hidden_fraction_spreads_over_its_range(name: FamilyName) -> None:
    batch = batch_of(torch.arange(200))
    family = build_family(name, hidden_fraction=(0.2, 0.8), patch_size=2)
    hidden = 1 - family(sample_keys(5, batch.ids), batch).double().mean(dim=(1, 2, 3))
    tolerance = 0.15 if name in ("slic", "quickshift") else 0.02
    assert hidden.min() > 0.2 - tolerance and hidden.max() < 0.8 + tolerance
    if name != "quickshift":  # its segments are too few here for a fine distribution
        assert stats.kstest(hidden, stats.uniform(0.2, 0.6).cdf).statistic < 0.1


@pytest.mark.parametrize("name", sorted(OBJECT_FAMILIES))
def test_nothing_is_hidden_where_there_is_no_object(name: FamilyName) -> None:
    batch = batch_of(IDS)
    empty = batch._replace(object_mask=torch.zeros_like(batch.object_mask))
    assert family_of(name)(IDS, empty).all()
    assert not family_of(name)(IDS, batch).flatten(1).all(dim=1).any()


@pytest.mark.parametrize("name", sorted(BANK_FAMILIES))
def test_a_family_of_silhouettes_without_a_bank_is_refused(name: FamilyName) -> None:
    with pytest.raises(ValueError, match=f"'{name}' draws from a SilhouetteBank, got none"):
        build_family(name)


@every_family
def test_every_other_family_needs_no_bank(name: FamilyName) -> None:
    assert name in BANK_FAMILIES or callable(build_family(name))


def test_an_unknown_name_and_a_range_out_of_order_are_refused_when_the_family_is_built() -> None:
    with pytest.raises(ValueError, match=r"patches, .*got 'circles'"):
        build_family("circles")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hidden_fraction"):
        build_family("objects", hidden_fraction=(0.9, 0.1))
