"""`maskrobust shards`, and training from shards and on pets: bytes as they were, errors in one sentence."""

import hashlib
import io
import json
import tarfile
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import ExifTags, Image

from maskrobust.augment.batch import Batch
from maskrobust.lm_modules.callbacks import RelianceCallback
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder, InMemoryDataModule, Shards
from maskrobust.train.data.base import AnnotatedDataModule, EncodedSample, encode_png
from maskrobust.train.shards.writing import shrink
from maskrobust.train.storage.files import read_json
from tests.train.data.sets.test_folder import write_tree
from tests.train.data.sets.test_shards import COUNTS, write_folder
from tests.train.runs import last, rows, run
from tests.train.test_cli import sentence_of

SIZES = ["--data.train_images=20", "--data.val_images=5", "--data.test_images=3"]


def write(out, *options, data="Cues", sizes=SIZES, workers=1):
    main(
        ["shards", f"--data={data}", *sizes, "--samples_per_shard=8", f"--out={out}", f"--workers={workers}", *options]
    )
    return out


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def by_id(batches):
    batch = Batch.cat(batches)
    order = batch.ids.argsort()
    return batch.select(order)


def test_shards_of_generated_images_hold_every_pixel_and_id(tmp_path):
    folder = write(tmp_path / "out")
    data, shards = Cues(20, 5, 3), Shards(str(folder), view="as_is", image_size=48, num_workers=0)
    assert (shards.class_names, shards.mean, shards.std) == (data.class_names, data.mean, data.std)
    for own, stored in (
        (data.whole_split("train"), shards.whole_split("train")),
        (data.val_dataloader(), shards.val_dataloader()),
        (data.test_dataloader(), shards.test_dataloader()),
    ):
        assert all(torch.equal(a, b) for a, b in zip(by_id(own)[:4], by_id(stored)[:4], strict=True))


def test_images_of_which_only_some_have_labels_are_refused(tmp_path, monkeypatch, capsys):
    stored = Cues.stored_samples
    monkeypatch.setattr(
        Cues,
        "stored_samples",
        lambda data, split: [each._replace(label=each.label - 1) for each in stored(data, split)],
    )
    arguments = ["shards", "--data=Cues", *SIZES, f"--out={tmp_path / 'out'}", "--workers=1"]
    assert sentence_of(arguments, capsys).startswith("shards hold labels for all images or for none, but some of ")


def test_shards_hold_all_classes_in_random_order_whatever_the_order_of_the_files(tmp_path):
    classes, images = 4, 20
    for split in ("train", "val"):
        for number in range(classes * images):
            path = tmp_path / "images" / split / f"class_{number // images}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    given = [f"--data.root={tmp_path / 'images'}", "--splits=[train,val]"]
    folder = write(tmp_path / "out", f"--samples_per_shard={images}", data="Folder", sizes=given)
    for split in ("train", "val"):
        held = [labels_in(path) for path in sorted(folder.glob(f"{split}-*.tar"))]
        assert [len(labels) for labels in held] == [images] * classes
        for labels in held:  # expected: 5 of each class, and 15 neighbours of different classes
            assert len(set(labels)) == classes and max(map(labels.count, labels)) <= 11
            assert sum(a != b for a, b in pairwise(labels)) >= 8


def labels_in(path):
    with tarfile.open(path) as tar:
        return [json.loads(tar.extractfile(each).read())["label"] for each in tar if each.name.endswith(".json")]


def test_the_same_call_writes_the_same_bytes_on_any_number_of_processes(tmp_path, capsys):
    first = checksums(write(tmp_path / "one"))
    shards = {"train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar", "test-000000.tar"}
    assert first.keys() == {"manifest.json", *shards}
    assert checksums(write(tmp_path / "two", workers=2)) == first
    assert "train: 20 samples, 20 with a mask; shards: 3" in capsys.readouterr().out


def test_image_files_are_kept_byte_for_byte_with_a_mask_of_the_same_pixels(tmp_path):
    root, mask_root = write_tree(tmp_path)
    photo = root / "train" / "cat" / "photo.JPEG"
    Image.effect_noise((70, 50), 60).convert("RGB").save(photo)
    sizes = [f"--data.root={root}", f"--data.mask_root={mask_root}"]
    folder = write(tmp_path / "out", data="Folder", sizes=sizes)
    stored: dict[int, dict[str, bytes]] = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                stored.setdefault(int(key), {})[suffix] = tar.extractfile(member).read()
    data = Folder(str(root), str(mask_root))
    files = [file for split in ("train", "val", "test") for file in data.files(split)]
    assert stored.keys() == {file.id for file in files}
    assert photo in {file.image for file in files}
    for file in files:
        parts = stored[file.id]
        assert parts[file.image.suffix.lower()[1:]] == file.image.read_bytes()
        assert json.loads(parts["json"]) == {"id": file.id, "label": file.label, "mask": file.mask is not None}
        assert ("mask.png" in parts) is (file.mask is not None)
        if file.mask is not None:
            written, own = Image.open(io.BytesIO(parts["mask.png"])), np.asarray(Image.open(file.mask))
            assert written.mode == "1" and np.array_equal(np.asarray(written), own > 0)


def test_an_image_has_the_same_pixels_in_a_folder_and_in_shards_of_it(tmp_path):
    root, mask_root = tmp_path / "images", tmp_path / "masks"
    photo = Image.effect_noise((70, 50), 60).convert("RGB")
    depth = Image.fromarray(np.random.default_rng(0).integers(0, 65_536, (50, 70), dtype=np.uint16))
    inside = np.zeros((50, 70), dtype=np.uint8)
    inside[5:20, 10:60] = 255
    for split in ("train", "val", "test"):
        for folder in (root, mask_root):
            (folder / split / "cat").mkdir(parents=True)
        for orientation in range(1, 9):
            tags = Image.Exif()
            tags[ExifTags.Base.Orientation] = orientation
            name = f"{split}/cat/{orientation}"
            photo.save(root / f"{name}.jpg", exif=tags)
            depth.save(root / f"{name}-depth.png", exif=tags)
            depth.save(root / f"{name}-depth2.tif", exif=tags)
            for end in ("", "-depth", "-depth2"):  # drawn on what is seen
                Image.fromarray(upright(inside, orientation)).save(mask_root / f"{name}{end}.png")
    own = Folder(str(root), str(mask_root), image_size=32, num_workers=0)
    sizes = [f"--data.root={root}", f"--data.mask_root={mask_root}"]
    stored = Shards(str(write(tmp_path / "out", data="Folder", sizes=sizes)), image_size=32, num_workers=0)
    for split in ("train", "val"):
        one, other = own.whole_split(split), stored.whole_split(split)
        first, second = by_id(one), by_id(other)
        assert first.object_mask.flatten(1).any(dim=1).all()
        assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))


def upright(pixels, orientation):
    exchanged = pixels.T if orientation > 4 else pixels
    down, across = -1 if orientation in (3, 4, 7, 8) else 1, -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(exchanged[::down, ::across])


def test_evaluation_shows_the_same_pixels_of_larger_images_that_were_reduced_to_its_own_size(tmp_path):
    root, mask_root = write_tree(tmp_path)
    sizes = [f"--data.root={root}", f"--data.mask_root={mask_root}"]
    folder = write(tmp_path / "out", "--resize=37", data="Folder", sizes=sizes)  # 256 / 224 of 32
    assert read_json(folder / "manifest.json")["source"]["resize"] == 37
    own = Folder(str(root), str(mask_root), image_size=32, num_workers=0)
    stored = Shards(str(folder), image_size=32, num_workers=0)
    for split in ("train", "val"):
        pair = by_id(own.whole_split(split))[:4], by_id(stored.whole_split(split))[:4]
        assert all(torch.equal(a, b) for a, b in zip(*pair, strict=True))


def test_an_image_is_reduced_as_pillow_reduces_it_and_its_mask_to_the_nearest_pixel():
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (9, 12), dtype=np.uint8)).resize((120, 90)).convert("RGB")
    mask = random.random((90, 120)) < 0.3
    tags, stream = Image.Exif(), io.BytesIO()
    tags[ExifTags.Base.Orientation] = 6  # a quarter turn to the right
    image.transpose(Image.Transpose.ROTATE_90).save(stream, "jpeg", quality=100, subsampling=0, exif=tags)
    sample = EncodedSample(7, stream.getvalue(), "jfif", encode_png(mask), 3)
    small = shrink(sample, 40, "photo")
    assert (small.id, small.suffix, small.label) == (7, "jpg", 3)
    found = Image.open(io.BytesIO(small.image))
    assert (found.format, found.size, dict(found.getexif())) == ("JPEG", (53, 40), {})
    expected = np.asarray(image.resize((53, 40), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(np.asarray(found).astype(int) - expected).max() < 8  # a nearest pixel is off by 60
    rows, columns = np.arange(40) * 90 // 40, np.arange(53) * 120 // 53
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(small.object_mask))), mask[rows][:, columns])
    assert shrink(sample, 90, "photo") == sample
    speck = np.zeros((90, 120), dtype=bool)
    speck[1, 1] = True
    assert shrink(sample._replace(object_mask=encode_png(speck)), 40, "photo").object_mask is None


class Plain(AnnotatedDataModule):
    """A data module that knows nothing but its batches."""

    num_classes, class_names, mean, std = 2, ("a", "b"), (0.5,) * 3, (0.5,) * 3

    def batches(self):
        grey = torch.arange(0, 256, dtype=torch.float32).reshape(1, 1, 16, 16) / 255
        yield Batch(torch.tensor([5]), grey.expand(1, 3, -1, -1), torch.zeros(1, 1, 16, 16).bool(), torch.tensor([1]))

    def whole_split(self, split):
        return self.batches()


def test_any_data_module_is_written_without_loss(tmp_path):
    folder = write(tmp_path / "out", "--splits=[val]", data=f"{__name__}.Plain", sizes=[])
    (batch,) = Shards(str(folder), view="as_is", image_size=16, num_workers=0).val_dataloader()
    batch = batch.to("cpu")
    (expected,) = Plain().batches()
    assert all(torch.equal(a, b) for a, b in zip(batch[:4], expected[:4], strict=True))


class Views(InMemoryDataModule):
    """Twelve objects, each in four views that hold much the same; nothing to train on."""

    class_names, num_classes, mean, std = ("a", "b"), 2, (0.5,) * 3, (0.5,) * 3
    splits = ("val", "test")

    def __init__(self) -> None:
        super().__init__(batch_size=8, num_workers=0, seed=0)

    def ids(self, split):
        return torch.arange(48) + 48 * (split == "test")

    def make_samples(self, split, ids):
        random, numbers = np.random.default_rng(0), self.object_of(ids) % 12
        object_mask = torch.zeros(len(ids), 1, 32, 32, dtype=torch.bool)
        for place, number in enumerate(numbers.tolist()):
            object_mask[place, :, 4 : 10 + number, 6:20] = True
        images = torch.from_numpy(random.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8))[numbers]
        return Batch(ids, images, object_mask, self.object_of(ids) % 2)

    def object_of(self, ids):
        return ids // 4


def test_shards_know_which_views_show_one_object(tmp_path):
    folder = write(tmp_path / "shards", data=f"{__name__}.Views", sizes=[])
    again = [f"--data.root={folder}", "--data.view=as_is", "--data.image_size=32"]
    copied = write(tmp_path / "copied", data="Shards", sizes=again)
    data, shards = Views(), Shards(str(copied))
    assert shards.splits == data.splits
    ids = torch.cat([data.samples(split).ids for split in data.splits]).flip(0)
    assert torch.equal(shards.object_of(ids), data.object_of(ids))
    assert shards.object_of(torch.tensor([1000, 5])).tolist() == [1000, 1]


def test_what_a_process_of_the_pool_finds_wrong_is_one_sentence(tmp_path, capsys):
    root, mask_root = write_tree(tmp_path)
    mask = next((mask_root / "train").rglob("*.png"))
    Image.fromarray(np.ones((9, 8), dtype=np.uint8)).save(mask)
    given = ["shards", "--data=Folder", f"--data.root={root}", f"--data.mask_root={mask_root}", "--workers=2"]
    sentence = sentence_of([*given, f"--out={tmp_path / 'out'}"], capsys)
    assert sentence.startswith(f"'{mask}' must have the size of its image") and sentence.endswith("from that image.")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_folder_that_holds_shards_is_refused(tmp_path, capsys):
    folder = write(tmp_path / "out")
    before = checksums(folder)
    given = ["shards", "--data=Cues", *SIZES, f"--out={folder}"]
    assert "holds shards; choose another --out, or delete them" in sentence_of(given, capsys)
    assert checksums(folder) == before
    for path in folder.glob("*.tar"):
        path.unlink()
    assert "holds shards" in sentence_of(given, capsys)  # a manifest would be that of shards half written


class Twice(Plain):
    """Two splits with one id."""

    splits = ("val", "test")


def test_an_id_that_comes_twice_is_refused(tmp_path, capsys):
    given = ["shards", f"--data={__name__}.Twice", f"--out={tmp_path / 'out'}", "--workers=1"]
    assert "ids must be unique over all splits, got 5 twice" in sentence_of(given, capsys)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    "option", ["--samples_per_shard=0", "--workers=0", "--resize=31", "--splits=[]", "--splits=[val,val]"]
)
def test_an_option_out_of_its_range_is_refused(option, tmp_path, capsys):
    name = option.split("=")[0].removeprefix("--")
    assert sentence_of(["shards", "--data=Cues", f"--out={tmp_path / 'out'}", option], capsys).startswith(name)
    assert not (tmp_path / "out").exists()


resumes = pytest.mark.filterwarnings("ignore:The dirpath has changed")
SMALL = ["--data.init_args.image_size=32", "--data.init_args.batch_size=4", "--trainer.accelerator=cpu"]


def fit_arguments(shards, out, *more):
    return [
        "fit",
        "--config=fashion_shards.yaml",
        f"--data.init_args.root={shards}",
        f"--trainer.default_root_dir={out}",
        "--trainer.max_epochs=2",
        "--trainer.enable_progress_bar=false",
        "--model.architecture_options={width: 16}",
        *SMALL,
        *more,
    ]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


@resumes
def test_a_run_that_is_stopped_within_an_epoch_takes_the_steps_that_are_left(folder, tmp_path, monkeypatch):
    steps = sum(COUNTS["train"]) // 4
    read: list[tuple[int, list[int]]] = []
    take = MaskRobustClassifier.training_step

    def watched(module, batch, batch_idx):
        read.append((module.trainer.global_step, batch.ids.tolist()))
        return take(module, batch, batch_idx)

    monkeypatch.setattr(MaskRobustClassifier, "training_step", watched)
    parts = fit_arguments(folder, tmp_path / "parts", "--data.init_args.num_workers=2", "--ckpt_path=auto")
    stop = ["--trainer.callbacks+=tests.train.interruptions.Interruption", "--trainer.callbacks.kind=term"]
    with pytest.raises(SystemExit):
        main([*parts, *stop, "--trainer.callbacks.step=3", "--trainer.callbacks.validating=false"])
    main(parts)
    assert [step for step, _ in read] == list(range(2 * steps))
    ids = [each for _, each in read]
    assert ids[3:6] == ids[:3]  # the epoch's stream from its start
    assert ids[steps] not in ids[:steps]


@resumes
def test_two_processes_train_to_the_end_on_uneven_shards_and_evaluate_as_one_does(folder, tmp_path):
    reliance = [
        "--trainer.callbacks+=maskrobust.lm_modules.callbacks.RelianceCallback",
        "--trainer.callbacks.plan={patch_size: 8}",
        "--trainer.callbacks.methods=[black]", "--trainer.callbacks.replicates=20",
    ]  # fmt: skip
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.num_workers=1"]
    command = fit_arguments(folder, tmp_path / "two", *two, *reliance, "--trainer.max_epochs=1")
    assert "sync_dist" not in run(command), "figures that all processes have joined need no advice"
    trained = rows(tmp_path / "two")
    checkpoint = last(tmp_path / "two")
    assert torch.load(checkpoint)["global_step"] == sum(COUNTS["train"]) // (4 * 2)
    callback = RelianceCallback(("black",), plan=ReliancePlan(patch_size=8), replicates=20)
    options: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False}
    trainer = pl.Trainer(callbacks=[callback], enable_checkpointing=False, enable_model_summary=False, **options)
    data = Shards(str(folder), view="as_is", image_size=32, batch_size=4, num_workers=0)
    trainer.validate(MaskRobustClassifier.load_from_checkpoint(checkpoint), data, verbose=False)
    alone = trainer.callback_metrics
    together = next(row for row in trained if row["val/accuracy"])
    names = [name for name in alone if name.startswith(("val/", "reliance/")) and not alone[name].isnan()]
    assert "val/accuracy" in names and any(name.startswith("reliance/black/") for name in names)
    assert [float(alone[name]) for name in names] == pytest.approx([float(together[name]) for name in names], rel=1e-5)


def test_a_fault_that_a_loader_process_finds_is_one_sentence(folder, tmp_path, capsys):
    path = folder / "val-000001.tar"
    path.write_bytes(path.read_bytes()[:3000])
    more = ["--data.init_args.num_workers=1", "--trainer.num_sanity_val_steps=-1"]
    sentence = sentence_of(fit_arguments(folder, tmp_path / "runs", *more), capsys)
    assert sentence.startswith("'val-000001.tar' breaks off after ") and sentence.endswith("with maskrobust shards.")
    assert "Traceback" not in sentence
