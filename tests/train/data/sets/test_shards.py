"""Training and evaluation from shards: every sample once, streams that can be repeated, faults by name."""

import io
import json
import tarfile
from itertools import chain

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.train.data import Folder, Shards
from maskrobust.train.data.base import EncodedSample, PixelSample
from maskrobust.train.data.loading import Loader, Position
from maskrobust.train.data.shards.format import Manifest, SplitRecord, sha256_of, shard_name, write_shard
from maskrobust.train.data.shards.reader import EvaluationStream, ShardReader, TrainingStream
from maskrobust.train.shards.writing import shuffled
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.types import Split
from tests.train.data.conftest import joined
from tests.train.data.sets.test_folder import write_tree

SIZE = 32
COUNTS: dict[Split, tuple[int, ...]] = {"train": (3, 17, 8), "val": (5, 3, 4), "test": (7,)}


def make_sample(number, size=SIZE):
    """Noise with an object of its own height; every fourth sample has no mask."""
    image = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    object_mask = np.zeros((size, size), dtype=bool)
    object_mask[4 : 8 + number % 9, 6:20] = number % 4 != 0
    return PixelSample((1 << 62) + number, image, object_mask, number % 5)


def write_samples(folder, splits, classes=5):
    """Shards of given samples, and their manifest."""
    records = {
        split: SplitRecord(
            shards=tuple(
                write_shard(folder / shard_name(split, number), (sample.encode() for sample in samples))
                for number, samples in enumerate(shards)
            )
        )
        for split, shards in splits.items()
    }
    manifest = Manifest(
        class_names=tuple(map(str, range(classes))), mean=(0.5,) * 3, std=(0.2,) * 3, source={}, samples_per_shard=17,
        splits=records, shuffle_seed=0,
    )  # fmt: skip
    write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
    return folder


def write_folder(folder, counts=COUNTS):
    """Shards of given sizes, with ids that go on from shard to shard."""
    samples = map(make_sample, range(sum(chain.from_iterable(counts.values()))))
    return write_samples(
        folder, {split: [[next(samples) for _ in range(size)] for size in sizes] for split, sizes in counts.items()}
    )


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


def make(root, **options):
    given = {"view": "as_is", "image_size": SIZE, "batch_size": 4, "num_workers": 0, **options}
    return Shards(str(root), **given)


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one[:4], other[:4], strict=True))


def streams(folder, split, batch_size, ranks):
    """As each rank would make its own."""
    reader, records = ShardReader(str(folder), 5), make(folder).records(split)
    return [EvaluationStream(reader, records, None, batch_size, rank, ranks) for rank in range(ranks)]


def loaded(stream, workers):
    return list(Loader(stream, batch_size=None, num_workers=workers))


@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (3, 2)])
def test_evaluation_has_every_sample_once_and_as_many_batches_on_every_rank(folder, ranks, workers):
    by_rank = [loaded(stream, workers) for stream in streams(folder, "val", 3, ranks)]
    first = sum(COUNTS["train"])
    expected = [make_sample(number) for number in range(first, first + sum(COUNTS["val"]))]
    ids = [torch.cat([batch.ids for batch in batches]).tolist() for batches in by_rank]
    assert sorted(chain.from_iterable(ids)) == [sample.id for sample in expected]
    assert len({len(batches) for batches in by_rank}) == 1
    assert ids == [[sample.id for sample in expected[rank::ranks]] for rank in range(ranks)]
    together = joined(chain.from_iterable(by_rank))
    for sample in expected:
        (row,) = (together.ids == sample.id).nonzero().flatten().tolist()
        assert np.array_equal(together.images[row].mul(255).round().byte().permute(1, 2, 0).numpy(), sample.image)
        assert np.array_equal(together.object_mask[row, 0].numpy(), sample.object_mask)
        assert together.labels[row] == sample.label


def training(folder, rank=0, epoch=0, seed=0, buffer=16):
    stream = TrainingStream(ShardReader(str(folder), 5), make(folder).records("train"), None, 4, 6, seed, rank, buffer)
    stream.begin(Position(epoch, 0))
    return stream


def test_the_stream_is_a_function_of_seed_epoch_rank_and_loader_process(folder):
    one, two = loaded(training(folder), 0), loaded(training(folder), 2)
    for batches in (one, two):
        assert [len(batch.ids) for batch in batches] == [4] * 6
        assert set(joined(batches).ids.tolist()) <= {make_sample(number).id for number in range(sum(COUNTS["train"]))}
    assert equal(joined(one), joined(loaded(training(folder), 0)))
    others = [{"rank": 1}, {"epoch": 1}, {"seed": 1}]
    assert not any(equal(joined(one), joined(loaded(training(folder, **change), 0))) for change in others)
    assert equal(joined(two[::2]), joined(one[:3])) and not torch.equal(two[0].ids, two[1].ids)


@pytest.mark.parametrize(("workers", "batches"), [(0, 0), (0, 4), (2, 1), (2, 2)])
def test_a_loader_that_starts_within_an_epoch_reads_the_batches_that_are_left(folder, workers, batches):
    loader = make(folder, num_workers=workers, steps_per_epoch=5, shuffle_buffer=16).train_dataloader()
    epochs = [list(loader) for _ in range(4)]
    assert not torch.equal(epochs[0][0].ids, epochs[1][0].ids)
    data = make(folder, num_workers=workers, steps_per_epoch=5, shuffle_buffer=16)
    positions = [Position(2, batches), Position(3, 0)]
    data.position = lambda: positions.pop(0)
    later = data.train_dataloader()
    assert equal(joined(later), joined(epochs[2][batches:]))
    assert equal(joined(later), joined(epochs[3]))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_read_at_the_end_of_an_epoch_is_used_in_the_next(folder, tmp_path, workers):
    opened = tmp_path / "opened"
    root = f"pipe:echo {{}} >> '{opened}'; cat '{folder}'/{{}}"
    epochs, steps, buffer = 12, 3, 16
    loader = make(root, num_workers=workers, steps_per_epoch=steps, shuffle_buffer=buffer).train_dataloader()
    used = sum(len(batch.ids) for _ in range(epochs) for batch in loader)
    assert used == epochs * steps * 4
    names = [name for name in opened.read_text().split() if name.startswith("train")]
    read = sum(COUNTS["train"][int(name.removesuffix(".tar")[-1])] for name in names)
    assert used <= read <= used + buffer + max(COUNTS["train"]), "a block ahead, and the rest of one shard"


def test_every_batch_from_the_first_on_holds_as_many_classes_as_independent_draws(tmp_path):
    classes, size = 50, 40
    samples = [*shuffled([make_sample(n)._replace(label=n * classes // 2000) for n in range(2000)])]
    write_samples(tmp_path, {"train": [samples[n : n + 100] for n in range(0, 2000, 100)]}, classes)
    loader = make(tmp_path, batch_size=size, num_workers=2, shuffle_buffer=200, steps_per_epoch=24).train_dataloader()
    found = [len(batch.labels.unique()) for _ in range(2) for batch in loader]
    expected = classes * (1 - (1 - 1 / classes) ** size)
    assert min(found[:2]) > expected - 8 and abs(sum(found) / len(found) - expected) < 1.5


def test_shards_that_may_be_sorted_by_class_are_trained_on_with_a_warning(folder):
    content = read_json(folder / "manifest.json")
    del content["shuffle_seed"]  # as version 0.1 wrote it
    write_json(folder / "manifest.json", content)
    data = make(folder)
    assert len(joined(data.val_dataloader()).ids) == sum(COUNTS["val"])
    with pytest.warns(UserWarning, match="must be in random order, but the manifest in .* write the shards again with"):
        data.train_dataloader()


def test_crops_depend_on_the_stream_alone_and_masks_follow_the_image(tmp_path):
    tree = write_tree(tmp_path)
    data = Folder(str(tree[0]), str(tree[1]), image_size=32, num_workers=0)
    write_samples(tmp_path / "s", {split: [data.stored_samples(split)] for split in ("train", "val", "test")}, 2)
    shards = make(tmp_path / "s", view="crop", steps_per_epoch=5)
    assert equal(joined(shards.test_dataloader()), joined(data.test_dataloader()))
    assert equal(joined(shards.whole_split("train")), joined(data.whole_split("train")))
    batch = joined(shards.train_dataloader())
    shown = batch.object_mask.flatten(1).any(dim=1)
    red = (batch.images[:, :1] > 0.5) & (batch.images[:, 1:2] < 0.3)
    assert (red == batch.object_mask)[shown].float().mean() > 0.95
    assert equal(batch, joined(make(tmp_path / "s", view="crop", steps_per_epoch=5).train_dataloader()))


def test_addresses_of_webdataset_and_fsspec_are_read_like_a_folder(folder):
    import fsspec

    expected = joined(make(folder).val_dataloader())
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/shards/{path.name}", path.read_bytes())
    for root in (f"pipe:cat '{folder}'/{{}}", f"file:{folder}", "memory://shards"):
        assert equal(joined(make(root).val_dataloader()), expected), root
        assert len(joined(make(root, steps_per_epoch=2).train_dataloader()).ids) == 8


def rewrite(folder, name, change):
    """Change the files of a shard, and make its manifest agree but for the count."""
    with tarfile.open(folder / name) as tar:
        files = {each.name: tar.extractfile(each).read() for each in tar}
    with tarfile.open(folder / name, "w") as tar:
        for file_name, content in change(files).items():
            entry = tarfile.TarInfo(file_name.removesuffix("*"))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def key_of(number):
    return f"{(1 << 62) + number:019d}"


VAL_KEY = key_of(29)


def truncate(folder):
    path = folder / "val-000000.tar"
    path.write_bytes(path.read_bytes()[:9000])


def cut_at_a_sample(folder):
    rewrite(folder, "val-000000.tar", lambda files: {k: v for k, v in files.items() if key_of(32) not in k})


def break_the_image(folder):
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.png": files[f"{VAL_KEY}.png"][:200]})


def make_the_image_float(folder):
    stream = io.BytesIO()
    Image.new("F", (SIZE, SIZE), 0.5).save(stream, "tiff")
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.png": stream.getvalue()})


def drop_the_image(folder):
    rewrite(folder, "val-000000.tar", lambda files: {k: v for k, v in files.items() if k != f"{VAL_KEY}.png"})


def drop_the_mask(folder):
    rewrite(folder, "val-000000.tar", lambda files: {k: v for k, v in files.items() if k != f"{VAL_KEY}.mask.png"})


def shrink_the_mask(folder):
    stream = io.BytesIO()
    Image.new("1", (5, 6)).save(stream, "png")
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.mask.png": stream.getvalue()})


def relabel(folder):
    about = json.dumps({"id": (1 << 62) + 29, "label": 5, "mask": True}).encode()
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.json": about})


def spoil_the_label(folder):
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.json": b"{"})


def repeat_a_key(folder):
    def change(files):
        again = {f"{name}*": content for name, content in files.items() if name.startswith(VAL_KEY)}
        return {name: content for name, content in files.items() if key_of(32) not in name} | again

    rewrite(folder, "val-000000.tar", change)


def delete(folder):
    (folder / "val-000000.tar").unlink()


FAULTS = [
    (cut_at_a_sample, "val-000000.tar", "holds 4 samples, where the manifest says 5"),
    (make_the_image_float, f"val-000000.tar/{VAL_KEY}", "has an image or a mask that cannot be read (mode F holds"),
    (drop_the_image, f"val-000000.tar/{VAL_KEY}", "has no image"),
    (shrink_the_mask, f"val-000000.tar/{VAL_KEY}", "has an image of 32 x 32 pixels (height x width)"),
    (spoil_the_label, f"val-000000.tar/{VAL_KEY}", "has no readable label"),
]


@pytest.mark.parametrize(("spoil", "place", "what"), FAULTS, ids=lambda each: getattr(each, "__name__", None))
def test_a_fault_is_named_in_one_sentence(folder, spoil, place, what):
    """Others are in tests/train/faults."""
    spoil(folder)
    with pytest.raises(InputError) as refused:
        list(make(folder).val_dataloader())
    assert f"'{place}' {what}" in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).endswith("write that shard again with maskrobust shards.")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_stream_that_breaks_off_is_opened_again_and_yields_what_it_would_have(folder, tmp_path, split):
    def read(root):
        data = make(root, steps_per_epoch=9)
        return joined(data.train_dataloader() if split == "train" else data.val_dataloader())

    first = f"mkdir '{tmp_path}'/{{}} && [ {{}} != manifest.json ]"
    breaks = f"pipe:if {first}; then head -c 9000 '{folder}'/{{}}; else cat '{folder}'/{{}}; fi"
    assert equal(read(breaks), read(folder))


def test_images_of_another_size_are_not_taken_as_they_are(folder):
    with pytest.raises(ValueError, match=r"has 32 x 32 pixels \(height x width\), where image_size 48"):
        list(make(folder, image_size=48).val_dataloader())


def test_a_shard_has_the_same_bytes_whenever_it_is_written(tmp_path, monkeypatch):
    samples = [make_sample(number).encode() for number in range(4)]
    first = write_shard(tmp_path / "val-000000.tar", samples)
    monkeypatch.setattr("time.time", lambda: 0.0)
    second = write_shard(tmp_path / "val-000001.tar", samples)
    assert first.sha256 == second.sha256 == sha256_of(tmp_path / "val-000001.tar")
    assert (first.samples, first.masks, first.bytes) == (4, 3, (tmp_path / "val-000000.tar").stat().st_size)


def test_two_samples_with_one_id_are_not_written(tmp_path):
    sample = EncodedSample(7, b"", "png", None, 0)
    with pytest.raises(ValueError, match="ids must be unique, got 7 twice"):
        write_shard(tmp_path / "val-000000.tar", [sample, sample])
    assert list(tmp_path.iterdir()) == []


def test_webdataset_reads_them(folder):
    dataset = webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False).decode("rgb8")
    for number, sample in enumerate(dataset):
        expected = make_sample(number)
        has_mask = bool(expected.object_mask.any())
        assert (sample["__key__"], "mask.png" in sample) == (key_of(number), has_mask)
        assert sample["json"] == {"id": expected.id, "label": expected.label, "mask": has_mask}
        assert np.array_equal(sample["png"], expected.image)
    assert number + 1 == COUNTS["train"][0]


def test_a_manifest_that_is_missing_or_foreign_is_refused_in_one_sentence(folder):
    content = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", content | {"splits": {"val": content["splits"]["val"]}})
    with pytest.raises(ValueError, match="write it, too"):
        make(folder).setup("fit")
    for root in (folder / "nowhere", "nonsense://x", "pipe:exit 1; {}"):
        with pytest.raises(ValueError, match=r"must hold manifest.json, which cannot be read"):
            make(root)
