"""Manifests of shards that somebody else has written: nothing in them runs, and each fault is one sentence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from maskrobust.train.data import Shards
from maskrobust.train.data.shards.format import open_address
from maskrobust.train.data.shards.manifest import Manifest
from maskrobust.train.storage.files import LARGEST_JSON, read_json
from tests.train.data.sets.test_shards import write_folder
from tests.train.test_cli import sentence_of

NAMES = [
    "x; touch pwned; true ",
    "$(touch pwned)",
    "`touch pwned`",
    "val-000000.tar; touch pwned",
    "val-000000.tar\n touch pwned",
    "'; touch pwned; '",
    "/etc/passwd",
    "../val-000000.tar",
    "train-000000.tar",
    "val-\N{ARABIC-INDIC DIGIT ZERO}00000.tar",
    "-rf",
    "",
    None,
    7,
    ["val-000000.tar"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "shards", {"train": (3,), "val": (3, 2), "test": (3,)})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", ["pipe:cat {}/{{}}", "{}"])
def test_a_name_that_we_do_not_write_is_refused_before_anything_runs(
    folder: Path, root: str, name: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_json(folder / "manifest.json")
    content["splits"]["val"]["shards"][0]["name"] = name
    (folder / "manifest.json").write_text(json.dumps(content))
    monkeypatch.chdir(folder.parent)
    given = ["--data=Shards", f"--data.root={root.format('shards')}", "--data.view=as_is", "--data.image_size=32"]
    quick = ["--data.num_workers=0", "--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    sentence = sentence_of(["fit", *given, *quick], capsys)
    assert "(the name of a shard must be as in val-000000.tar)" in sentence
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]


def test_a_name_in_a_command_is_one_word_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="exit"), open_address("pipe:cat ./{}", "x; touch pwned; true ") as stream:
        stream.read()
    assert list(tmp_path.iterdir()) == []


def changed(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of nested JSON with the value at a path like "splits/val/shards/0/name" replaced."""
    copied = copy.deepcopy(content)
    *parents, last = path.split("/")
    place: Any = copied
    for each in parents:
        place = place[int(each) if isinstance(place, list) else each]
    place[last] = value
    return copied


CHANGES = [
    ("format", "maskrobust shards 2", "format must be maskrobust shards 1"),
    ("format", ["maskrobust shards 1"], "format must be"),
    ("class_names", [], "class_names must be 1 to 100000 names"),
    ("class_names", "abcde", "class_names must be 1 to 100000 names"),
    ("class_names", ["a", 7], "class_names must be texts"),
    ("class_names", ["a" * 256], "class_names must be texts of at most 255 characters"),
    ("mean", [0.5, 0.5], r"mean must be three numbers in \[0, 1\]"),
    ("mean", [0.5, 0.5, float("nan")], "mean must be three numbers"),
    ("mean", [0.5, 0.5, 10**400], "mean must be three numbers"),
    ("std", [0.2, 0.2, 0], "std must be three numbers"),
    ("std", [0.2, 0.2, True], "std must be three numbers"),
    ("std", "0.2", "std must be three numbers"),
    ("source", None, "source must be a mapping"),
    ("samples_per_shard", 0, r"samples_per_shard must be a whole number in \[1, 1000000\]"),
    ("samples_per_shard", "17", "samples_per_shard must be a whole number"),
    ("resize", 0, "resize must be a whole number"),
    ("resize", "256", "resize must be a whole number"),
    ("splits", [], "splits must be a mapping"),
    ("splits/extra", {"shards": []}, "splits must be those of train, val, test"),
    ("splits/val", [], "val must be a mapping"),
    ("splits/val/shards", {}, "splits.val.shards must be a list"),
    ("splits/val/shards/0/samples", -1, "samples must be a whole number"),
    ("splits/val/shards/0/samples", 2**40, "samples must be a whole number"),
    ("splits/val/shards/0/samples", 3.0, "samples must be a whole number"),
    ("splits/val/shards/0/masks", 4, r"masks must be a whole number in \[0, 3\]"),
    ("splits/val/shards/0/bytes", 10**30, "bytes must be a whole number"),
    ("splits/val/shards/0/bytes", True, "bytes must be a whole number"),
    ("splits/val/shards/0/sha256", "0" * 63, "sha256 of val-000000.tar must be 64 hexadecimal digits"),
    ("splits/val/shards/0/sha256", None, "64 hexadecimal digits"),
    ("splits/val/shards/0/more", 1, "a shard must be its six entries"),
    ("splits/val/shards/0/made_from", "0" * 63, "made_from of val-000000.tar must be 64 hexadecimal digits"),
    ("shuffle_seed", -1, "shuffle_seed must be a whole number"),
    ("shuffle_seed", True, "shuffle_seed must be a whole number"),
]


@pytest.mark.parametrize(("path", "value", "message"), CHANGES)
def test_what_is_out_of_type_or_range_is_named(folder: Path, path: str, value: object, message: str) -> None:
    content = read_json(folder / "manifest.json")
    assert Manifest.from_json(content, "here").to_json() == content | {"class_names": tuple("abcde")} | {
        name: tuple(content[name]) for name in ("mean", "std")
    }
    with pytest.raises(ValueError, match=message) as refused:
        Manifest.from_json(changed(content, path, value), "here")
    assert str(refused.value).startswith("'here' must be a manifest of the format") and "\n" not in str(refused.value)


BOMBS = {
    "nested": b"[" * 100_000 + b"]" * 100_000,
    "nested mappings": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "of too many digits": b'{"format": ' + b"9" * 10_000 + b"}",
    "too large": b" " * (LARGEST_JSON + 1),
    "not UTF-8": b'{"format": "\xff"}',
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_json_that_cannot_be_parsed_in_bounds_is_one_sentence(folder: Path, content: bytes) -> None:
    path = folder / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"must hold manifest.json, which cannot be read \(") as refused:
        Shards(str(folder))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    with pytest.raises(ValueError, match="is not readable JSON"):
        read_json(path)
