"""Manifests that somebody else has written: nothing in them runs, each fault is one sentence."""

import copy
import json
from typing import Any

import pytest

from maskrobust.errors import InputError
from maskrobust.train.data import Shards
from maskrobust.train.data.shards.format import open_address, read_manifest
from maskrobust.train.storage.files import LARGEST_JSON, read_json
from tests.train.data.sets.test_shards import write_folder

NAMES = [
    "x; touch pwned; true ",
    "val-000000.tar\n touch pwned",
    "/etc/passwd",
    "../val-000000.tar",
    "train-000000.tar",
    "val-\N{ARABIC-INDIC DIGIT ZERO}00000.tar",
    None,
    ["val-000000.tar"],
]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards", {"train": (3,), "val": (3, 2), "test": (3,)})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", ["pipe:cat {}/{{}}", "{}"])
def test_a_name_that_we_do_not_write_is_refused_before_anything_runs(folder, root, name, monkeypatch):
    content = read_json(folder / "manifest.json")
    content["splits"]["val"][0]["name"] = name
    (folder / "manifest.json").write_text(json.dumps(content))
    monkeypatch.chdir(folder.parent)
    with pytest.raises(InputError, match=r"must be a manifest as maskrobust shards writes it") as refused:
        Shards(root.format("shards"))
    assert "\n" not in str(refused.value)
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]


def test_a_name_in_a_command_is_one_word_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="exit"), open_address("pipe:cat ./{}", "x; touch pwned; true ") as stream:
        stream.read()
    assert list(tmp_path.iterdir()) == []


def changed(content, path, value):
    """A copy of nested JSON with the value at a path like "splits/val/0/name" replaced."""
    copied = copy.deepcopy(content)
    *parents, last = path.split("/")
    place: Any = copied
    for each in parents:
        place = place[int(each) if isinstance(place, list) else each]
    place[last] = value
    return copied


CHANGES: dict[str, list[object]] = {
    "format": ["maskrobust shards 1"],
    "class_names": ["abcde", ["a" * 256]],
    "mean": [[0.5, 0.5], [0.5, 0.5, float("nan")], [0.5, 0.5, 1.1]],
    "std": [[0.2, 0.2, 0]],
    "splits": [None],
    "splits/extra": [[]],
    "splits/val": [[], {}],
    "splits/val/0/samples": [0, 2**40, 3.0],
    "splits/val/0/masks": [4],
    "objects": ["0", {"x": 1}, {"1": -1}, {"1": 2**63}],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in CHANGES.items() for value in values])
def test_what_is_out_of_type_or_range_is_refused_in_one_sentence(folder, path, value):
    content = read_json(folder / "manifest.json")
    assert read_manifest(str(folder)).model_dump(mode="json") == content
    (folder / "manifest.json").write_text(json.dumps(changed(content, path, value)))
    with pytest.raises(InputError, match="must be a manifest as maskrobust shards writes it, but is not") as refused:
        read_manifest(str(folder))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700


BOMBS = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "of too many digits": b'{"format": ' + b"9" * 10_000 + b"}",
    "too large": b" " * (LARGEST_JSON + 1),
    "not UTF-8": b'{"format": "\xff"}',
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_json_that_cannot_be_parsed_in_bounds_is_one_sentence(folder, content):
    path = folder / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold manifest.json, which cannot be read \(") as refused:
        Shards(str(folder))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    with pytest.raises(ValueError, match="is not readable JSON"):
        read_json(path)
