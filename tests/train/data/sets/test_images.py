"""Images without labels."""

import pytest
from PIL import Image

from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data import Images
from tests.conftest import assert_one_sentence
from tests.train.data.layouts import joined


@pytest.fixture
def root(tmp_path):
    for number in range(20):
        folder = tmp_path / ("a", "b/c", ".")[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 36), (10 * number, 0, 0)).save(folder / f"{number}.png")
    return tmp_path


def make(root, **options):
    return Images(str(root), **{"image_size": 32, "batch_size": 4, "num_workers": 0, "val_fraction": 0.3, **options})


def test_every_image_below_the_folder_is_in_one_split_and_stays_there_when_others_come(root):
    data = make(root)
    names = {split: {file.image.name for file in data.files(split)} for split in data.splits}
    assert names["train"] | names["val"] == {f"{number}.png" for number in range(20)}
    assert not names["train"] & names["val"]
    Image.new("RGB", (40, 36)).save(root / "later.png")
    assert names["val"] <= {file.image.name for file in make(root).files("val")}


def test_images_have_no_labels_and_no_masks(root):
    data = make(root)
    batch = joined(data.val_dataloader())
    assert (batch.labels == -1).all() and not batch.object_mask.any()
    assert data.num_classes == 0 and data.class_names == ()
    assert batch.images.shape[1:] == (3, 32, 32)


def test_what_holds_no_images_or_has_no_such_split_is_refused(root, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, said in ((tmp_path / "empty", "holds none"), (tmp_path / "nowhere", "does not exist")):
        with pytest.raises(MissingFileError, match=said) as refusal:
            make(folder)
        assert_one_sentence(refusal)
    with pytest.raises(MissingFileError, match="got 'test'"):
        make(root).files("test")
    for fraction, said in ((1.0, "val_fraction must lie in"), (1e-6, "of 20 images must leave some .* got 20 and 0;")):
        with pytest.raises(InputError, match=said):
            make(root, val_fraction=fraction)
