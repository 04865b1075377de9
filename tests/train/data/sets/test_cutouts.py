"""Cutouts: compositing, splits of objects and scenes, classes, and what is refused."""

import csv
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.holes.scenes import texture_energy
from maskrobust.train.data import Cutouts
from maskrobust.train.data.files import scenes as scenes_module
from maskrobust.train.data.files.scenes import INSTALLED_PHOTOGRAPHS
from maskrobust.train.data.sets import cutouts as cutouts_module
from maskrobust.train.data.sets.cutouts import DEBIAN_STAMPS, SHIPPED_CLASSES, paste, read_cutout
from tests.conftest import require_component

SPLITS = ("train", "val", "test")
SMALL = {"classes": "folders", "image_size": 48, "views": 3}
LARGEST = np.nextafter(np.float32(1), np.float32(0))


def soft_square(colour, side=40, hole=4):
    """A square of one colour, less than half opaque at top and bottom, on transparent pixels of another colour."""
    pixels = np.zeros((side + 10, side + 20, 4), dtype=np.uint8)
    pixels[..., :3] = (255, 0, 255)  # hidden colours, which must never be seen
    pixels[5:-5, 10:-10] = (*colour, 255)
    pixels[5 : 5 + hole, 10:-10, 3] = 100
    pixels[-5 - hole : -5, 10:-10, 3] = 120
    return pixels


def write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_cutouts(folder, per_class=4):
    """Objects of the classes cat and dog, each of a colour of its own."""
    for number in range(2 * per_class):
        colour = (20 + 25 * number, 200 - 20 * number, 90)
        write_png(folder / ("cat", "dog")[number % 2] / "deep" / f"{number}.png", soft_square(colour))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_cutouts(tmp_path / "cutouts")


@pytest.fixture
def stamps():
    require_component(DEBIAN_STAMPS, "apt install tuxpaint-stamps-default")
    return DEBIAN_STAMPS


def composite_slowly(pixels, background, numbers):
    """`paste` pixel by pixel in float64: means of blocks, for an object that shrinks by a whole number."""
    size = len(background)
    rows, columns = np.nonzero(pixels[..., 3])
    pixels = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.float64)
    length = round(size * (0.6 + 0.15 * float(numbers[0])))
    factor = max(pixels.shape[:2]) // length
    assert factor * length == max(pixels.shape[:2])
    height, width = (side // factor for side in pixels.shape[:2])
    image, object_mask = background.astype(np.float64), np.zeros((size, size), dtype=bool)
    top, left = (
        1 + int(number * (size - 2 - side + 1)) for number, side in zip(numbers[1:3], (height, width), strict=True)
    )
    for row in range(height):
        for column in range(width):
            source = width - 1 - column if numbers[3] < 0.5 else column
            colour, alpha = np.zeros(3), 0.0
            for i in range(factor):
                for j in range(factor):
                    red, green, blue, opacity = pixels[row * factor + i, source * factor + j]
                    colour += opacity / 255 * np.array([red, green, blue]) / factor**2
                    alpha += opacity / 255 / factor**2
            image[top + row, left + column] = colour + (1 - alpha) * image[top + row, left + column]
            object_mask[top + row, left + column] = alpha >= 0.5
    return image, object_mask


@pytest.mark.parametrize("turn", [0.1, 0.9], ids=["mirrored", "as it is"])
def test_alpha_is_composited_as_a_slow_float64_version_does(tmp_path, turn):
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (24, 20, 4), dtype=np.uint8)
    pixels[..., 3] = chance.choice([0, 80, 127, 128, 200, 255], (24, 20))
    pixels[0, 0, 3] = pixels[-1, -1, 3] = 255  # nothing is trimmed
    background = chance.integers(0, 256, (40, 40, 3), dtype=np.uint8)
    numbers = np.array([0.0, 0.3, 0.8, turn], dtype=np.float32)
    image, object_mask = paste(read_cutout(write_png(tmp_path / "a.png", pixels)), background, numbers)
    slow_image, slow_mask = composite_slowly(pixels, background, numbers)
    assert np.abs(image - slow_image).max() <= 1.5
    assert (object_mask == slow_mask).all()


@pytest.mark.parametrize("numbers", [(0, 0, 0, 0), (LARGEST, LARGEST, LARGEST, LARGEST), (0.5, LARGEST, 0, 0.7)])
def test_an_object_lies_inside_and_is_three_fifths_to_three_quarters_as_long_as_the_image(folder, numbers):
    cutout = read_cutout(next(folder.rglob("*.png")))
    background = np.zeros((64, 64, 3), dtype=np.uint8)
    changed = (paste(cutout, background, np.array(numbers, dtype=np.float32))[0] > 0).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert min(rows.min(), columns.min()) >= 1 and max(rows.max(), columns.max()) <= 62
    assert 38 - 1 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 48


def test_image_and_mask_go_through_the_same_geometry(folder):
    """Where the mask is True away from its edge, the object's colour is seen; far from it, the background is."""
    data = Cutouts(folder, **SMALL)
    samples = data.samples("test")
    scenes = data._backgrounds("test", samples.ids)
    for row in range(len(samples.ids)):
        name = data.sample_name("test", int(samples.ids[row]))
        number = int(re.search(r"(\d+)\.png", name).group(1))
        colour = torch.tensor([20 + 25 * number, 200 - 20 * number, 90])
        image, inside = samples.images[row].permute(1, 2, 0).int(), samples.object_mask[row, 0]
        eroded = -torch.nn.functional.max_pool2d(-inside[None].float(), 7, 1, 3)[0] > 0
        dilated = torch.nn.functional.max_pool2d(inside[None].float(), 9, 1, 4)[0] > 0
        assert eroded.any() and (image[eroded] - colour).abs().max() <= 1
        assert (image[~dilated] == torch.from_numpy(scenes[row]).int()[~dilated]).all()


def test_a_sample_depends_on_seed_and_id_alone(folder):
    few = Cutouts(folder, **SMALL).samples("test")
    again = Cutouts(folder, **SMALL).samples("test")
    many = Cutouts(folder, **{**SMALL, "views": 5}).samples("test")
    other = Cutouts(folder, **SMALL, seed=1).samples("test")
    assert all(map(torch.equal, few[:4], again)) and few.visible is again.visible is None
    rows = [many.ids.tolist().index(each) for each in few.ids.tolist()]
    assert torch.equal(few.images, many.images[rows]) and torch.equal(few.object_mask, many.object_mask[rows])
    assert torch.equal(few.ids, other.ids) and not torch.equal(few.images, other.images)
    write_png(folder / "cat" / "new.png", soft_square((1, 2, 3)))
    grown = Cutouts(folder, **SMALL).samples("test")
    rows = [grown.ids.tolist().index(each) for each in few.ids.tolist()]
    assert torch.equal(few.images, grown.images[rows])


def test_a_picture_is_read_once_for_all_its_views_and_not_again_for_other_labels(folder, monkeypatch):
    read: list[Path] = []
    monkeypatch.setattr(cutouts_module, "read_cutout", lambda path: read.append(path) or read_cutout(path))
    data = Cutouts(folder, **SMALL, batch_size=3)
    first = next(iter(data.test_dataloader()))
    assert len(read) == 3
    labels = {each: 7 + place for place, each in enumerate(data.ids("test").tolist())}
    again = data.relabelled(labels)
    assert again.samples("test").labels.tolist() == [*labels.values()]
    assert torch.equal(next(iter(data.test_dataloader())).labels, first.labels)
    assert sorted(read) == sorted(each.path for each in data.cutouts)


def test_ids_ascend_and_are_unique_over_all_splits_and_views_of_an_object_share_its_label(folder):
    data = Cutouts(folder, **SMALL, training_objects="split")
    ids = torch.cat([data.samples(split).ids for split in SPLITS])
    assert len(set(ids.tolist())) == len(ids) == 8 * 3
    assert all((data.samples(split).ids.diff() > 0).all() for split in SPLITS)
    for split in SPLITS:
        samples = data.samples(split)
        objects = data.object_of(samples.ids)
        assert objects.unique(return_counts=True)[1].tolist() == [3] * len(data.objects(split))
        for each in objects.unique():
            names = {data.sample_name(split, int(sample)).split(",")[0] for sample in samples.ids[objects == each]}
            (label,) = set(samples.labels[objects == each].tolist())
            assert len(names) == 1 and names.pop().startswith(data.class_names[label])


def test_all_objects_are_evaluated_and_none_trained_on_unless_they_are_split(folder):
    data = Cutouts(folder, **SMALL)
    assert data.splits == ("val", "test")
    shown = {split: set(data.object_of(data.samples(split).ids).tolist()) for split in ("val", "test")}
    assert shown["val"] == shown["test"] == {each.id for each in data.cutouts}
    with pytest.raises(InputError, match=r"^Cutouts keeps all objects for evaluation, .*; set it, or give"):
        data.train_dataloader()


@pytest.mark.parametrize("seed", range(3))
def test_split_objects_are_in_one_split_each(folder, seed):
    data = Cutouts(folder, **SMALL, training_objects="split", seed=seed)
    shown = [set(data.object_of(data.samples(split).ids).tolist()) for split in SPLITS]
    assert [len(each) for each in shown] == [4, 1, 3]
    assert set.union(*shown) == {each.id for each in data.cutouts}
    assert not any(one & other for one, other in combinations(shown, 2))


def test_other_photographs_are_trained_on_and_all_of_a_class_tested(stamps):
    data, listed = (Cutouts(training_objects=each, image_size=64, views=1) for each in ("others", "none"))
    paths = {split: {each.path for each in data.objects(split)} for split in SPLITS}
    assert paths["test"] == {each.path for each in listed.cutouts}
    assert not any(one & other for one, other in combinations(paths.values(), 2))
    assert (len(paths["train"]), len(paths["val"])) == (277, 31)
    assert not [path for path in paths["train"] | paths["val"] if path.with_suffix(".svg").exists()]
    assert {each.label for split in ("train", "val") for each in data.objects(split)} == {-1}
    assert data.samples("val").object_mask.flatten(1).any(dim=1).all()
    assert data.num_classes == 1000 and data.class_names[0] == "n01440764"
    tested, known = (
        {each.path: names[each.label] for each in objects}
        for objects, names in ((data.objects("test"), data.class_names), (listed.cutouts, listed.class_names))
    )
    assert tested == known


def test_empty_scenes_are_backgrounds_without_object_pixels(tmp_path):
    """Two sets of objects: samples differ, scenes do not; and around the objects, samples are such scenes."""
    write_cutouts(tmp_path / "a")
    for path in sorted((tmp_path / "a").rglob("*.png")):
        pixels = np.array(Image.open(path))
        pixels[..., :3] = 255 - pixels[..., :3]
        write_png(tmp_path / "b" / path.relative_to(tmp_path / "a"), pixels)
    one, other = (Cutouts(tmp_path / name, **SMALL) for name in "ab")
    assert not torch.equal(one.samples("test").images, other.samples("test").images)
    assert torch.equal(one.empty_scenes("test", 7).images, other.empty_scenes("test", 7).images)
    scenes = one.empty_scenes("test", 7).images
    assert (scenes.shape, scenes.dtype) == ((7, 3, 48, 48), torch.float32)
    assert scenes.min() >= 0 and scenes.max() <= 1
    assert torch.equal(scenes[:3], one.empty_scenes("test", 3).images)
    assert not torch.equal(scenes, one.empty_scenes("val", 7).images)


def test_empty_scenes_are_of_every_kind_in_turn_and_noise_of_several_spectra(folder):
    data = Cutouts(folder, **SMALL)
    images, kinds = data.empty_scenes("test", 25)
    assert kinds == tuple(["flat", "noise", "photographs"] * 8 + ["flat"])
    energy = texture_energy(images)
    assert energy[0::3].max() < 1e-12 and energy[1::3].min() > 1e-5 and energy[2::3].min() > 1e-7
    spectra = energy[1:13:3].tolist()
    assert spectra == sorted(spectra, reverse=True) and spectra[0] > 10 * spectra[3]


def test_installed_photographs_are_scenes_after_the_shipped_ones_of_the_test_split_alone(folder, tmp_path, monkeypatch):
    shipped = [Cutouts(folder, **SMALL).empty_scenes(split, 24).images for split in ("val", "test")]
    path = tmp_path / INSTALLED_PHOTOGRAPHS[0]
    write_png(path, np.full((300, 400, 3), 90, dtype=np.uint8))
    monkeypatch.setattr(scenes_module, "DEBIAN_SHARE", tmp_path)
    val, test = (Cutouts(folder, **SMALL).empty_scenes(split, 24).images for split in ("val", "test"))
    assert torch.equal(val, shipped[0]) and torch.equal(test[:18], shipped[1][:18])
    assert test[20].flatten(1).std(dim=1).max() < 1e-6 < test[17].flatten(1).std(dim=1).min()


def write_classes(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file", "class"), *rows])
    return path


def test_a_file_of_classes_names_files_and_classes(folder, tmp_path):
    rows = [("dog/deep/1.png", "n02124075"), ("cat/deep/0.png", "a, b"), ("cat/deep/2.png", "n02124075")]
    data = Cutouts(folder, **{**SMALL, "classes": write_classes(tmp_path / "classes.csv", *rows)})
    assert data.class_names == ("a, b", "n02124075") and data.num_classes == 2
    found = {path.path.relative_to(folder).as_posix(): data.class_names[path.label] for path in data.cutouts}
    assert found == dict(rows)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_missing_folder_is_refused_with_the_way_to_get_one(folder):
    message = rf"^folder must hold the cut-outs, but there is no folder '{folder}'; apt install tuxpaint-stamps-default"
    with pytest.raises(FileNotFoundError, match=message):
        Cutouts(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class\ncat/none.png,cat\n", r"names 'cat/none.png', but there is no such file in"),
        ("file,class\n../cat.png,cat\n", r"must name each file by its path below folder, got '../cat.png';"),
        ("file,class\ncat/deep/0.png,a\ncat/deep/0.png,b\n", "it names 'cat/deep/0.png' twice"),
        ("file,class\ncat/deep/0.png,n00000001\n", r"in ImageNet's list of 1,000, or by other names, got 'n00000001';"),
        ("file,class\ncat/deep/0.png\n", "line 2 does not hold file and class"),
        ("cat/deep/0.png,cat\n", "its first line is cat/deep/0.png,cat"),
        ("file,class\n", "it has no other line"),
        ('file,class\n"cat/deep/0.png,cat\n', "must be a CSV file in UTF-8 .* but is not"),
        (b"file,class\n\xff.png,cat\n", "must be a CSV file in UTF-8 .* but is not"),
    ],
)
def test_a_wrong_file_of_classes_is_refused_in_a_sentence(folder, tmp_path, content, message):
    path = tmp_path / "classes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"^'{path}' .*{message}"):
        Cutouts(folder, classes=path)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((9, 9, 3), dtype=np.uint8), "it must be a PNG with an alpha channel: save it with transparency"),
        (np.full((9, 9, 4), 127, dtype=np.uint8), r"must show an object, but no pixel has an alpha of \.5 or more;"),
    ],
)
def test_a_picture_that_shows_no_object_is_refused_by_name(folder, pixels, message):
    path = write_png(folder / "cat" / "wrong.png", pixels)
    with pytest.raises(InputError, match=f"^'{path}' .*{message}"):
        Cutouts(folder, **SMALL).samples("test")


def test_too_few_objects_to_split_are_refused(tmp_path):
    write_cutouts(tmp_path / "two", per_class=1)
    with pytest.raises(InputError, match=r"^training_objects 'split' needs objects for each of training, .* has 2;"):
        Cutouts(tmp_path / "two", **SMALL, training_objects="split")


def test_debians_photographs_show_the_classes_that_the_list_says(stamps):
    data = Cutouts(image_size=64, views=2)
    with SHIPPED_CLASSES.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert {each.path.relative_to(stamps).as_posix(): data.class_names[each.label] for each in data.cutouts} == dict(
        rows
    )
    assert rows == sorted(rows) and 80 <= len(rows) <= 150
    assert ["animals/birds/hen.png", "n01514859"] in rows and ["food/fruit/banana.png", "n07753592"] in rows
    samples = data.samples("test")
    assert samples.object_mask.flatten(1).any(dim=1).all()
    assert data.class_names == tuple(sorted(set(dict(rows).values())))
