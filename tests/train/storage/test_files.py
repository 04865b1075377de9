from pathlib import Path

import pytest

from maskrobust.train.storage.files import atomic_path, read_json, write_json


def test_a_file_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "deep" / "file") as path:
        path.write_text("content")
        assert not (tmp_path / "deep" / "file").exists()
    assert (tmp_path / "deep" / "file").read_text() == "content"
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["file"]


def test_an_error_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("before")

    def write_half() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="full"):
        write_half()
    assert target.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"value": float("nan")})
    assert not (tmp_path / "file.json").exists()


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ValueError, match=r"file\.json' is not readable JSON"):
        read_json(tmp_path / "file.json")
