"""Which pictures show one object: by a file, by a pattern of names, and in the data modules that take either."""

import json

import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder, ImagesWithMasks, Shards
from maskrobust.train.data.files.objects import ObjectNames
from maskrobust.train.report.headline import ONE_OBJECT_EACH
from tests.train.data.layouts import joined, write_pairs
from tests.train.data.sets.test_folder import write_tree
from tests.train.data.sets.test_shards import named, write_folder
from tests.train.evaluate.test_evaluate_layouts import SMALL, evaluate, settings_of


def partition(data, split):
    """Ids of the samples of a split by the object that they show."""
    ids = joined(data.whole_split(split)).ids
    found: dict[int, set[int]] = {}
    for sample, shown in zip(ids.tolist(), data.object_of(ids).tolist(), strict=True):
        found.setdefault(shown, set()).add(sample)
    return sorted(map(sorted, found.values()))


def test_a_folder_knows_objects_by_a_pattern_or_by_a_file_and_no_object_has_two_classes(tmp_path):
    root, masks = write_tree(tmp_path)
    options = {"image_size": 32, "batch_size": 4, "num_workers": 0}
    by_pattern = Folder(str(root), str(masks), objects=r"/[a-z]+/([0-2])", **options)
    files = by_pattern.files("test")  # 0, 1, 2 and 3
    with pytest.raises(InputError, match=r"must name the object of 'test/cat/3.png'"):
        by_pattern.object_of(torch.tensor([file.id for file in files]))
    known = torch.tensor([file.id for file in files if file.image.stem != "3"])
    assert len(by_pattern.object_of(known).unique()) == 3
    lines = [f"{file.image.relative_to(root).with_suffix('')},{number // 2}" for number, file in enumerate(files)]
    (tmp_path / "objects.csv").write_text("\n".join(["image,object", *lines]))
    by_file = Folder(str(root), str(masks), objects=str(tmp_path / "objects.csv"), **options)
    pairs: dict[tuple[int, int], list[int]] = {}
    for number, file in enumerate(files):
        pairs.setdefault((file.label, number // 2), []).append(file.id)
    assert partition(by_file, "test") == sorted(map(sorted, pairs.values()))
    every = Folder(str(root), str(masks), objects=r"(\w+)/\d+", **options)
    assert partition(every, "test") == sorted(
        sorted(file.id for file in files if file.label == label) for label in (0, 1)
    )


def test_shards_and_images_with_masks_know_objects_by_their_names(tmp_path):
    shards = Shards(**named(write_folder(tmp_path / "shards")), objects=r"\d$", image_size=32, num_workers=0)
    ids = joined(shards.whole_split("val")).ids
    assert len(ids) == 12 and len(shards.object_of(ids).unique()) == 10  # keys 0028 to 0039
    assert set(shards.object_of(ids).tolist()) != set(ids.tolist())
    options = write_pairs(tmp_path)
    data = ImagesWithMasks(**options, objects="(.)", **SMALL)
    assert len(partition(data, "val")) < len(data.files("val"))


@pytest.mark.parametrize("given", ["(", "[a"])
def test_what_is_no_pattern_is_refused_with_its_fault(given):
    with pytest.raises(InputError, match=r"must be a CSV file or a regular expression, got '.*' \("):
        ObjectNames(given)


def test_a_page_says_where_every_picture_counts_as_an_object(tmp_path, capsys):
    options = {**write_pairs(tmp_path, by_class=True), **SMALL}
    for given in ({}, {"objects": "([^/]*)$"}):
        main(evaluate(ImagesWithMasks(**options), {**options, **given}, tmp_path))
        assert (ONE_OBJECT_EACH in capsys.readouterr().out) is not given
        assert settings_of(tmp_path / "out")["names_objects"] is bool(given)
    assert Cues().names_objects
    assert json.loads((tmp_path / "out" / "reliance.json").read_text())["format"] == 5
