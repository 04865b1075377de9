"""Every family by name inside a pipeline, and what a family lacks said in one sentence."""

import json

import albumentations as A
import numpy as np
import pytest
import torch

from maskrobust.augment import FAMILIES, Batch, SilhouetteBank, family_needs
from maskrobust.augment.transforms import HideRegions, TrackVisible

SIZE = 48
OF_OBJECTS, OF_A_BANK = ([name for name in FAMILIES if need in family_needs(name)] for need in ("object_mask", "bank"))


def image():
    """Nine fields of different colours, a little noisy: something to segment; nowhere black."""
    rng = np.random.default_rng(0)
    fields = rng.integers(30, 225, (3, 3, 3)).repeat(SIZE // 3, axis=0).repeat(SIZE // 3, axis=1)
    return (fields + rng.integers(0, 30, (SIZE, SIZE, 1))).astype(np.uint8)


def disc(row, column, radius=9):
    down, across = np.ogrid[:SIZE, :SIZE]
    return ((down - row) ** 2 + (across - column) ** 2 <= radius**2).astype(np.uint8)


@pytest.fixture
def bank(tmp_path):
    """The path of a saved bank of six discs of three classes."""
    masks = torch.from_numpy(np.stack([disc(10 + 5 * place, 30 - 3 * place) for place in range(6)])).bool()[:, None]
    ids = torch.arange(6)
    batch = Batch(ids, torch.zeros(6, 3, SIZE, SIZE), masks, ids % 3)
    path = tmp_path / "bank.safetensors"
    SilhouetteBank.from_batches([batch]).save(path)
    return path


def run(transform, **data):
    return A.Compose([transform], additional_targets={"visible": "mask"}, seed=1)(image=image(), **data)


def one_sentence(error):
    message = str(error.value)
    return "\n" not in message and message.endswith(".") and ". " not in message.replace("=... ", "= ")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_hides_some_of_the_image_and_comes_back_from_json(family, bank):
    transform = HideRegions(family, patch_size=8, bank=bank, p=1.0)
    done = run(transform, mask=disc(20, 20), label=1)
    hidden = done["visible"] == 0
    assert 0 < hidden.mean() < 1
    assert (done["image"][hidden] == 0).all()
    restored = A.from_dict(json.loads(json.dumps(A.to_dict(transform))))
    assert np.array_equal(run(restored, mask=disc(20, 20), label=1)["visible"], done["visible"])


def test_the_object_is_hidden_where_earlier_transforms_have_put_it():
    pipeline = A.Compose(
        [A.HorizontalFlip(p=1.0), HideRegions("objects", p=1.0)], additional_targets={"visible": "mask"}
    )
    done = pipeline(image=image(), mask=disc(20, 10))
    assert np.array_equal(done["visible"] == 0, disc(20, 10)[:, ::-1] > 0)


@pytest.mark.parametrize("family", OF_OBJECTS)
def test_a_family_that_needs_the_object_says_so_where_there_is_no_mask(family, bank):
    with pytest.raises(ValueError, match="needs mask, got none; pass mask to Compose") as error:
        run(HideRegions(family, bank=bank, p=1.0))
    assert one_sentence(error)


@pytest.mark.parametrize("family", ["own_class_silhouettes", "other_class_silhouettes"])
def test_a_family_that_needs_the_class_says_so_where_there_is_no_label(family, bank):
    with pytest.raises(ValueError, match="needs label, got none; pass label to Compose") as error:
        run(HideRegions(family, bank=bank, p=1.0))
    assert one_sentence(error)


@pytest.mark.parametrize("family", OF_A_BANK)
def test_a_family_that_needs_a_bank_says_so_when_it_is_made(family):
    with pytest.raises(ValueError, match="SilhouetteBank") as error:
        HideRegions(family)
    assert one_sentence(error)


@pytest.mark.parametrize("transform", [TrackVisible(), HideRegions(p=0.0)], ids=lambda each: type(each).__name__)
def test_visible_must_be_declared_as_a_mask_target(transform):
    for targets in (None, {"visible": "image"}, {"other": "mask"}):
        with pytest.raises(ValueError, match=r"additional_targets=\{'visible': 'mask'\}") as error:
            A.Compose([transform], additional_targets=targets)(image=image())
        assert one_sentence(error)
