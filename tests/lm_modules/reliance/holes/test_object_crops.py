"""Object crops of masks: the object in the middle at one size, wherever and however large it was."""

import pytest
import torch

from maskrobust.lm_modules.reliance.holes.object_crops import object_crops


def with_object(height: int, width: int, top: int, left: int, factor: int) -> torch.Tensor:
    """A mask (1, 1, H, W) with an L of 4 by 3 cells, each of `factor` pixels."""
    shape = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
    shape = shape.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., top : top + 4 * factor, left : left + 3 * factor] = shape
    return mask


def test_the_picture_is_the_same_wherever_the_object_is_and_the_place_is_told() -> None:
    first, second = with_object(60, 60, 0, 0, 8), with_object(60, 60, 20, 31, 8)
    found = object_crops(torch.cat([first, second]))
    assert torch.allclose(found[0, 0], found[1, 0], atol=1e-5)
    assert found[0, 1:, 0, 0].tolist() == pytest.approx([12 / 60 - 0.5, 16 / 60 - 0.5, 1.1 * 32 / 60])
    assert found[1, 1:, 0, 0].tolist() == pytest.approx([43 / 60 - 0.5, 36 / 60 - 0.5, 1.1 * 32 / 60])
    assert torch.equal(found[:, 1:], found[:, 1:, :1, :1].expand(-1, -1, 32, 32))


def test_objects_of_any_size_fill_the_picture_alike() -> None:
    small, large = (object_crops(with_object(120, 90, 9, 7, factor))[0, 0] for factor in (3, 20))
    assert (small - large).abs().mean() < 0.06
    assert small.mean().item() == pytest.approx(large.mean().item(), abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (96, 96)])
def test_masks_of_any_size_and_empty_ones_give_finite_pictures(size: tuple[int, int]) -> None:
    found = object_crops(torch.stack([torch.zeros(1, *size), torch.ones(1, *size)]).bool())
    assert found.shape == (2, 4, 32, 32) and found.isfinite().all()
    assert not found[0, 0].any() and found[1, 0].max() > 0.9
