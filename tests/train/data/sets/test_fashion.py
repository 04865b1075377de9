"""Fashion: the official splits, the choice of garments, and where the files come from."""

import numpy as np
import pytest
import torch

from maskrobust.train.data import Fashion
from maskrobust.train.data.files.idx import DEBIAN_FOLDER, read_garments
from tests.conftest import require_component
from tests.train.data.conftest import square_garments

SIZES = {"train_images": 24, "val_images": 6, "test_images": 10}


@pytest.fixture(scope="module")
def debian_data():
    require_component(DEBIAN_FOLDER, "apt install dataset-fashion-mnist")
    return Fashion(DEBIAN_FOLDER, train_images=1500, val_images=100, test_images=200)


def test_labels_are_those_of_the_garment_that_the_id_names(fashion_root):
    data = Fashion(fashion_root, **SIZES)
    for split, first in (("train", 0), ("val", 0), ("test", 60_000)):
        samples = data.samples(split)
        rows = (samples.ids - first).numpy()
        assert (samples.labels.numpy() == square_garments(40)[1][rows]).all()
        areas = (8 + rows % 12) ** 2
        assert stats_agree(areas, samples.object_mask)


def stats_agree(areas, object_mask):
    """Whether larger garments have larger masks, up to the random scale of 0.9 to 1.3."""
    ratio = np.sqrt(object_mask.sum(dim=(1, 2, 3)).numpy() / areas)
    return (ratio > 0.75).all() and (ratio < 1.5).all()


def test_the_training_garments_are_a_choice_by_seed_that_leaves_the_validation_garments_alone(fashion_root):
    small = Fashion(fashion_root, **SIZES)
    large = Fashion(fashion_root, **{**SIZES, "train_images": 34})
    other = Fashion(fashion_root, **SIZES, seed=1)
    assert torch.equal(small.samples("val").ids, large.samples("val").ids)
    assert set(small.samples("train").ids.tolist()) < set(large.samples("train").ids.tolist())
    assert not torch.equal(small.samples("train").ids, other.samples("train").ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_images": 59_500}, r"^train_images \+ val_images must be at most 60000, got 60500;"),
        ({"val_images": 60_000, "train_images": 1}, r"^train_images \+ val_images must be at most 60000, got 60001;"),
        ({"test_images": 10_001}, "^test_images must be at most 10000, got 10001;"),
    ],
)
def test_more_images_than_exist_are_refused_at_once(fashion_root, arguments, message):
    with pytest.raises(ValueError, match=message):
        Fashion(fashion_root, **arguments)


@pytest.mark.parametrize(("split", "wanted", "held"), [("train", 41, 40), ("test", 21, 20)])
def test_files_that_hold_too_few_garments_are_refused(fashion_root, split, wanted, held):
    sizes = {"train_images": 35, "val_images": 6, "test_images": 21}
    message = (
        f"^the files in {fashion_root} must hold at least {wanted} garments for the {split} split, but hold {held};"
    )
    with pytest.raises(ValueError, match=message):
        Fashion(fashion_root, **sizes).samples(split)


def test_the_official_test_images_are_the_test_split_and_no_garment_is_in_two_splits(debian_data):
    ids = {split: set(debian_data.samples(split).ids.tolist()) for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in ids.items()} == {"train": 1500, "val": 100, "test": 200}
    assert not ids["train"] & ids["val"]
    assert max(ids["train"] | ids["val"]) < 60_000 <= min(ids["test"])
    labels = read_garments(DEBIAN_FOLDER, "test")[1]
    test = debian_data.samples("test")
    assert (test.labels.numpy() == labels[test.ids.numpy() - 60_000]).all()


def test_draws_of_the_training_split_share_no_garment_with_each_other_or_with_validation(fashion_root):
    data = Fashion(fashion_root, train_images=10, val_images=5, test_images=4)
    drawn = [set(data.samples("val").ids.tolist())]
    for number in range(3):
        data.draw_training(number)
        drawn.append(set(data.samples("train").ids.tolist()))
    assert len(set().union(*drawn)) == 35
    data.draw_training(0)
    assert set(data.samples("train").ids.tolist()) == drawn[1]
