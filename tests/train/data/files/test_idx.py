"""Fashion-MNIST's files are found where they may lie, and damaged ones are named."""

import gzip
import tracemalloc

import numpy as np
import pytest
import torch
import torchvision

from maskrobust.errors import InputError
from maskrobust.train.data.files import idx
from maskrobust.train.data.files.idx import find_files, read_garments
from tests.train.data.conftest import idx_bytes, square_garments, write_fashion_files

NAMES = [f"{prefix}-{kind}-ubyte" for prefix in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@pytest.fixture
def no_usual_places(tmp_path, monkeypatch):
    """Neither Debian's folder nor a filled cache; returns the cache folder."""
    monkeypatch.setattr(idx, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch" / "hub"))
    return tmp_path / "torch" / "maskrobust"


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw", "usr/share/datasets/fashion-mnist"])
def test_files_are_found_in_every_layout_below_a_given_root(tmp_path, layout, compressed):
    folder = write_fashion_files(tmp_path / layout, compressed)
    assert find_files(tmp_path) == folder
    assert find_files(str(tmp_path)) == folder
    images, labels = read_garments(folder, "train")
    assert (images == square_garments(40)[0]).all()
    assert (labels == square_garments(40)[1]).all() and labels.dtype == np.int64
    assert len(read_garments(folder, "test")[0]) == 20


def test_a_given_root_that_is_empty_is_refused_although_other_sources_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN_FOLDER", write_fashion_files(tmp_path / "debian"))
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"^root must hold .* but '{root}' does not;"):
            find_files(root)


def test_torchvision_downloads_into_the_cache_once(no_usual_places, monkeypatch):
    calls = []

    def download(root, download):
        calls.append((root, download))
        write_fashion_files(no_usual_places / "FashionMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    assert find_files(None) == find_files(None) == no_usual_places / "FashionMNIST" / "raw"
    assert calls == [(str(no_usual_places), True)]


@pytest.mark.parametrize("error", [RuntimeError("no mirror answered"), OSError("no mirror answered")], ids=type)
def test_when_nothing_works_one_error_names_the_three_ways(no_usual_places, monkeypatch, error):
    def fail(root, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(FileNotFoundError) as caught:
        find_files(None)
    message = str(caught.value)
    for part in ("as root", "dataset-fashion-mnist", "torchvision", str(no_usual_places), "no mirror answered"):
        assert part in message


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WHOLE = idx_bytes(square_garments(40)[0])
COMPRESSED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        ("", WHOLE[:-1], "must be an IDX file"),
        ("", b"\0\0\x0d\3" + WHOLE[4:], "must be an IDX file"),
        ("", WHOLE[:4] + b"\xff" * 4 + WHOLE[8:], "must be an IDX file"),
        ("", idx_bytes(np.zeros((40, 28, 27))), r"items of shape \(28, 28\)"),
        (".gz", WHOLE, "must be a whole gzip file"),
        (".gz", COMPRESSED[:12] + b"\xff\xff" + COMPRESSED[14:], "must be a whole gzip file"),
    ],
    ids=["cut", "floats", "count", "size", "plain as gzip", "flipped"],
)
def test_a_damaged_file_is_named(fashion_root, suffix, content, message):
    (fashion_root / IMAGES).unlink()
    path = fashion_root / f"{IMAGES}{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path} .*{message}.*; fetch the file again"):
        read_garments(fashion_root, "train")


def test_no_more_than_the_official_number_of_images_is_taken_into_memory(fashion_root, monkeypatch):
    monkeypatch.setitem(idx.OFFICIAL_SIZES, "train", 1000)
    (fashion_root / IMAGES).unlink()
    header = WHOLE[:4] + (10_000).to_bytes(4, "big") + WHOLE[8:16]
    (fashion_root / f"{IMAGES}.gz").write_bytes(gzip.compress(header + bytes(10_000 * 784)))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="at most 1000, but is not"):
            read_garments(fashion_root, "train")
        assert tracemalloc.get_traced_memory()[1] < 5_000 * 784  # half of what the file expands to
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("labels", "message"), [(np.zeros(39), "40 images .* got 39 labels up to 0"), (np.full(40, 10), "up to 10")]
)
def test_labels_that_do_not_fit_the_images_are_refused(fashion_root, labels, message):
    (fashion_root / LABELS).write_bytes(idx_bytes(labels))
    with pytest.raises(InputError, match=f"^'{fashion_root}' must hold a label below 10 for .*{message}"):
        read_garments(fashion_root, "train")
