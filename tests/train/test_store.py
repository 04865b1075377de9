"""What is kept: files and entries whole or not there, told apart by what they follow from, their names plain text."""

import csv
import io
import shutil
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.cli import main
from maskrobust.train.fit.checkpoints import CheckpointError
from maskrobust.train.masks.gallery import Gallery, GalleryImage, GalleryRow, render_gallery
from maskrobust.train.report.results import rows_as_csv
from maskrobust.train.storage import provenance as provenance_module
from maskrobust.train.storage.files import atomic_path, printable
from maskrobust.train.storage.provenance import provenance
from maskrobust.train.storage.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "root", {"seed": 1, "plan.layers": ("layer1",)})


def write(text):
    return lambda folder: (folder / "text").write_text(text)


def text_in(folder):
    return (folder / "text").read_text()


def test_an_entry_is_made_elsewhere_once_and_there_when_it_is_whole(store):
    def make(folder):
        assert folder.parent == store.root and store.get("a") is None and not (store.root / "a").exists()
        write("first")(folder)

    assert store.get_or_make("a", make) == store.root / "a"
    assert text_in(store.get_or_make("a", lambda _: pytest.fail("made again"))) == "first"
    assert sorted(path.name for path in (store.root / "a").iterdir()) == ["entry.json", "text"]


def save_weights(text):
    return lambda folder: save_file({text: torch.zeros(1)}, folder / "text")


def save_state(_text):
    """As a training does whose folder goes between the check that it is there and the opening of the file."""

    def fail(folder):
        raise CheckpointError(f"the checkpoint '{folder / 'state.ckpt'}' cannot be written; make room.")

    return fail


@pytest.mark.parametrize(
    ("write_slowly", "makes_its_folder"),  # FileNotFoundError, safetensors' own, and what a training tells its user
    [(write, False), (write, True), (save_weights, False), (save_state, False)],
)
def test_the_first_of_two_processes_to_finish_counts_and_the_other_takes_its_entry(
    write_slowly, makes_its_folder, store
):
    def slow(folder):
        store.get_or_make("a", write("of the fast one"))
        assert not folder.exists()
        if makes_its_folder:
            folder.mkdir()
        write_slowly("of the slow one")(folder)

    assert text_in(store.get_or_make("a", slow)) == "of the fast one"
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_an_interrupted_entry_leaves_its_files_to_the_next_call_with_the_same_settings(store, tmp_path):
    def interrupted(folder):
        write("after one epoch")(folder)
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        store.get_or_make("a", interrupted)
    found = store.copy_newest_unfinished("a", "text", tmp_path)
    assert found == tmp_path / "text" and found.read_text() == "after one epoch" and store.get("a") is None
    assert Store(store.root, {"seed": 2}).copy_newest_unfinished("a", "text", tmp_path) is None
    store.get_or_make("a", write("whole"))
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_a_file_that_its_process_takes_away_as_it_is_found_is_left_to_it(store, tmp_path, monkeypatch):
    def interrupted(folder):
        write("after one epoch")(folder)
        raise SystemExit(143)

    def copy_too_late(file, folder):
        file.unlink()
        return copy(file, folder)

    with pytest.raises(SystemExit):
        store.get_or_make("a", interrupted)
    copy = shutil.copy2
    monkeypatch.setattr("shutil.copy2", copy_too_late)
    assert store.copy_newest_unfinished("a", "text", tmp_path) is None and not (tmp_path / "text").exists()


def test_a_full_disk_is_no_entry_of_another_process(store):
    def make(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.get_or_make("a", make)


def test_other_settings_are_refused_by_name_and_what_is_kept_stays(store):
    kept = store.get_or_make("a", write("kept"))
    other = Store(store.root, {"seed": 2, "plan.layers": (), "split": "val"})
    for use in (lambda: other.get("a"), lambda: other.get_or_make("a", write("other"))):
        with pytest.raises(InputError, match=r"was made with another plan\.layers, seed, split; call it as it was"):
            use()
    assert text_in(kept) == "kept"
    assert Store(store.root, {"seed": 1}).get("a") == kept  # of the settings that are named alone


def test_what_is_no_entry_is_refused_and_left_alone(store):
    (store.root / "a").mkdir(parents=True)
    (store.root / "a" / "notes.txt").touch()
    with pytest.raises(InputError, match="holds something else than what this version"):
        store.get_or_make("a", write("made"))
    assert [path.name for path in (store.root / "a").iterdir()] == ["notes.txt"]


def test_an_entry_that_has_lost_a_file_is_made_again(store):
    (store.get_or_make("a", write("first")) / "text").unlink()
    assert store.get("a") is None
    assert text_in(store.get_or_make("a", write("again"))) == "again"


def test_a_file_appears_whole_and_an_error_keeps_what_was_there(tmp_path):
    target = tmp_path / "deep" / "file"
    for content, fails in (("first", False), ("half", True)):
        with nullcontext() if not fails else pytest.raises(RuntimeError, match="full"), atomic_path(target) as path:
            path.write_text(content)
            assert target.exists() == fails
            if fails:
                raise RuntimeError("disk full")
    assert target.read_text() == "first" and [each.name for each in target.parent.iterdir()] == ["file"]


def test_the_commit_of_another_project_around_the_package_is_not_taken_for_ours(monkeypatch):
    below = Path(__file__).parent / "data" / "layouts.py"  # in a checkout, but not at its top
    monkeypatch.setattr(provenance_module, "__file__", str(below))
    assert provenance(1.0)["commit"] is None


NASTY = "\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"
HARMLESS = r"\x1b[31mred\x1b[0m\r\x08<b>x</b><script>alert(1)</script>[bold]y[/bold]\u202eegap\x00\x9b2Jz\udc80"


def test_what_is_invisible_is_spelt_out_and_the_rest_stays():
    assert printable(NASTY) == HARMLESS
    kept = "Köln, 犬 🐕 n° 1 (50\u202f%)\tA\nB <b>"
    assert printable(kept) == kept
    assert printable(printable(NASTY)) == HARMLESS


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@SUM(A1)", "\tx", "\rx", '=HYPERLINK("http://x")'])
def test_text_that_a_spreadsheet_would_calculate_is_text(text):
    row = Row(text, text, text, -0.5, None, 1.0, 9, 0, compared_with=text, undefined_because=text, reading=text)
    names = [field.name for field in fields(Row)]
    read = next(csv.DictReader(io.StringIO(rows_as_csv([row]), newline="")))
    texts = ("network", "method", "measure", "compared_with", "undefined_because", "reading")
    assert list(read) == names and {read[name] for name in texts} == {"'" + printable(text)}
    assert [read[name] for name in ("value", "low", "high")] == ["-0.5", "", "1.0"]


def test_a_page_shows_names_and_follows_no_markup_in_them():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    row = GalleryRow("patches", 0.5, (pixels, pixels))
    gallery = Gallery(("black",), (GalleryImage(NASTY, pixels, (row,)),), {NASTY: NASTY})
    page = render_gallery(gallery, NASTY)
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page and r"\u202e" in page
    assert not set(page) & set("\x1b\r\x08\x00\x9b\u202e\udc80")


def test_an_error_quotes_a_file_without_its_control_characters(monkeypatch, capsys):
    def refuse(_):
        raise InputError(f"'{NASTY}' must be another.")

    monkeypatch.setattr("maskrobust.train.masks.main", refuse)
    with pytest.raises(SystemExit):
        main(["masks"])
    assert "\x1b" not in (error := capsys.readouterr().err) and r"\x1b[31m" in error
