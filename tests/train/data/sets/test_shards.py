"""Shards as WebDataset's users write them: every sample once, streams that can be repeated, faults by name."""

import gzip
import io
import json
import logging
import re
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from maskrobust.augment.batch import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError, MissingFileError
from maskrobust.train.data import Folder, Shards, shard_streams
from maskrobust.train.data.batches import numbered_batches
from maskrobust.train.data.loading import Position
from maskrobust.train.data.sets import shards as shards_module
from maskrobust.train.data.shard_streams import SampleReader, sample_id
from tests.conftest import require_component
from tests.train.data.layouts import joined
from tests.train.data.sets.test_folder import write_tree

SIZE = 32
COUNTS: dict[str, tuple[int, ...]] = {"train": (3, 17, 8), "val": (5, 3, 4), "test": (7,)}


def png(pixels: Any) -> bytes:
    """An encoded image."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def make_sample(number: int) -> dict[str, Any]:
    """The files of a sample: noise with an object of its own height; every fourth sample has no mask."""
    image = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    object_mask = np.zeros((SIZE, SIZE), dtype=bool)
    object_mask[4 : 8 + number % 9, 6:20] = True
    files = {"__key__": f"{number:04d}", "png": png(image), "cls": f"{number % 5}".encode()}
    return files | ({"mask.png": png(object_mask)} if number % 4 else {})


def write_folder(folder: Path, counts: Any = COUNTS) -> Path:
    """Shards of given sizes by WebDataset's writer, with keys that go on from shard to shard."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = count()
    for split, sizes in counts.items():
        for shard, size in enumerate(sizes):
            with webdataset.TarWriter(str(folder / f"{split}-{shard:06d}.tar"), encoder=False) as tar:
                for _ in range(size):
                    tar.write(make_sample(next(numbers)))
    return folder


def named(place: object, counts: Any = COUNTS) -> dict[str, Any]:
    """The options that read such shards below a place."""
    shards = {split: f"{place}/{split}-{{000000..{len(sizes) - 1:06d}}}.tar" for split, sizes in counts.items()}
    return shards | {"train_samples": sum(counts.get("train", (1,))), "classes": 5}


def make(place: object, counts: Any = COUNTS, **options: Any) -> Shards:
    """The data module of such shards, small."""
    return Shards(**{**named(place, counts), "image_size": SIZE, "batch_size": 4, "num_workers": 0, **options})


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


def by_id(batches):
    batch = joined(batches)
    return batch.select(batch.ids.argsort())


@pytest.mark.parametrize(("split", "ranks", "workers"), [("val", 1, 0), ("val", 2, 2), ("val", 3, 2), ("test", 3, 2)])
def test_evaluation_has_every_sample_once_over_all_ranks(folder, split, ranks, workers, monkeypatch):
    ids = Counter()
    for rank in range(ranks):
        monkeypatch.setattr(shards_module, "rank_and_number", lambda rank=rank: (rank, ranks))
        data = make(folder, batch_size=3, num_workers=workers)
        batches = [*(data.val_dataloader() if split == "val" else data.test_dataloader())]
        ids.update(chain.from_iterable(batch.ids.tolist() for batch in batches))
    first = sum(COUNTS["train"]) + (sum(COUNTS["val"]) if split == "test" else 0)
    keys = iter(range(first, first + sum(COUNTS[split])))
    expected = {
        sample_id(split, f"{split}-{shard:06d}.tar", f"{next(keys):04d}"): 1
        for shard, size in enumerate(COUNTS[split])
        for _ in range(size)
    }
    assert ids == expected
    assert len(joined(make(folder).whole_split(split)).ids) == len(expected)


@pytest.mark.parametrize(("ranks", "batches"), [(2, 4), (50, 3)], ids=["a part", "an empty part"])
def test_a_rank_without_further_samples_repeats_one_until_the_others_have_none(folder, ranks, batches, monkeypatch):
    monkeypatch.setattr(shards_module, "rank_and_number", lambda: (1, ranks))
    others = iter([True] * batches)
    monkeypatch.setattr(shard_streams, "of_all_ranks", lambda own: [own, next(others, False)])
    loader = make(folder).val_dataloader()
    found = [batch.ids.tolist() for batch in loader]
    monkeypatch.delattr(shard_streams, "of_all_ranks")  # the number is known now
    assert [batch.ids.tolist() for batch in loader] == found
    known = set(joined(make(folder).whole_split("val")).ids.tolist())
    assert len(found) == batches and known.issuperset(chain.from_iterable(found))
    assert [len(ids) for ids in found] == ([4, 1, 1, 1] if ranks == 2 else [1] * 3)


def test_an_image_has_the_same_pixels_mask_and_label_in_a_folder_and_in_shards(tmp_path):
    root, mask_root = write_tree(tmp_path)
    data = Folder(str(root), str(mask_root), image_size=32, num_workers=0)
    with webdataset.ShardWriter(f"{tmp_path}/%d.tar", maxcount=2, encoder=False, verbose=0) as writer:
        for file in data.files("val"):
            mask = {} if file.mask is None else {"seg.png": file.mask.read_bytes()}
            about = json.dumps({"class": data.class_names[file.label]}).encode()
            writer.write(
                {"__key__": f"{file.label}/{file.image.stem}", "png": file.image.read_bytes(), "json": about} | mask
            )
    shards = Shards(
        val=f"{tmp_path}/{{0..2}}.tar", classes=[*data.class_names], label_field="class", mask="seg.png", image_size=32,
        num_workers=0,
    )  # fmt: skip
    found, expected = joined(shards.val_dataloader()), joined(data.val_dataloader())
    assert expected.object_mask.any() and equal(found[1:4], expected[1:4])


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of a folder, on this machine alone."""
    require_component("curl", "apt install curl")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def server(folder):
    with serving(folder) as address:
        yield address


@pytest.mark.parametrize("place", ["list", "folder", "joined", "cached", "pipe", "tgz"])
def test_shards_are_read_from_wherever_webdataset_reads_them(folder, place, request, tmp_path, monkeypatch):
    expected = by_id(make(folder).val_dataloader())
    names = [f"val-{number:06d}.tar" for number in range(3)]
    (tmp_path / "only").mkdir()
    for name in names:
        content = (folder / name).read_bytes()
        packed = gzip.compress(content) if place == "tgz" else content
        (tmp_path / "only" / name.replace(".tar", ".tgz" if place == "tgz" else ".tar")).write_bytes(packed)
    if place == "cached":
        monkeypatch.setenv("WDS_CACHE", str(tmp_path / "cache"))
    given: Any = {
        "list": [str(folder / name) for name in names],
        "joined": f"{folder}/{names[0]}::{folder}/val-{{000001..000002}}.tar",
        "cached": f"{request.getfixturevalue('server')}/val-{{000000..000002}}.tar",
        "pipe": f"pipe:cat '{folder}'/val-{{000000..000002}}.tar",
    }.get(place, str(tmp_path / "only"))
    data = make(folder, val=given, train=given, num_workers=2 if place == "cached" else 0)
    for _ in range(2):
        found = by_id(data.val_dataloader())
        assert sorted(found.labels.tolist()) == sorted(expected.labels.tolist())
        assert torch.equal(found.images.sum(dim=(1, 2, 3)).sort()[0], expected.images.sum(dim=(1, 2, 3)).sort()[0])
        assert place == "tgz" or set(found.ids.tolist()) == set(expected.ids.tolist()), "wherever they lie"
    assert len(joined(data.train_dataloader()).ids) == 28
    assert len([*tmp_path.glob("cache/*")]) == (3 if place == "cached" else 0)


class Keys:
    """Reads the key of a sample alone."""

    skip = False

    def decoded(self, samples, epoch):
        nothing = torch.zeros(1)
        yield from (Batch(torch.tensor(int(each["__key__"])), nothing, nothing, nothing) for each in samples)


def trained_on(folder, sizes, ranks, workers, monkeypatch, batch_size=2, epochs=range(1)):
    """How often each sample is trained on, by all loader processes of all ranks."""
    found = Counter[int]()
    for rank in range(ranks):
        monkeypatch.setattr(shards_module, "rank_and_number", lambda rank=rank: (rank, ranks))
        stream: Any = make(folder, {"train": sizes}, batch_size=batch_size).train_dataloader().dataset
        stream.reader = Keys()
        for stream.position in [Position(epoch, 0) for epoch in epochs]:
            for worker in range(workers):
                info = SimpleNamespace(id=worker, num_workers=workers)
                monkeypatch.setattr(shard_streams, "get_worker_info", lambda info=info: info)
                found.update(each for batch in stream for each in batch.ids.tolist())
    return [found[each] for each in range(sum(sizes))]


@pytest.mark.parametrize(
    ("sizes", "ranks", "workers"), [((12,) * 2, 3, 2), ((12,) * 5, 2, 3), ((3, 17, 8), 1, 1), ((12,) * 3, 1, 12)]
)
def test_every_sample_is_trained_on_once_an_epoch_on_any_number_of_processes(
    tmp_path, sizes, ranks, workers, monkeypatch
):
    times = trained_on(write_folder(tmp_path, {"train": sizes}), sizes, ranks, workers, monkeypatch)
    assert sum(times) == sum(sizes) // (2 * ranks) * 2 * ranks
    assert times.count(0) <= ranks * workers / 2 and times.count(0) == times.count(2) + sum(sizes) - sum(times)


def test_of_uneven_shards_every_sample_is_trained_on_in_some_epoch(tmp_path, monkeypatch):
    sizes = (3, 17, 8)
    folder = write_folder(tmp_path, {"train": sizes})
    times = trained_on(folder, sizes, 3, 2, monkeypatch, batch_size=1, epochs=range(40))
    assert sum(times) == 40 * 27 and min(times) >= 10


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_an_epoch_that_was_left_goes_on_with_the_batches_that_it_would_have_had(folder, workers, on_bad):
    if on_bad == "skip":
        spoilt(folder, lambda files: [(n, b"?" if n == "0004.cls" else c) for n, c in files], "train-000001.tar")
    data = make(folder, num_workers=workers, shuffle_buffer=5, on_bad=on_bad)
    data.position = lambda: Position(3, 0)
    whole = [*data.train_dataloader()]
    assert len(whole) == 7
    for done in (1, 4):
        data.position = lambda done=done: Position(3, done)
        rest = [*data.train_dataloader()]
        assert len(rest) == 7 - done and equal(joined(rest), joined(whole[done:]))


def test_the_stream_is_a_function_of_seed_epoch_rank_and_loader_process(folder, monkeypatch):
    def epoch(rank=0, epoch=0, **options):
        monkeypatch.setattr(shards_module, "rank_and_number", lambda: (rank, 2))
        data = make(folder, shuffle_buffer=16, **options)
        data.position = lambda: Position(epoch, 0)
        return [*data.train_dataloader()]

    one, two = epoch(), epoch(num_workers=2)
    assert [len(batch.ids) for batch in one] == [len(batch.ids) for batch in two] == [4] * 3
    assert equal(joined(one), joined(epoch())) and equal(joined(two), joined(epoch(num_workers=2)))
    for change in ({"rank": 1}, {"epoch": 1}, {"seed": 1}):
        assert not equal(joined(one), joined(epoch(**change))), change


def spoilt(folder, change=None, shard="val-000000.tar"):
    """Write the files of a shard again, as (name, content), after a change."""
    with tarfile.open(folder / shard) as tar:
        files = [(each.name, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    with tarfile.open(folder / shard, "w") as tar:
        for name, content in change(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def replace(suffix, content):
    """Replace one file of the second sample."""
    return partial(spoilt, change=lambda files: [(n, content if n == f"0029.{suffix}" else c) for n, c in files])


def rename(old, new):
    return partial(spoilt, change=lambda files: [(n.replace(old, new), c) for n, c in files])


def drop(name):
    return partial(spoilt, change=lambda files: [(n, c) for n, c in files if n != name])


def cut(size):
    return lambda folder: (folder / "val-000000.tar").write_bytes((folder / "val-000000.tar").read_bytes()[:size])


def from_header(number, change):
    """Change the bytes of a shard from a header on."""

    def spoil(folder):
        path = folder / "val-000000.tar"
        with tarfile.open(path) as tar:
            offset = tar.getmembers()[number].offset
        content = path.read_bytes()
        path.write_bytes(content[:offset] + change(content[offset:]))

    return spoil


def write(content):
    return lambda folder: (folder / "val-000000.tar").write_bytes(content)


def link(folder):
    with tarfile.open(folder / "val-000000.tar", "w") as tar:
        entry = tarfile.TarInfo("0029.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(entry)


def climb(folder):
    drop("0029.cls")(folder)
    rename("0029.", "../../executed\n29.")(folder)


SAMPLE, SHARD = "val-000000.tar/0029' ", "val-000000.tar' cannot be read after "
FAULTS = {
    "a shard that breaks off in a file": (cut(9000), SHARD + "1 samples (unexpected end of data)"),
    "a shard that breaks off between files": (
        from_header(4, lambda rest: rest[:0]),
        SHARD + "1 samples (it has no header of a file, nor an end, where one belongs: empty header)",
    ),
    "a shard without samples": (partial(spoilt, change=lambda _: []), SHARD + "0 samples (it holds no sample)"),
    "a bucket's error": (write(b"<?xml version='1.0'?><Error/>".ljust(600)), SHARD + "0 samples (it has no header"),
    "a broken header between files": (
        from_header(4, lambda rest: b"?" + rest[1:]),
        SHARD + "1 samples (it has no header of a file, nor an end, where one belongs: bad checksum)",
    ),
    "a link": (link, SHARD + "0 samples (it holds no sample)"),
    "text for a number": (replace("cls", b"cat"), SAMPLE + "has the label 'cat', which is none of the 5"),
    "a label of no text": (replace("cls", b"\xff\xfe"), SAMPLE + "has 'utf-8' codec"),
    "two images": (rename("0029.mask.png", "0029.jpg"), SAMPLE + "has 2 images in "),
    "an image twice": (
        partial(spoilt, change=lambda files: [file for file in files for _ in range(1 + (file[0] == "0029.png"))]),
        SHARD + "1 samples (0029.png: duplicate file name",
    ),
    "no image inside": (replace("png", b"GIF"), "val-000000.tar/0029' cannot be read as an image"),
    "a mask of another size": (
        replace("mask.png", png(np.ones((5, 6), dtype=bool))),
        SAMPLE + "has an image of [32, 32] pixels (height, width), but a mask of [5, 6]",
    ),
    "a name that climbs and has two lines": (climb, r"/../../executed\n29' has no label"),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_in_one_sentence_and_nothing_is_written(folder, spoil, said):
    spoil(folder)
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(InputError) as refused:
        list(make(folder).val_dataloader())
    message = str(refused.value)
    assert said in message and "\n" not in message and message.endswith(".") and len(message) < 600
    assert sorted(folder.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "http://127.0.0.1:{port}/missing.tar",
            "cannot be read after 0 samples (what fetches it ended with status 22)",
        ),
        (
            "pipe:head -c 9000 '{folder}/val-000000.tar'; exit 4",
            "after 1 samples (what fetches it ended with status 4)",
        ),
        ("nonsense://x", "nonsense://x: no gopen handler defined"),
    ],
)
def test_what_cannot_be_fetched_is_named_in_one_sentence(given, said, folder, server):
    data = make(folder, val=given.format(port=server.rpartition(":")[2], folder=folder))
    with pytest.raises(InputError) as refused:
        list(data.val_dataloader())
    assert said in str(refused.value) and "\n" not in str(refused.value) and "curl" not in str(refused.value)


def test_bad_samples_are_skipped_and_counted_where_that_is_asked_for(folder, caplog):
    spoilt(folder, lambda files: [(n, b"?" if n.endswith(".cls") and n[3] in "890" else c) for n, c in files])
    for workers in (0, 2):
        loader = make(folder, on_bad="skip", batch_size=1, num_workers=workers).val_dataloader()
        assert [len(joined(loader).ids) for _ in range(2)] == [12 - 3] * 2
    first, second, *_ = (each.getMessage() for each in caplog.records if "skipped by" in each.getMessage())
    assert re.match("val: 1 skipped by this process so far, the last one: '.*/0028' has the label", first)
    assert re.match("val: 2 skipped by this process so far, the last one: '.*/0029' has the label", second)
    for name in folder.glob("train*"):
        spoilt(folder, lambda files: [(n, b"?" if n.endswith(".cls") else c) for n, c in files], name.name)
    with pytest.raises(InputError, match=r"has the label '\?'"):
        next(iter(make(folder, on_bad="skip").train_dataloader()))


def test_samples_that_share_a_key_in_a_shard_have_ids_of_their_own(tmp_path):
    counts = {"val": (3,)}
    write_folder(tmp_path, counts)
    before = joined(make(tmp_path, counts).whole_split("val")).ids

    def rename_last(files):
        return [(name.replace("0002", "0000"), content) for name, content in files]

    spoilt(tmp_path, rename_last)
    found = joined(make(tmp_path, counts).whole_split("val")).ids
    assert torch.equal(found[:2], before[:2]) and len(set(found.tolist())) == 3


def test_classes_are_given_or_found_in_a_shard_and_said(folder, caplog):
    with caplog.at_level(logging.INFO, "pytorch_lightning.utilities.rank_zero"):
        found = make(folder, classes=None, train=f"{folder}/train-000001.tar")
        few = make(folder, classes=None)
        assert found.mean == IMAGENET_MEAN
    assert found.class_names == ("0", "1", "2", "3", "4") and few.num_classes == 3
    said = [record.getMessage() for record in caplog.records]
    assert any(each.startswith("3 classes in the shard '") and each.endswith(", of 3") for each in said)
    assert any("taken to be ImageNet's" in each for each in said)
    for name in folder.iterdir():
        spoilt(
            folder,
            lambda files: [(n, f"class{c.decode()}".encode() if n.endswith(".cls") else c) for n, c in files],
            name.name,
        )
    named_classes = make(folder, classes=None, train=f"{folder}/train-000001.tar")
    assert named_classes.class_names == tuple(f"class{number}" for number in range(5))
    assert set(joined(named_classes.whole_split("val")).labels.tolist()) == set(range(5))
    unlabelled = make(folder, classes=0)
    assert unlabelled.num_classes == 0 and set(joined(unlabelled.whole_split("val")).labels.tolist()) == {-1}


def test_shards_that_are_not_there_are_named_before_anything_is_read(folder):
    with pytest.raises(MissingFileError, match=r"val-000003.tar' must be a shard, or a folder of \*\.tar"):
        make(folder, val=f"{folder}/val-{{000000..000003}}.tar")
    with pytest.raises(InputError, match="Shards must be told of shards, got none"):
        Shards()
    with pytest.raises(InputError, match=r"the split 'test' needs shards, got those of train, val; give data.test"):
        make(folder, test=None).test_dataloader()
    with pytest.raises(InputError, match=r"got none; give data\.train_samples"):
        make(folder, train_samples=None).train_dataloader()
    with pytest.raises(InputError, match="must be a list of shards, but is not"):
        make(folder, val="${nowhere}/x.tar")


def test_only_samples_with_a_mask_are_decoded_for_silhouettes(folder):
    spoilt(folder, lambda files: [(n, b"?" if n == "0032.png" else c) for n, c in files])  # which has none
    batch = joined(make(folder).annotated_batches("val"))
    assert batch.object_mask.flatten(1).any(dim=1).sum() == 9 and len(batch.ids) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_decodes_the_samples_of_its_own_batches_alone(folder, workers, monkeypatch, tmp_path):
    decode, decoded = SampleReader.decode, tmp_path / "decoded"

    def noted(reader, sample, epoch):
        with decoded.open("a") as lines:
            lines.write(f"{sample['__key__']}\n")
        return decode(reader, sample, epoch)

    every = [*make(folder, batch_size=2).whole_split("val")]
    monkeypatch.setattr(SampleReader, "decode", noted)
    batches = make(folder, batch_size=2, num_workers=workers).whole_split("val")
    found = dict(numbered_batches(batches, range(1, 100, 3)))
    assert not [*numbered_batches(batches, range(9)[9:])]  # of a process for which there is none
    assert [*found] == [1, 4] and all(equal(found[number], every[number]) for number in found)
    assert sorted(decoded.read_text().split()) == ["0030", "0031", "0036", "0037"]
    decoded.write_text("")
    monkeypatch.setattr(shards_module, "rank_and_number", lambda: (1, 3))
    assert len([*make(folder, batch_size=2, num_workers=workers).val_dataloader()]) == 2
    assert sorted(decoded.read_text().split()) == ["0033", "0034", "0035"]  # of the second of three shards
