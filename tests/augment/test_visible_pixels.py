"""The mask that images bring with them."""

import numpy as np
import pytest
import torch

from maskrobust import InputError, visible_from

NAN = float("nan")


def draw(batch=2):
    return 1 + torch.rand(batch, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_every_form_in_which_data_mark_a_pixel_gives_the_same_mask():
    hidden = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    hidden[0, 0, :2, 1:3] = hidden[1, 0, 3] = True
    images = draw()
    opacity = torch.where(hidden, 0.0, 0.5)
    forms = {
        "nodata": visible_from(images.masked_fill(hidden, -9999), nodata=-9999),
        "nodata of each band": visible_from(
            torch.where(hidden, torch.tensor([0.1, 2, 3])[:, None, None], images), nodata=[0.1, 2, 3]
        ),
        "nodata NaN": visible_from(images.masked_fill(hidden, NAN), nodata=NAN, nan=False),
        "bytes": visible_from((100 * images).byte().masked_fill(hidden, 0), nodata=0),
        "NaN": visible_from(images.masked_fill(hidden, NAN)),
        "alpha band": visible_from(torch.cat([images, opacity], dim=1), alpha=-1),
        "alpha band, black elsewhere": visible_from(torch.cat([opacity, 0 * images], dim=1), alpha=0),
        "alpha": visible_from(images, alpha=opacity[:, 0]),
        "pixel mask": visible_from(images, pixel_mask=(~hidden)[:, 0].long()),
        "padding mask": visible_from(images, padding_mask=hidden),
    }
    assert {name: torch.equal(visible, ~hidden) for name, visible in forms.items()} == dict.fromkeys(forms, True)
    one = visible_from(images[1], padding_mask=hidden[1], alpha=opacity[1])
    assert torch.equal(one, ~hidden[1]) and one.dtype == torch.bool


def test_nodata_is_what_all_bands_hold_and_nan_what_any_holds():
    images = draw(1)
    images[0, 0, 0, 0], images[0, :, 1, 1], images[0, 2, 2, 2] = 0, 0, NAN
    visible = visible_from(images, nodata=0)
    assert np.argwhere(~visible[0, 0].numpy()).tolist() == [[1, 1], [2, 2]]


def test_masks_of_several_forms_hide_together():
    images, padding = draw(1), torch.zeros(1, 4, 5, dtype=torch.bool)
    padding[..., 4] = True
    images[:, :, 0] = NAN
    assert visible_from(images, padding_mask=padding).sum() == 12


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (
            draw().index_fill(0, torch.tensor([1]), 0),
            {"nodata": 0},
            r"image 1 of the batch has no visible pixel; leave",
        ),
        (draw().index_fill(3, torch.tensor([2]), NAN), {"nan": False}, r"image 0 of the batch holds NaN at a visible"),
        (draw(), {"pixel_mask": torch.ones(2, 5, 4)}, r"pixel_mask must have shape \(2, 1, 4, 5\).*got \(2, 1, 5, 4\)"),
        (draw(), {"padding_mask": torch.full((2, 4, 5), 255)}, r"padding_mask must hold 0 and 1 only, .* 255"),
        (draw(), {"alpha": 3}, r"alpha must be one of the 3 bands of images, got band 3"),
        (draw(), {"nodata": [0, 0]}, r"nodata must be one value, or one for each of the 3 bands, got 2"),
        (draw()[0, 0], {}, r"images must be \(B, C, H, W\) or \(C, H, W\), got shape \(4, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused(images, given, message):
    with pytest.raises(InputError, match=message):
        visible_from(images, **given)
