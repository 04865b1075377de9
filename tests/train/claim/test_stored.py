"""The folder of a run: whole or not there, whatever the processes that make it, and without any lock."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from maskrobust.errors import InputError
from maskrobust.train.claim.stored import STATE, StoredRun
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.storage.fingerprints import fingerprint


@pytest.fixture
def run(tmp_path: Path) -> StoredRun:
    folder = tmp_path / "arm" / "seed-1"
    learned = folder / "weights.safetensors"
    return StoredRun("arm", 1, folder, learned, "aaaa", {"black": folder / "outcomes-black.npz"}, {}, "bbbb")


def write(run: StoredRun, folder: Path, weights: str) -> dict[str, Any]:
    (folder / run.learned.name).write_text(weights)
    return {"weights": weights}


def is_made_by(run: StoredRun, weights: str) -> bool:
    """Whether the run is there, and all of it is of one process."""
    return run.is_trained() and run.learned.read_text() == read_json(run.training_record)["weights"] == weights


def test_a_run_is_made_elsewhere_and_there_when_it_is_whole(run: StoredRun) -> None:
    def learn(folder: Path) -> dict[str, Any]:
        (folder / STATE).touch()
        assert folder.parent == run.folder.parent and not run.folder.exists() and not run.is_trained()
        return write(run, folder, "weights")

    run.learn(learn)
    assert is_made_by(run, "weights")
    assert sorted(path.name for path in run.folder.iterdir()) == ["training.json", "weights.safetensors"]


def test_the_first_of_two_processes_to_finish_counts_and_the_other_drops_its_own(run: StoredRun) -> None:
    folders: list[Path] = []

    def slow(folder: Path) -> dict[str, Any]:
        folders.append(folder)
        run.learn(fast)
        assert not folder.exists()
        folder.mkdir()  # as whatever writes into it does
        return write(run, folder, "of the slow one")

    def fast(folder: Path) -> dict[str, Any]:
        folders.append(folder)
        return write(run, folder, "of the fast one")

    run.learn(slow)
    assert is_made_by(run, "of the fast one")
    assert len(set(folders)) == 2
    assert list(run.folder.parent.iterdir()) == [run.folder]


def save_weights(run: StoredRun, folder: Path, weights: str) -> dict[str, Any]:
    save_file({"weights": torch.zeros(1)}, folder / run.learned.name)
    return {"weights": weights}


@pytest.mark.parametrize("write_slowly", [write, save_weights])  # FileNotFoundError, and safetensors' own
def test_a_process_whose_unfinished_folder_has_gone_takes_the_run_that_is_there(
    write_slowly: Callable[[StoredRun, Path, str], dict[str, Any]], run: StoredRun
) -> None:
    def slow(folder: Path) -> dict[str, Any]:
        run.learn(lambda other: write(run, other, "of the fast one"))
        return write_slowly(run, folder, "of the slow one")

    run.learn(slow)
    assert is_made_by(run, "of the fast one")


def test_processes_that_finish_at_once_leave_one_whole_run(run: StoredRun) -> None:
    barrier = threading.Barrier(8)
    failed: list[BaseException] = []

    def process(number: int) -> None:
        def learn(folder: Path) -> dict[str, Any]:
            barrier.wait()
            return write(run, folder, str(number))

        try:
            run.learn(learn)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=process, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failed == []
    assert is_made_by(run, run.learned.read_text())
    assert list(run.folder.parent.iterdir()) == [run.folder]


def test_a_run_that_another_process_has_finished_meanwhile_is_not_made_again(run: StoredRun) -> None:
    run.learn(lambda folder: write(run, folder, "first"))
    run.learn(lambda _: pytest.fail("made again"))
    assert run.learned.read_text() == "first"


def test_an_interrupted_run_leaves_its_newest_state_to_the_next_one(run: StoredRun) -> None:
    def interrupted(folder: Path) -> dict[str, Any]:
        (folder / STATE).write_text("after one epoch")
        raise SystemExit(143)

    assert run.newest_state() is None
    with pytest.raises(SystemExit):
        run.learn(interrupted)
    state = run.newest_state()
    assert state is not None and state.read_text() == "after one epoch"
    run.learn(lambda folder: write(run, folder, "weights"))
    assert run.newest_state() is None and list(run.folder.parent.iterdir()) == [run.folder]


def test_a_state_of_other_settings_is_none_to_go_on_from(run: StoredRun) -> None:
    other = run.folder.with_name(".seed-1.cccc.node-1-00000000")
    other.mkdir(parents=True)
    (other / STATE).touch()
    assert run.newest_state() is None


def test_a_full_disk_is_no_run_of_another_process(run: StoredRun) -> None:
    def learn(folder: Path) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run.learn(learn)


def test_a_folder_without_its_weights_is_refused_and_left_alone(run: StoredRun) -> None:
    run.folder.mkdir(parents=True)
    (run.folder / "notes.txt").touch()
    with pytest.raises(InputError, match=r"must hold a whole run, but .* is not in it; delete that folder"):
        run.learn(lambda _: pytest.fail("made"))
    assert (run.folder / "notes.txt").exists()


def test_a_run_with_other_settings_is_refused(run: StoredRun) -> None:
    run.learn(lambda folder: write(run, folder, "weights"))
    write_json(run.training_record, {"fingerprint": "cccc"})
    with pytest.raises(InputError, match="another configuration"):
        run.is_trained()
    shutil.rmtree(run.folder)
    assert not run.is_trained()


def test_fingerprints_tell_contents_apart_and_ignore_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})
