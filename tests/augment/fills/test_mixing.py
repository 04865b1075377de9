"""Patch Mixing."""

import pytest
import torch

from maskrobust.augment import draw_partners, mix_images, own_weight, sample_keys, uniform

KEYS = sample_keys(0, torch.arange(5))
VISIBLE = uniform(KEYS + 1, 1, 7, 9) < 0.6


@pytest.mark.parametrize("batch_size", [2, 3, 5, 64])
def test_nobody_is_their_own_partner(batch_size):
    for seed in range(50):
        partners = draw_partners(sample_keys(seed, torch.arange(batch_size)))
        assert partners.dtype == torch.int64 and partners.shape == (batch_size,)
        assert ((partners >= 0) & (partners < batch_size) & (partners != torch.arange(batch_size))).all()


def test_an_image_alone_is_its_own_partner_and_an_empty_batch_has_none():
    assert draw_partners(KEYS[:1]).tolist() == [0]
    assert draw_partners(KEYS[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8], ids=str)
def test_the_hole_shows_the_partner_at_the_same_place(dtype):
    images = (uniform(KEYS, 3, 7, 9) * 255).to(dtype)
    partners = torch.tensor([3, 0, 0, 4, 2])
    mixed = mix_images(images, VISIBLE, partners)
    assert mixed.dtype == dtype
    for image, partner in enumerate(partners):
        for row in range(7):
            for column in range(9):
                source = image if VISIBLE[image, 0, row, column] else int(partner)
                assert torch.equal(mixed[image, :, row, column], images[source, :, row, column])


def test_the_own_weight_is_the_visible_share():
    visible = torch.ones(3, 1, 4, 5, dtype=torch.bool)
    visible[1, :, :3], visible[2] = False, False
    assert own_weight(visible).tolist() == [1.0, 0.25, 0.0]
    assert own_weight(VISIBLE[:0]).shape == (0,)
