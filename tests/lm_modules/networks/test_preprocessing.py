"""What a network is shown of a picture with a hole."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2 import functional as tv

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.preprocessing import Preprocessing

SMALL = Preprocessing(size=(12, 12))
SIZES = [(12, 12), (40, 40), (9, 15)]


def picture(height=24, width=24, seed=0):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def box(height=24, width=24):
    visible = torch.ones(2, 1, height, width, dtype=torch.bool)
    visible[0, :, 5:14, 7:19] = False
    return visible


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_a_picture_without_a_hole_is_torchvisions_central_crop_and_resize(size, interpolation):
    shown = Preprocessing(size=size, crop=0.75, interpolation=interpolation)
    scale = 0.75 * min(24 / size[0], 24 / size[1])
    cut = tv.center_crop(picture(), [round(side * scale) for side in size])
    mode = tv.InterpolationMode(interpolation)
    expected = tv.resize(cut, list(size), interpolation=mode, antialias=True).clamp(0, 1)
    everything = torch.ones(2, 1, 24, 24, dtype=torch.bool)
    assert torch.equal(shown.resize(picture()), expected)
    assert torch.equal(shown.view(picture(), everything)[0], expected)
    assert shown.view(picture(), everything)[1].all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_hidden_has_no_part_in_what_is_visible(size, interpolation):
    shown = Preprocessing(size=size, crop=0.9, interpolation=interpolation)
    visible = box()
    images, seen = shown.view(picture(), visible)
    for other in (picture(seed=1), torch.full_like(picture(), torch.nan)):
        redrawn, also_seen = shown.view(torch.where(visible, picture(), other), visible)
        assert torch.equal(seen, also_seen) and not seen[0].all()
        assert torch.equal(images.where(seen, 0), redrawn.where(seen, 0))


def test_a_picture_that_stands_for_a_batch_is_interpolated_once(monkeypatch):
    shown, visible = Preprocessing(size=(15, 15), crop=0.9, interpolation="bicubic"), box()
    one, interpolate = picture()[:1], F.interpolate
    expected, sizes = shown.view(one.repeat(2, 1, 1, 1), visible), list[int]()

    def counted(images, *size, **options):
        sizes.append(len(images))
        return interpolate(images, *size, **options)

    monkeypatch.setattr(F, "interpolate", counted)
    found = shown.view(one.expand(2, -1, -1, -1), visible)
    assert all(map(torch.equal, found, expected))
    assert sizes == [2, 2, 1]  # holes, pictures with holes, the picture


@pytest.mark.parametrize("size", SIZES)
def test_a_hole_keeps_its_place_and_its_size(size):
    visible = box()
    _, seen = Preprocessing(size=size).view(picture(), visible)
    cut = Preprocessing(size=size).cut(visible)
    expected = F.interpolate(cut.float(), size, mode="area") >= 0.5
    assert (seen != expected).float().mean() < 0.06
    assert seen.float().mean() == pytest.approx(cut.float().mean().item(), abs=0.04)


def test_a_picture_of_the_size_already_stays_as_it_is_and_may_be_cut_alone():
    images, visible = picture(), box()
    for shown in (Preprocessing(), Preprocessing(size=(24, 24))):
        assert torch.equal(shown.view(images, visible)[0], images) and torch.equal(shown.resize(images), images)
    cut, seen = Preprocessing(crop=0.5).view(images, visible)
    assert torch.equal(cut, images[:, :, 6:18, 6:18]) and torch.equal(seen, visible[:, :, 6:18, 6:18])


def test_a_crop_that_the_pictures_have_had_is_not_made_again():
    assert Preprocessing(crop=0.875).after_crop(0.875).crop == 1.0
    assert Preprocessing(crop=0.95).after_crop(0.875).crop == 1.0
    assert Preprocessing(crop=0.7).after_crop(0.875).crop == pytest.approx(0.8)


def test_changes_are_as_a_command_line_gives_them():
    changed = SMALL.with_changes({"size": 32, "mean": [0.5, 0.5, 0.5], "crop": 1, "interpolation": "bicubic"})
    assert changed == replace(SMALL, size=(32, 32), mean=(0.5, 0.5, 0.5), crop=1, interpolation="bicubic")
    assert SMALL.with_changes({"size": None}).size is None


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.5]}, {"mean": [2, 0, 0]}, {"std": [0.0, 1, 1]}, {"std": ["a", 1, 1]}, {"size": 0},
        {"size": [3, 4, 5]}, {"size": 10**6}, {"crop": 0}, {"crop": 1.5}, {"interpolation": "nearest"}, {"resize": 4},
        {"size": True}, {"std": [float("nan"), 1, 1]},
    ],
)  # fmt: skip
def test_what_no_preprocessing_has_is_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        SMALL.with_changes(changes)
