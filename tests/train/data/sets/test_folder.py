"""Image folders with parallel masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from maskrobust.train.data.files.image_files import id_of, list_images
from maskrobust.train.evaluate.config import parse_config
from tests.train.data.layouts import joined, save

COLOUR = np.array([250, 10, 10], dtype=np.uint8)
SIZES = {"train": 12, "val": 5, "test": 4}


def draw(number):
    """A grey image of its own size with a red rectangle, and where that is."""
    height, width = 60 + number % 7, 90 - number % 11
    image = np.full((height, width, 3), 40 + number, dtype=np.uint8)
    object_mask = np.zeros((height, width), dtype=bool)
    object_mask[15 : 30 + number, 20 : 50 + 2 * number] = True
    image[object_mask] = COLOUR
    return image, object_mask


def write_tree(folder, splits=("train", "val", "test")):
    """Two classes; every third image lacks a mask."""
    root, mask_root = folder / "images", folder / "masks"
    for split in splits:
        for number in range(SIZES[split]):
            image, object_mask = draw(number)
            name = f"{split}/{('bird', 'cat')[number % 2]}/{number}.png"
            save(image, root / name)
            if number % 3:
                save(object_mask.astype(np.uint8) * 255, mask_root / name)
    return root, mask_root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path)


def make(tree, **options):
    return Folder(str(tree[0]), str(tree[1]), **{"image_size": 32, "batch_size": 4, "num_workers": 0, **options})


def test_images_without_a_mask_are_kept_and_counted(tree, caplog):
    data = make(tree)
    with caplog.at_level("INFO", logger="pytorch_lightning"):
        data.setup("fit")
    assert "train: 12 images, 8 with an object mask" in caplog.text
    assert "val: 5 images, 3 with an object mask" in caplog.text
    every, annotated = joined(data.whole_split("train")), joined(data.annotated_batches("train"))
    shown = every.object_mask.flatten(1).any(dim=1)
    assert shown.sum() == 8
    assert all(torch.equal(one, other) for one, other in zip(annotated[:4], every.select(shown)[:4], strict=True))
    assert not joined(Folder(str(tree[0]), image_size=32, num_workers=0).test_dataloader()).object_mask.any()


def places(data):
    """Paths of the images of every split that there is, below the root."""
    return {split: {file.image.relative_to(data.root) for file in data.files(split)} for split in data.splits}


def folders(paths):
    return {path.parts[0] for path in paths}


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("train", "val"), ("val",), ("test",), ("train",)])
def test_every_split_is_the_folder_of_its_name(tmp_path, splits):
    data = make(write_tree(tmp_path, splits))
    found = places(data)
    assert data.splits == splits
    assert {split: folders(paths) for split, paths in found.items()} == {split: {split} for split in splits}
    assert {split: len(paths) for split, paths in found.items()} == {split: SIZES[split] for split in splits}
    assert data.class_names == ("bird", "cat")
    for missing in {"train", "val", "test"} - set(splits):
        with pytest.raises(MissingFileError, match=f"^the split '{missing}' needs the folder '.*/{missing}', which"):
            data.files(missing)


@pytest.mark.parametrize(
    ("splits", "test"), [(("train", "val"), "val"), (("train", "test"), "test"), (("train",), None)]
)
def test_a_fraction_of_the_training_images_is_validated_on_where_asked_for(tmp_path, splits, test):
    found = places(make(write_tree(tmp_path, splits), val_fraction=0.3))
    assert folders(found["train"]) == folders(found["val"]) == {"train"}
    assert found["train"].isdisjoint(found["val"]) and len(found["train"] | found["val"]) == SIZES["train"]
    assert folders(found.get("test", set())) == ({test} if test else set())


def test_a_fraction_that_would_leave_the_validation_folder_unused_is_refused(tree):
    with pytest.raises(InputError, match=r"^val_fraction 0.3 would leave the images in '.*/val' unused"):
        make(tree, val_fraction=0.3)


@pytest.mark.parametrize(("splits", "expected"), [(("train", "val", "test"), "test"), (("train", "val"), "val")])
def test_evaluation_takes_the_test_split_where_there_is_one(tmp_path, splits, expected):
    root, _ = write_tree(tmp_path, splits)
    given = ["--network=a.ckpt", "--out=out", "--data=Folder", f"--data.root={root}"]
    assert parse_config(given).split == expected
    assert parse_config([*given, "--split=train"]).split == "train"


def test_class_folders_without_a_folder_train_are_told_how_to_be_laid_out(tmp_path):
    for name in (".cache", "bird", "cat"):
        (tmp_path / name).mkdir()
    with pytest.raises(MissingFileError, match=r"holds 'bird', 'cat'; .* if these are classes set val_fraction to 0.2"):
        Folder(str(tmp_path))
    with pytest.raises(MissingFileError, match=r"root must be a folder of images, but '.*/missing' does not exist"):
        Folder(str(tmp_path / "missing"))


def test_classes_without_splits_are_divided_by_a_fraction(tree):
    whole = make(tree)
    data = make([each / "train" for each in tree], val_fraction=0.4)
    assert data.splits == ("train", "val") and data.class_names == ("bird", "cat")
    parts = [{(file.image.name, file.mask, file.label) for file in data.files(split)} for split in data.splits]
    assert all(parts) and not parts[0] & parts[1]
    assert parts[0] | parts[1] == {(file.image.name, file.mask, file.label) for file in whole.files("train")}


def test_some_images_stand_for_all_classes(tree):
    data = make(tree)
    assert joined(data.some_images("train", 4)).labels.tolist() == [0, 0, 1, 1]
    assert torch.equal(joined(data.some_images("train", 99)).ids, joined(data.whole_split("train")).ids)
    objects = joined(data.some_objects("train", 4))
    assert objects.labels.tolist() == [0, 0, 1, 1] and objects.object_mask.flatten(1).any(dim=1).all()


def test_one_mask_for_two_images_is_refused(tree):
    image = tree[0] / "train" / "bird" / "2.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    with pytest.raises(InputError, match=rf"but '{image.with_suffix('.jpg')}' and '{image}' both have '.*/2.png'; ren"):
        make(tree).files("train")
    assert len(Folder(str(tree[0])).files("train")) == SIZES["train"] + 1


def write_grey(root, count=6):
    """Photographs in grey, such as of solar cells: about .3 with a deviation of about .1."""
    numbers = np.random.default_rng(0).normal(0.3, 0.1, (count, 40, 48)).clip(0, 1)
    for number, each in enumerate(numbers):
        path = root / "train" / ("bird", "cat")[number % 2] / f"{number}.png"
        save((255 * each).round().astype(np.uint8), path)
    return numbers


def test_colours_are_measured_on_training_images_as_their_crops_show_them(tmp_path, caplog):
    write_grey(tmp_path)
    data = Folder(str(tmp_path), image_size=32, num_workers=0)
    with caplog.at_level("INFO", "pytorch_lightning.utilities.rank_zero"):
        assert len({*data.mean}) == 1 == len({*data.std})
    assert "measured on 6 training images" in caplog.text
    crops = torch.cat([joined(data.train_dataloader()).images for _ in range(20)])
    assert abs(data.mean[0] - crops.mean().item()) < 0.01 and abs(data.std[0] - crops.std().item()) < 0.02
    for path in tmp_path.rglob("*.png"):
        Image.new("RGB", (40, 40), (51, 102, 204)).save(path)
    plain = Folder(str(tmp_path), image_size=32)
    assert plain.mean == (0.2, 0.4, 0.8) and min(plain.std) > 0.003  # to be divided by
    given = Folder(str(tmp_path), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    given.take_colours((0.5, 0.5, 0.5), (1.0, 1.0, 1.0), "a file")
    assert (given.mean, given.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_pixels_without_data_have_no_part_in_the_colours(tmp_path):
    colours = np.full((40, 40, 4), (51, 102, 204, 255), dtype=np.uint8)
    colours[:, 20:] = (255, 0, 0, 0)
    (tmp_path / "train" / "bird").mkdir(parents=True)
    Image.fromarray(colours).save(tmp_path / "train" / "bird" / "a.png")
    assert Folder(str(tmp_path), image_size=32, visible="alpha").mean == pytest.approx((0.2, 0.4, 0.8), abs=0.01)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_training_keeps_its_colours_measured_or_those_of_the_weights_that_it_begins_with(tmp_path):
    images = tmp_path / "images"
    write_grey(images)
    run = ["--data=Folder", f"--data.root={images}", "--data.val_fraction=0.4", "--data.image_size=32"]
    run += ["--data.num_workers=0", "--model.architecture=small_resnet", "--model.architecture_options={width: 16}"]
    run += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]

    def fit(name, *more, epochs=1):
        where = [f"--trainer.default_root_dir={tmp_path / 'runs'}", f"--run_name={name}"]
        main(["fit", *run, *where, f"--trainer.max_epochs={epochs}", *more])
        path = max((tmp_path / "runs" / name).glob("version_*/checkpoints/last.ckpt"))
        saved = torch.load(path)
        return path, (tuple(saved["hyper_parameters"]["mean"]), tuple(saved["hyper_parameters"]["std"])), saved

    first, measured, saved = fit("first")
    data = Folder(str(images), val_fraction=0.4, image_size=32)
    assert measured == (data.mean, data.std) and measured != (IMAGENET_MEAN, IMAGENET_STD)
    shutil.copytree(images / "train" / "bird", images / "train" / "cat", dirs_exist_ok=True)  # measured now, others
    Image.new("L", (40, 40), 255).save(images / "train" / "cat" / "white.png")
    assert fit("first", "--ckpt_path=last", epochs=2)[1] == measured
    assert fit("from_checkpoint", f"--model.weights={first}")[1] == measured
    torch.save({key.removeprefix("network."): value for key, value in saved["state_dict"].items()}, tmp_path / "w.pt")
    assert fit("from_weights", f"--model.weights={tmp_path / 'w.pt'}")[1] == (IMAGENET_MEAN, IMAGENET_STD)


def test_images_at_any_depth_are_listed_in_the_order_of_their_paths_without_asking_about_each(tmp_path, monkeypatch):
    root, mask_root = tmp_path / "images", tmp_path / "masks"
    names = ["a!.jpg", "a/c.png", "a/b/d.e.JPG", "a.jpg", "b.jpg", "c.png/x.jpg"]
    for name in names:
        (root / "train" / "bird" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "train" / "bird" / name).touch()
    for name in ("a.png", "a/b/d.e.png", "a/b.png", "b.png/x.png"):
        (mask_root / "train" / "bird" / name).parent.mkdir(parents=True, exist_ok=True)
        (mask_root / "train" / "bird" / name).touch()
    (root / "train" / "bird" / "link").symlink_to(root / "train" / "bird" / "a")
    monkeypatch.setattr(Path, "is_file", None)
    found, others = list_images(root, "train", mask_root, {"bird": 0})
    assert [file.image for file in found] == sorted(root / "train" / "bird" / name for name in names)
    masks = {file.image.name: file.mask for file in found if file.mask is not None}
    below = mask_root / "train" / "bird"
    assert masks == {"a.jpg": below / "a.png", "d.e.JPG": below / "a" / "b" / "d.e.png"} and others == []
    assert [file.id for file in found] == [id_of(file.image.relative_to(root)) for file in found]


def test_files_that_are_no_images_by_their_suffix_are_counted_and_one_is_named(tree):
    folder = tree[0] / "train" / "cat"
    (folder / "deeper").mkdir()
    for name in ("one.heic", "deeper/two.HEIC", "notes.txt"):
        (folder / name).write_bytes(b"?")
    data = make(tree)
    with pytest.warns(UserWarning, match=r"^train: skipped 3 files, first '.*/train/cat/deeper/two.HEIC',"):
        assert len(data.files("train")) == SIZES["train"]
    assert len(data.files("train")) == SIZES["train"]  # and it is said once
