"""Files and the store's entries: whole or not there, whatever the processes that make them, and without any lock."""

import threading

import pytest
import torch
from safetensors.torch import save_file

from maskrobust.errors import InputError
from maskrobust.train.storage import provenance as provenance_module
from maskrobust.train.storage.files import atomic_path, read_json, write_json
from maskrobust.train.storage.fingerprints import fingerprint
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


@pytest.mark.parametrize("write_slowly", [write, save_weights])  # FileNotFoundError, and safetensors' own
@pytest.mark.parametrize("makes_its_folder", [False, True])
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


def test_processes_that_finish_at_once_leave_one_whole_entry(store):
    barrier, found = threading.Barrier(8), list[str]()

    def process(number):
        def make(folder):
            barrier.wait()
            write(f"{number}")(folder)

        found.append(text_in(store.get_or_make("a", make)))

    threads = [threading.Thread(target=process, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(found) == 8 and set(found) == {text_in(store.root / "a")}
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_an_interrupted_entry_leaves_its_files_to_the_next_call_with_the_same_settings(store):
    def interrupted(folder):
        write("after one epoch")(folder)
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        store.get_or_make("a", interrupted)
    found = store.newest_unfinished("a", "text")
    assert found is not None and found.read_text() == "after one epoch" and store.get("a") is None
    assert Store(store.root, {"seed": 2}).newest_unfinished("a", "text") is None
    store.get_or_make("a", write("whole"))
    assert list(store.root.iterdir()) == [store.root / "a"]


def test_a_full_disk_is_no_entry_of_another_process(store):
    def make(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.get_or_make("a", make)


def test_other_settings_are_refused_by_name_and_what_is_kept_stays(store):
    kept = store.get_or_make("a", write("kept"))
    other = Store(store.root, {"seed": 2, "plan.layers": (), "split": "val"})
    for use in (other.check, lambda: other.get("a"), lambda: other.get_or_make("a", write("other"))):
        with pytest.raises(InputError, match=r"was made with another plan\.layers, seed, split; call it as it was"):
            use()
    assert text_in(kept) == "kept"
    assert Store(store.root, {"seed": 1}).get("a") == kept  # of the settings that are named alone


def test_what_is_no_entry_is_refused_and_left_alone(store):
    (store.root / "a").mkdir(parents=True)
    (store.root / "a" / "notes.txt").touch()
    for use in (store.check, lambda: store.get_or_make("a", write("made"))):
        with pytest.raises(InputError, match="holds something else than what this version"):
            use()
    assert [path.name for path in (store.root / "a").iterdir()] == ["notes.txt"]


def test_an_entry_that_has_lost_a_file_is_made_again(store):
    (store.get_or_make("a", write("first")) / "text").unlink()
    assert store.get("a") is None
    assert text_in(store.get_or_make("a", write("again"))) == "again"


def test_a_store_is_removed_with_all_its_entries(store):
    store.get_or_make("a", write("kept"))
    store.remove()
    assert list(store.root.parent.iterdir()) == []


def test_fingerprints_tell_contents_apart_and_ignore_order():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})


def test_a_file_appears_whole(tmp_path):
    with atomic_path(tmp_path / "deep" / "file") as path:
        path.write_text("content")
        assert not (tmp_path / "deep" / "file").exists()
    assert (tmp_path / "deep" / "file").read_text() == "content"
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["file"]


def test_an_error_keeps_what_was_there(tmp_path):
    target = tmp_path / "file"
    target.write_text("before")

    def write_half():
        with atomic_path(target) as path:
            path.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="full"):
        write_half()
    assert target.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file.json", {"value": float("nan")})
    assert not (tmp_path / "file.json").exists()


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "file.json").write_text("{")
    with pytest.raises(ValueError, match=r"file\.json' is not readable JSON"):
        read_json(tmp_path / "file.json")


def test_the_commit_of_another_project_around_the_package_is_not_taken_for_ours(monkeypatch):
    monkeypatch.setattr(provenance_module, "__file__", __file__)  # in a checkout, but not at its top
    assert provenance(1.0, "maskrobust claim")["commit"] is None
