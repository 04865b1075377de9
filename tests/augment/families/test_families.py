"""What holds for every mask family."""

from functools import partial

import pytest
import torch

from augment import MaskFamily, SilhouetteBank, patches, random_keys, rectangles, sample_keys, silhouettes, uniform

HEIGHT, WIDTH = 21, 34
IDS = torch.arange(48) * 7 - 100
BANK = SilhouetteBank(uniform(torch.arange(500), 1, HEIGHT, WIDTH) < 0.4, torch.arange(500) % 5, torch.arange(500))
FAMILIES: dict[str, MaskFamily] = {
    "patches": partial(patches, hidden_fraction=(0.1, 0.9), patch_size=4),
    "rectangles": partial(rectangles, hidden_fraction=(0.1, 0.9)),
    "silhouettes": partial(silhouettes, bank=BANK),
}
every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


@every_family
@pytest.mark.parametrize("batch_size", [0, 1, 5])
def test_visible_is_one_boolean_channel_for_each_key(family: MaskFamily, batch_size: int) -> None:
    visible = family(torch.arange(batch_size), HEIGHT, WIDTH)
    assert visible.shape == (batch_size, 1, HEIGHT, WIDTH)
    assert visible.dtype == torch.bool


@every_family
@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_the_mask_of_a_sample_does_not_depend_on_its_batch(family: MaskFamily, batch_size: int) -> None:
    visible = family(sample_keys(11, IDS), HEIGHT, WIDTH)
    parts = [family(sample_keys(11, part), HEIGHT, WIDTH) for part in IDS.split(batch_size)]
    assert torch.equal(torch.cat(parts), visible)


@every_family
def test_the_mask_of_a_sample_does_not_depend_on_the_order(family: MaskFamily) -> None:
    order = torch.randperm(len(IDS), generator=torch.Generator().manual_seed(1))
    visible = family(sample_keys(11, IDS), HEIGHT, WIDTH)
    assert torch.equal(family(sample_keys(11, IDS[order]), HEIGHT, WIDTH), visible[order])


@every_family
def test_the_mask_ignores_and_leaves_alone_the_global_random_state(family: MaskFamily) -> None:
    before = torch.get_rng_state()
    visible = family(sample_keys(11, IDS), HEIGHT, WIDTH)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(family(sample_keys(11, IDS), HEIGHT, WIDTH), visible)


@every_family
def test_another_seed_or_id_gives_another_mask(family: MaskFamily) -> None:
    visible = family(sample_keys(11, IDS), HEIGHT, WIDTH)
    same_over_seeds = (visible == family(sample_keys(12, IDS), HEIGHT, WIDTH)).flatten(1).all(dim=1)
    same_over_ids = (visible == visible.roll(1, dims=0)).flatten(1).all(dim=1)
    assert same_over_seeds.sum() <= 1 and same_over_ids.sum() <= 1


@every_family
def test_keys_from_a_generator_reproduce_the_masks(family: MaskFamily) -> None:
    first, second = (family(random_keys(8, torch.Generator().manual_seed(4)), HEIGHT, WIDTH) for _ in range(2))
    assert torch.equal(first, second)
