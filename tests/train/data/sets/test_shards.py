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
from maskrobust.train.data.base import PixelSample
from maskrobust.train.data.loading import Loader, Position
from maskrobust.train.data.shards.format import Manifest
from maskrobust.train.data.shards.reader import EvaluationStream, ShardReader, TrainingStream
from maskrobust.train.shards.writing import files_of, in_random_order
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
    folder.mkdir(parents=True, exist_ok=True)
    records = {}
    for split, shards in splits.items():
        for number, samples in enumerate(shards):
            name = f"{split}-{number:06d}.tar"
            with webdataset.TarWriter(str(folder / name), encoder=False, mtime=0) as tar:
                for sample in samples:
                    tar.write(files_of(sample.encode()))
            masks = sum(sample.encode().object_mask is not None for sample in samples)
            records.setdefault(split, []).append({"name": name, "samples": len(samples), "masks": masks})
    manifest = Manifest(
        class_names=tuple(map(str, range(classes))), mean=(0.5,) * 3, std=(0.2,) * 3, source={}, splits=records
    )
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


@pytest.mark.parametrize(("workers", "batches"), [(0, 3), (2, 2)])
def test_a_loader_that_starts_within_an_epoch_reads_what_the_epoch_began_with(folder, workers, batches):
    loader = make(folder, num_workers=workers, steps_per_epoch=5, shuffle_buffer=16).train_dataloader()
    epochs = [list(loader) for _ in range(4)]
    assert not torch.equal(epochs[0][0].ids, epochs[1][0].ids)
    data = make(folder, num_workers=workers, steps_per_epoch=5, shuffle_buffer=16)
    positions = [Position(2, batches), Position(3, 0)]
    data.position = lambda: positions.pop(0)
    later = data.train_dataloader()
    assert equal(joined(later), joined(epochs[2][: 5 - batches]))
    assert equal(joined(later), joined(epochs[3]))


def test_epochs_that_end_within_a_shard_read_every_part_of_it(folder):
    records, found = make(folder).records("train"), set()
    stream = TrainingStream(ShardReader(str(folder), 5), records, None, 4, 1, seed=0, rank=0, shuffle_buffer=1)
    for epoch in range(60):
        stream.begin(Position(epoch, 0))
        found.update(joined(stream).ids.tolist())
    assert len(found) == sum(COUNTS["train"])


def test_every_batch_from_the_first_on_holds_as_many_classes_as_independent_draws(tmp_path):
    classes, size = 50, 40
    samples = [*in_random_order([make_sample(n)._replace(label=n * classes // 2000) for n in range(2000)])]
    write_samples(tmp_path, {"train": [samples[n : n + 100] for n in range(0, 2000, 100)]}, classes)
    loader = make(tmp_path, batch_size=size, num_workers=2, shuffle_buffer=200, steps_per_epoch=24).train_dataloader()
    found = [len(batch.labels.unique()) for _ in range(2) for batch in loader]
    expected = classes * (1 - (1 - 1 / classes) ** size)
    assert min(found[:2]) > expected - 8 and abs(sum(found) / len(found) - expected) < 1.5


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


def lose_the_label(folder):
    about = json.dumps({"id": 32, "label": -1, "mask": False}).encode()
    rewrite(folder, "val-000000.tar", lambda files: files | {f"{VAL_KEY}.json": about})


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
    (lose_the_label, f"val-000000.tar/{VAL_KEY}", "has the label -1, which is not in [0, "),
]


@pytest.mark.parametrize(("spoil", "place", "what"), FAULTS, ids=lambda each: getattr(each, "__name__", None))
def test_a_fault_is_named_in_one_sentence(folder, spoil, place, what):
    """Others are in tests/train/faults."""
    spoil(folder)
    with pytest.raises(InputError) as refused:
        list(make(folder).val_dataloader())
    assert f"'{place}' {what}" in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).endswith("write that shard again with maskrobust shards.")


def test_images_of_another_size_are_not_taken_as_they_are(folder):
    with pytest.raises(ValueError, match=r"has 32 x 32 pixels \(height x width\), where image_size 48"):
        list(make(folder, image_size=48).val_dataloader())


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
