"""Families and fills as steps of an albumentations pipeline."""

import importlib
import json
import os
import subprocess
import sys
from functools import partial

import albumentations as A
import numpy as np
import pytest
import torch

from maskrobust.augment import FAMILIES, SilhouetteBank, apply_fill, transforms
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.augment.transforms import HideRegions
from maskrobust.errors import InputError

HEIGHT, WIDTH = 40, 56
HIDE = partial(HideRegions, hidden_fraction=(0.5, 0.5), patch_size=8, p=1.0)
EXACT = [
    A.HorizontalFlip(p=1.0),
    A.VerticalFlip(p=1.0),
    A.Transpose(p=1.0),
    A.RandomRotate90(p=1.0),
    A.RandomCrop(24, 32),
    A.PadIfNeeded(64, 64, fill=0),
    A.Affine(translate_px=(-9, 9), interpolation=0, p=1.0),
]


def compose(*transforms, **options):
    return A.Compose(list(transforms), additional_targets={"visible": "mask"}, **options)


def numbered_image():
    """Every pixel's first channel says which one it is, from 1 of all; the others are never 0."""
    numbers = np.arange(1, HEIGHT * WIDTH + 1, dtype=np.float32).reshape(HEIGHT, WIDTH, 1) / (HEIGHT * WIDTH)
    return np.concatenate([numbers, np.ones((HEIGHT, WIDTH, 2), np.float32)], axis=2)


def ring():
    row, column = np.ogrid[:HEIGHT, :WIDTH]
    distance = (row - 20) ** 2 + (column - 25) ** 2
    return ((distance < 200) & (distance > 40)).astype(np.uint8)


def photograph(dtype=np.uint8, channels=3, seed=0):
    pixels = np.random.default_rng(seed).integers(1, 255, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    return pixels if dtype == np.uint8 else (pixels / 255).astype(np.float32)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("transform", EXACT, ids=lambda transform: type(transform).__name__)
def test_image_object_mask_and_visible_agree_at_every_pixel(transform, first):
    order = [HIDE(), transform] if first else [HideRegions(p=0.0), transform, HIDE()]
    done = compose(*order, seed=3)(image=numbered_image(), mask=ring())
    numbers = (done["image"][..., 0] * (HEIGHT * WIDTH)).round().astype(int)
    shown = numbers > 0
    assert np.array_equal(done["visible"].astype(bool), shown)
    assert 0.1 < shown.mean() < 0.9
    assert np.array_equal(done["mask"][shown], ring().ravel()[numbers[shown] - 1])
    assert (done["image"][~shown] == 0).all()


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.float32, 1)])
def test_the_fill_is_that_of_apply_fill_under_the_visible_that_is_given_back(dtype, channels):
    image = photograph(dtype, channels)
    done = compose(HIDE(fill="mean", mean=IMAGENET_MEAN[:channels]))(image=image)
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    visible = torch.from_numpy(done["visible"])[None, None].bool()
    filled = apply_fill("mean", images, visible, keys=torch.zeros(1, dtype=torch.int64), mean=IMAGENET_MEAN[:channels])
    assert np.array_equal(done["image"], filled[0].permute(1, 2, 0).numpy())


def test_an_image_without_a_channel_dimension_keeps_its_shape():
    done = compose(HIDE())(image=photograph()[..., 0])
    assert done["image"].shape == done["visible"].shape == (HEIGHT, WIDTH)
    assert np.array_equal(done["image"] > 0, done["visible"] > 0)


@pytest.mark.parametrize(("dtype", "shape"), [(np.uint8, ()), (np.bool_, (1,)), (np.float32, ())])
def test_a_given_visible_is_only_ever_narrowed_and_has_the_size_of_the_image(dtype, shape):
    given = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, *shape) % 3 > 0).astype(dtype)
    done, alone = (compose(HIDE(), seed=5)(image=photograph(), **more) for more in ({"visible": given}, {}))
    assert done["visible"].dtype == (np.uint8 if dtype == np.bool_ else dtype)
    assert np.array_equal(done["visible"] > 0, (given.reshape(HEIGHT, WIDTH) > 0) & (alone["visible"] > 0))
    transform = HIDE()
    transform.add_targets({"visible": "mask"})
    with pytest.raises(ValueError, match=r"visible must have the size of the image, \(40, 56\), got shape \(9, 56"):
        transform(image=photograph(), visible=given[:9])
    with pytest.raises(ValueError, match="fills the target image alone, got images too"):
        compose(HIDE())(image=photograph(), images=photograph()[None])


def test_the_object_is_hidden_where_earlier_transforms_have_put_it():
    done = compose(A.HorizontalFlip(p=1.0), HideRegions("objects", p=1.0))(image=photograph(), mask=ring())
    assert np.array_equal(done["visible"] == 0, ring()[:, ::-1] > 0)


def test_the_same_seed_gives_the_same_holes_and_the_global_generators_do_not_matter():
    def run_pipeline(seed):
        pipeline = compose(HIDE(fill="random_colour"), seed=seed)
        return [pipeline(image=photograph())["image"] for _ in range(3)]

    np.random.seed(0)
    torch.manual_seed(0)
    first = run_pipeline(7)
    assert np.array_equal(first, run_pipeline(7))
    assert not np.array_equal(first, run_pipeline(8))
    assert not np.array_equal(first[0], first[1])


def test_a_replay_repeats_hole_and_fill_from_plain_parameters():
    transforms = [A.RandomCrop(32, 32), A.HorizontalFlip(), HIDE(fill="random_colour")]
    done = A.ReplayCompose(transforms, additional_targets={"visible": "mask"})(image=photograph(), mask=ring())
    saved = json.loads(json.dumps(done["replay"]))
    again = A.ReplayCompose.replay(saved, image=photograph(), mask=ring())
    other = A.ReplayCompose.replay(saved, image=photograph(seed=1))
    assert all(np.array_equal(again[name], done[name]) for name in ("image", "mask", "visible"))
    assert np.array_equal(other["visible"], done["visible"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_hides_some_of_the_image_and_comes_back_from_json(family):
    rings = torch.from_numpy(np.stack([np.roll(ring(), 2 * place, axis=1) for place in range(6)])).bool()[:, None]
    bank = SilhouetteBank(rings, torch.arange(6) % 3, torch.arange(6))
    fields = photograph()[:5, :7].repeat(8, axis=0).repeat(8, axis=1)  # something to segment, nowhere black
    data = {"image": fields, "mask": ring(), "label": 1}
    done = compose(HideRegions(family, patch_size=8, bank=bank, p=1.0), seed=1)(**data)
    hidden = done["visible"] == 0
    assert 0 < hidden.mean() < 1
    assert (done["image"][hidden] == 0).all()
    if family == "silhouettes":
        return
    restored = A.from_dict(json.loads(json.dumps(A.to_dict(HideRegions(family, patch_size=8, p=1.0)))))
    assert np.array_equal(compose(restored, seed=1)(**data)["visible"], done["visible"])


def test_a_family_says_what_it_needs_where_compose_does_not_get_it():
    with pytest.raises(ValueError, match="needs mask, got none; pass mask to Compose"):
        compose(HideRegions("objects", p=1.0))(image=photograph())


@pytest.mark.parametrize("transform", [HideRegions(p=1.0), HideRegions(p=0.0)], ids=["hides", "starts"])
def test_visible_must_be_declared_as_a_mask_target(transform):
    for targets in (None, {"visible": "image"}, {"other": "mask"}):
        with pytest.raises(ValueError, match=r"additional_targets=\{'visible': 'mask'\}"):
            A.Compose([transform], additional_targets=targets)(image=photograph())


REFUSE_NETWORK = """
import socket, warnings
warnings.simplefilter("error")
def refuse(*arguments, **options):
    raise SystemExit("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


def test_the_transforms_alone_load_it_without_a_request_or_a_warning():
    alone = "import sys, maskrobust.augment; assert 'albumentations' not in sys.modules\n"
    command = [sys.executable, "-c", REFUSE_NETWORK + alone + "import maskrobust.augment.transforms"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={}, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("given", "kept"), [(None, "1"), ("0", "0")])
def test_who_wants_the_version_check_keeps_it(given, kept, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", given or "")
    if given is None:
        monkeypatch.delenv("NO_ALBUMENTATIONS_UPDATE")
    importlib.reload(transforms)
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"p": 1.5}, r"p must lie in \[0, 1\], got 1.5"),
        ({"patch_size": (8, 0)}, "patch_size must be at least 1, got 0"),
        ({"patch_size": 2.5}, "patch_size .* must be of type"),
        ({"hidden_fraction": 0.5}, "hidden_fraction .* must be of type"),
        ({"hidden_fraction": (0.9, 0.1)}, "hidden_fraction must be a range"),
        ({"fill": "blak"}, "did you mean black"),
        ({"family": "silhouettes"}, "draws from a SilhouetteBank, got none"),
        ({"family": "silhouettes", "bank": 3}, "draws from a SilhouetteBank, got int"),
    ],
)
def test_a_wrong_argument_is_refused_where_the_transform_is_made(options, said):
    with pytest.raises(InputError, match=said):
        HideRegions(**options)
