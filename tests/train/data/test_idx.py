"""Fashion-MNIST's files are found where they may lie, and damaged ones are named."""

import gzip

import numpy as np
import pytest
import torch
import torchvision

from maskrobust.train.data import idx
from maskrobust.train.data.idx import find_given, find_or_download, read_garments, read_idx
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
    assert find_given(tmp_path) == folder
    assert find_given(str(tmp_path)) == folder
    images, labels = read_garments(folder, "train")
    assert (images == square_garments(40)[0]).all()
    assert (labels == square_garments(40)[1]).all() and labels.dtype == np.int64
    assert len(read_garments(folder, "test")[0]) == 20


@pytest.mark.parametrize("missing", NAMES)
def test_a_root_without_one_of_the_files_is_refused(fashion_root, missing):
    (fashion_root / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"^root must hold the four files .* but '{fashion_root}' does not;"):
        find_given(fashion_root)


def test_a_given_root_that_is_empty_is_refused_although_other_sources_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(idx, "DEBIAN_FOLDER", write_fashion_files(tmp_path / "debian"))
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"^root must hold .* but '{root}' does not;"):
            find_given(root)


def test_an_empty_root_is_not_the_working_directory(fashion_root, monkeypatch):
    monkeypatch.chdir(fashion_root)
    with pytest.raises(FileNotFoundError, match=r"^root must hold .* but '' does not;"):
        find_given("")


def test_debians_files_come_before_the_cache(no_usual_places, tmp_path):
    cached = write_fashion_files(no_usual_places / "FashionMNIST" / "raw")
    assert find_or_download() == cached
    debian = write_fashion_files(tmp_path / "debian", compressed=True)
    assert find_or_download() == debian


def test_torchvision_downloads_into_the_cache_once(no_usual_places, monkeypatch):
    calls = []

    def download(root, download):
        calls.append((root, download))
        write_fashion_files(no_usual_places / "FashionMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    assert find_or_download() == find_or_download() == no_usual_places / "FashionMNIST" / "raw"
    assert calls == [(str(no_usual_places), True)]


@pytest.mark.parametrize("error", [RuntimeError("no mirror answered"), OSError("no mirror answered")], ids=type)
def test_when_nothing_works_one_error_names_the_three_ways(no_usual_places, monkeypatch, error):
    def fail(root, download):
        raise error

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", fail)
    with pytest.raises(FileNotFoundError) as caught:
        find_or_download()
    message = str(caught.value)
    for part in ("as root", "dataset-fashion-mnist", "torchvision", str(no_usual_places), "no mirror answered"):
        assert part in message


@pytest.mark.parametrize("shape", [(3, 28, 28), (7,), (0, 2), (2, 3, 4, 5)])
def test_an_idx_file_is_read_back(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (tmp_path / "file").write_bytes(idx_bytes(array))
    found = read_idx(tmp_path / "file", dimensions=len(shape))
    assert found.shape == shape and found.dtype == np.uint8
    assert (found == array).all()


WHOLE = idx_bytes(np.arange(24).reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut", WHOLE[:-1], "must hold 24 bytes after its header, but holds 23"),
        ("long", WHOLE + b"\0", "must hold 24 bytes after its header, but holds 25"),
        ("beheaded", WHOLE[:9], "must be an IDX file of bytes with 3 dimension"),
        ("empty", b"", "must be an IDX file .* but begins with nothing"),
        ("flat", idx_bytes(np.arange(24)), "must be an IDX file of bytes with 3 dimension"),
        ("floats", b"\0\0\x0d\3" + WHOLE[4:], "but begins with 00 00 0d 03"),
        ("page", b"<html>not found</html>", "but begins with 3c 68 74 6d"),
        ("cut.gz", gzip.compress(WHOLE, mtime=0)[:-12], "must be a whole gzip file, but is damaged"),
        ("plain.gz", WHOLE, "must be a whole gzip file, but is damaged"),
        (
            "flipped.gz",
            gzip.compress(WHOLE, mtime=0)[:12] + b"\xff\xff" + gzip.compress(WHOLE, mtime=0)[14:],
            "must be a whole gzip file",
        ),
    ],
    ids=["cut", "long", "beheaded", "empty", "flat", "floats", "page", "cut gzip", "plain as gzip", "flipped gzip"],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{path} .*{message}.*; fetch the file again"):
        read_idx(path, dimensions=3)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-images-idx3-ubyte", np.zeros((40, 28, 27)), "must hold images of 28x28 pixels, but they are 28x27"),
        ("train-labels-idx1-ubyte", np.zeros(39), "must hold one label for each of the 40 images .* but holds 39"),
        ("train-labels-idx1-ubyte", np.full(40, 10), "must hold labels below 10, but holds 10"),
    ],
)
def test_a_file_that_does_not_fit_is_named(fashion_root, name, array, message):
    (fashion_root / name).write_bytes(idx_bytes(array))
    with pytest.raises(ValueError, match=f"^{fashion_root / name} {message}"):
        read_garments(fashion_root, "train")


def test_a_file_that_went_missing_is_named(fashion_root):
    (fashion_root / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{fashion_root} must hold .*t10k-labels-idx1-ubyte"):
        read_garments(fashion_root, "test")
