"""Oxford-IIIT Pet, on a made-up directory in torchvision's layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from maskrobust.errors import InputError
from maskrobust.train.data import Pets
from maskrobust.train.data_options import Split
from tests.train.data.layouts import joined

SIZES = {"trainval": 24, "test": 6}


def write_pets(root):
    """Grey images of two breeds, each with a red animal inside a band of border."""
    folder = root / "oxford-iiit-pet"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations" / "trimaps").mkdir(parents=True)
    for official, count in SIZES.items():
        lines = []
        for number in range(count):
            breed, label = (("Abyssinian", 1), ("yorkshire_terrier", 37))[number % 2]
            name = f"{breed}_{official}{number}"
            trimap = np.full((60, 80), 2, dtype=np.uint8)
            trimap[10:50, 20 : 60 + number % 3] = 3
            trimap[14:46, 24:56] = 1
            pixels = np.where((trimap != 2)[..., None], [250, 10, 10], 40).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{name}.jpg", quality=100, subsampling=0)
            Image.fromarray(trimap).save(folder / "annotations" / "trimaps" / f"{name}.png")
            lines.append(f"{name} {label} 1 1")
        (folder / "annotations" / f"{official}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def root(tmp_path):
    return write_pets(tmp_path)


def make(root, **options):
    return Pets(str(root), image_size=32, batch_size=4, num_workers=0, **{"val_fraction": 0.3, **options})  # type: ignore[arg-type]


def test_files_and_labels_are_those_that_torchvision_lists(root):
    data = make(root)
    official = OxfordIIITPet(root, split="test", target_types=["category", "segmentation"])
    for file, (image, (label, trimap)) in zip(data.files("test"), official, strict=True):
        assert np.array_equal(np.asarray(Image.open(file.image).convert("RGB")), np.asarray(image))
        assert np.array_equal(np.asarray(Image.open(file.mask)), np.asarray(trimap))
        assert file.label == label
    assert {name.title() for name in official.classes} <= set(data.class_names)
    assert len(set(data.class_names)) == data.num_classes == 37
    assert list(data.class_names) == sorted(data.class_names)


def test_trainval_is_shared_by_training_and_validation_and_nothing_is_in_both(root):
    data = make(root)
    names: dict[Split, set[Path]] = {
        split: {file.image for file in data.files(split)} for split in ("train", "val", "test")
    }
    assert names["train"] and names["val"] and names["train"].isdisjoint(names["val"])
    assert len(names["train"] | names["val"]) == SIZES["trainval"]
    assert names["test"].isdisjoint(names["train"] | names["val"])


def test_the_object_is_the_animal_with_its_border_wherever_the_crop_lies(root):
    data = make(root)
    for loader in (data.train_dataloader(), data.test_dataloader()):
        batch = joined(loader)
        assert batch.images.shape[1:] == (3, 32, 32)
        red = (batch.images[:, :1] > 0.5) & (batch.images[:, 1:2] < 0.4)
        assert (red == batch.object_mask).float().mean() > 0.93
    assert torch.equal(batch.labels.unique(), torch.tensor([0, 36]))


def test_missing_files_are_named_with_what_to_do(root, tmp_path):
    with pytest.raises(FileNotFoundError, match="download to true"):
        make(tmp_path / "nowhere").setup("fit")
    trimap = make(root).files("test")[0].mask
    trimap.unlink()
    with pytest.raises(FileNotFoundError, match=f"'{trimap}' must exist, .*unpack both archives again"):
        make(root).setup("test")
    (root / "oxford-iiit-pet" / "annotations" / "test.txt").write_text("Abyssinian_1 38 1 1\n")
    with pytest.raises(ValueError, match="a class from 1 to 37, got 'Abyssinian_1 38 1 1'"):
        make(root).setup("test")
    (root / "oxford-iiit-pet" / "annotations" / "test.txt").write_text("../Abyssinian_1 1 1 1\n")
    with pytest.raises(InputError, match=r"must name files by letters and digits, got '\.\./Abyssinian_1'"):
        make(root).setup("test")


def test_nothing_is_downloaded_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(OxfordIIITPet, "_download", lambda _: pytest.fail("it is downloaded"))
    make(tmp_path).prepare_data()
