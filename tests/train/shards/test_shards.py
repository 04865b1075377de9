"""`maskrobust shards`: bytes as they were, the same ones at every call, and a killed run that goes on."""

import io
import json
import os
import re
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import nn

from maskrobust.augment import SilhouetteBank
from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.measurement import Measurement, result_rows
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder, InMemoryDataModule, Samples, Shards
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.batches import batches_on
from maskrobust.train.data.shards.format import ShardRecord, sha256_of
from maskrobust.train.data.shards.manifest import Manifest
from maskrobust.train.data.stored import EncodedSample, encode_png
from maskrobust.train.shards.journal import Journal
from maskrobust.train.shards.processes import call_in_processes
from maskrobust.train.shards.shrinking import shrink
from maskrobust.train.storage.files import read_json
from maskrobust.train.types import Split
from tests.train.data.sets.test_folder import write_tree
from tests.train.test_cli import sentence_of

SIZES = ["--data.train_images=20", "--data.val_images=5", "--data.test_images=3"]


def write(out: Path, *options: str, data: str = "Cues", sizes: list[str] = SIZES, workers: int = 1) -> Path:
    main(
        ["shards", f"--data={data}", *sizes, "--samples_per_shard=8", f"--out={out}", f"--workers={workers}", *options]
    )
    return out


def checksums(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


def by_id(batches) -> Batch:
    batch = Batch.cat(batches)
    order = batch.ids.argsort()
    return Batch(*(column[order] for column in batch))


def test_shards_of_generated_images_hold_every_pixel_and_id(tmp_path):
    folder = write(tmp_path / "out")
    data, shards = Cues(20, 5, 3), Shards(str(folder), view="as_is", image_size=48, num_workers=0)
    assert (shards.class_names, shards.mean, shards.std) == (data.class_names, data.mean, data.std)
    for own, stored in (
        (data.training_batches(), shards.training_batches()),
        (data.val_dataloader(), shards.val_dataloader()),
        (data.test_dataloader(), shards.test_dataloader()),
    ):
        assert all(torch.equal(a, b) for a, b in zip(by_id(own), by_id(stored), strict=True))


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
    assert read_json(folder / "manifest.json")["shuffle_seed"] == 0


def labels_in(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [json.loads(tar.extractfile(each).read())["label"] for each in tar if each.name.endswith(".json")]


def test_the_same_call_writes_the_same_bytes_on_any_number_of_processes(tmp_path, capsys):
    first = checksums(write(tmp_path / "one"))
    shards = {"train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar", "test-000000.tar"}
    assert first.keys() == {"manifest.json", *shards}
    assert checksums(write(tmp_path / "two", workers=2)) == first
    assert "train: 20 samples, 20 with a mask; 0.2 MB; shards: 3" in capsys.readouterr().out


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
                assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
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
    main(["shards", "--verify", f"--out={folder}"])


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
    for read in ("training_batches", "val_dataloader"):
        one, other = getattr(own, read)(), getattr(stored, read)()
        first, second = by_id(one), by_id(other)
        assert first.object_mask.flatten(1).any(dim=1).all()
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    exchanged = pixels.T if orientation > 4 else pixels
    down, across = -1 if orientation in (3, 4, 7, 8) else 1, -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(exchanged[::down, ::across])


def test_evaluation_shows_the_same_pixels_of_larger_images_that_were_reduced_to_its_own_size(tmp_path):
    root, mask_root = write_tree(tmp_path)
    sizes = [f"--data.root={root}", f"--data.mask_root={mask_root}"]
    folder = write(tmp_path / "out", "--resize=37", data="Folder", sizes=sizes)  # 256 / 224 of 32
    assert read_json(folder / "manifest.json")["resize"] == 37
    own = Folder(str(root), str(mask_root), image_size=32, num_workers=0)
    stored = Shards(str(folder), image_size=32, num_workers=0)
    for read in ("training_batches", "val_dataloader"):
        assert all(
            torch.equal(a, b) for a, b in zip(by_id(getattr(own, read)()), by_id(getattr(stored, read)()), strict=True)
        )


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

    training_batches = val_dataloader = test_dataloader = batches


def test_any_data_module_is_written_without_loss(tmp_path):
    folder = write(tmp_path / "out", "--splits=[val]", data=f"{__name__}.Plain", sizes=[])
    (batch,) = Shards(str(folder), view="as_is", image_size=16, num_workers=0).val_dataloader()
    batch = batch.to("cpu")
    (expected,) = Plain().batches()
    assert all(torch.equal(a, b) for a, b in zip(batch, expected, strict=True))


class Stream(Plain):
    """Batches one by one, in order of their classes."""

    def batches(self):
        (batch,) = Plain.batches(self)
        for number in range(8):
            yield Batch(batch.ids + number, batch.images, batch.object_mask, torch.tensor([number // 4]))

    training_batches = val_dataloader = test_dataloader = batches


def test_samples_that_come_one_by_one_keep_their_order_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="the stored_samples of Stream must return a sequence"):
        folder = write(tmp_path / "out", "--splits=[train]", data=f"{__name__}.Stream", sizes=[])
    assert labels_in(folder / "train-000000.tar") == [0] * 4 + [1] * 4
    with pytest.warns(UserWarning, match="must be in random order"):
        Shards(str(folder), view="as_is", image_size=16, num_workers=0).train_dataloader()


class Views(InMemoryDataModule):
    """Twelve objects, each in four views that hold much the same; nothing to train on."""

    class_names, num_classes, mean, std = ("a", "b"), 2, (0.5,) * 3, (0.5,) * 3
    splits = ("val", "test")

    def __init__(self) -> None:
        super().__init__(batch_size=8, num_workers=0, seed=0)

    def make_samples(self, split: Split) -> Samples:
        ids = torch.arange(48) + 48 * (split == "test")
        random = np.random.default_rng(0)
        object_mask = torch.zeros(48, 1, 32, 32, dtype=torch.bool)
        for place, number in enumerate((self.object_of(ids) % 12).tolist()):
            object_mask[place, :, 4 : 10 + number, 6:20] = True
        images = torch.from_numpy(random.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)).repeat_interleave(4, dim=0)
        return Samples(ids, images, object_mask, self.object_of(ids) % 2)

    def object_of(self, ids: torch.Tensor) -> torch.Tensor:
        return ids // 4


def intervals(data: AnnotatedDataModule) -> dict[str, tuple[float, float, float]]:
    """Value and interval of each measure of a network of random weights on the validation split."""
    torch.manual_seed(0)
    network = MaskRobustClassifier(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2)), 2).eval()
    plan = ReliancePlan(shapes=False)
    bank = SilhouetteBank.from_batches(data.val_dataloader())
    measurement = Measurement({"it": network}, bank, {"black": plan}, num_classes=2, seed=0, object_of=data.object_of)
    found = measurement.run(batches_on(data.val_dataloader(), "cpu"))["it"]["black"]
    rows = result_rows("it", "black", {0: found}, Context(plan, None), replicates=200, seed=0)
    return {row.name: (row.value, row.low, row.high) for row in rows if row.low is not None}


def test_shards_know_which_views_show_one_object(tmp_path):
    folder = write(tmp_path / "shards", data=f"{__name__}.Views", sizes=[])
    main(["shards", "--verify", f"--out={folder}"])
    again = [f"--data.root={folder}", "--data.view=as_is", "--data.image_size=32"]
    copied = write(tmp_path / "copied", data="Shards", sizes=again)
    data, shards = Views(), Shards(str(copied))
    assert shards.splits == data.splits
    ids = torch.cat([data.samples(split).ids for split in data.splits]).flip(0)
    assert torch.equal(shards.object_of(ids), data.object_of(ids))
    assert shards.object_of(torch.tensor([1000, 5])).tolist() == [1000, 1]


def test_intervals_of_shards_are_those_of_the_data_that_they_were_written_from(tmp_path):
    folder = write(tmp_path / "shards", data=f"{__name__}.Views", sizes=[])
    expected = intervals(Views())
    assert intervals(Shards(str(folder), view="as_is", image_size=32, batch_size=8, num_workers=0)) == expected
    manifest = read_json(folder / "manifest.json")
    del manifest["objects"]  # as an earlier version wrote it
    (folder / "manifest.json").write_text(json.dumps(manifest))
    alone = intervals(Shards(str(folder), view="as_is", image_size=32, batch_size=8, num_workers=0))
    (_, low, high), (_, narrow_low, narrow_high) = (each["clean_accuracy"] for each in (expected, alone))
    assert high - low > 1.5 * (narrow_high - narrow_low)  # 2 by theory: four views with the same answer are as one


@pytest.mark.parametrize("change", ["a flipped bit", "too long", "missing"])
def test_other_objects_than_those_that_were_written_are_refused(change, tmp_path, capsys):
    folder = write(tmp_path / "shards", data=f"{__name__}.Views", sizes=[])
    path = folder / "objects.bin"
    content = path.read_bytes()
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(content + bytes(16) if change == "too long" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(InputError, match=r"must hold .*objects\.bin"):
        Shards(str(folder))
    with pytest.raises(SystemExit):
        main(["shards", "--verify", f"--out={folder}"])
    assert "'objects.bin' must have the checksum of the manifest, but has not" in capsys.readouterr().out
    write(folder, data=f"{__name__}.Views", sizes=[])
    assert path.read_bytes() == content


def test_whole_shards_are_kept_and_damaged_or_missing_ones_written_again(tmp_path):
    folder = write(tmp_path / "out")
    before = checksums(folder)
    old = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    (folder / "train-000001.tar").unlink()
    damaged = bytearray((folder / "val-000000.tar").read_bytes())
    damaged[1000] ^= 1
    (folder / "val-000000.tar").write_bytes(damaged)
    write(folder)
    assert checksums(folder) == before
    new = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert {name for name in old if old[name] != new[name]} == {"train-000001.tar", "val-000000.tar"}


def write_until_killed(folder: Path) -> None:
    """Die without a chance to tidy up, between a shard that is finished and one that is not."""
    note = Journal.note

    def note_and_die(journal: Journal, record: ShardRecord) -> None:
        note(journal, record)
        if record.name == "train-000001.tar":
            (folder / ".train-000002.tar.1").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.note = note_and_die
    write(folder, "--resize=40")


def exit_code(function: Callable[..., None], *arguments: object) -> int | None:
    """How a fresh process ends that calls a function; it is gone afterwards, whatever happens."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    try:
        process.join(timeout=120)
        return process.exitcode
    finally:
        process.kill()


@pytest.mark.parametrize("finished", [False, True])
def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_bytes(finished, tmp_path):
    expected = checksums(write(tmp_path / "whole", "--resize=40"))
    folder = tmp_path / "killed"
    if finished:  # by an earlier version, in another order
        forget_order(write(folder, "--resize=40"))
    earlier = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    assert exit_code(write_until_killed, folder) == -signal.SIGKILL
    now = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    old = {name: written for name, written in now.items() if earlier.get(name) != written}
    assert set(old) == {"train-000000.tar", "train-000001.tar"} and not (folder / "manifest.json").exists()
    with (folder / "written.jsonl").open("a") as stream:
        stream.write('{"name": "train-0')  # a line that was torn
    write(folder, "--data.batch_size=3", "--resize=40")
    assert checksums(folder) == expected
    assert all((folder / name).stat().st_mtime_ns == written for name, written in old.items())


class StoppedError(Exception):
    pass


def write_until_stopped(folder: Path, last: str, root: Path, mask_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End in the middle, once the shard `last` of images is noted."""
    note = Journal.note

    def note_and_stop(journal: Journal, record: ShardRecord) -> None:
        note(journal, record)
        if record.name == last:
            raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "note", note_and_stop)
        with pytest.raises(StoppedError):
            write_fours(folder, root, mask_root)
    assert not (folder / "manifest.json").exists()


def write_fours(folder: Path, root: Path, mask_root: Path) -> Path:
    given = [f"--data.root={root}", f"--data.mask_root={mask_root}", "--splits=[train]"]
    return write(folder, "--samples_per_shard=4", data="Folder", sizes=given)


CHANGES = ["image", "mask", "mask added", "mask removed", "image added", "image removed", "a shard fewer"]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_shards_of_samples_that_have_changed_are_written_again_and_no_other(
    change, finished, tmp_path, monkeypatch, capsys, caplog
):
    root, mask_root = write_tree(tmp_path, ("train",))  # 6 birds, then 6 cats
    birds, cats = (sorted((root / "train" / name).iterdir()) for name in ("bird", "cat"))
    masks = sorted((mask_root / "train").rglob("*.png"))
    masks[-1].rename(tmp_path / "kept.png")
    folder = tmp_path / "out"
    if finished:
        write_fours(folder, root, mask_root)
    else:
        write_until_stopped(folder, "train-000001.tar", root, mask_root, monkeypatch)
    old = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    match change:
        case "image":
            shutil.copy(cats[0], birds[0])
            os.utime(birds[0], ns=(0, 0))  # older, as a copy may be
        case "mask":
            Image.fromarray(1 - np.asarray(Image.open(masks[0]))).save(masks[0])
        case "mask added":
            (tmp_path / "kept.png").rename(masks[-1])
        case "mask removed":
            masks[0].unlink()
        case "image added":
            shutil.copy(birds[0], birds[0].with_name("-.png"))
        case "image removed":
            birds[5].unlink()
        case "a shard fewer":
            for path in cats[2:]:
                path.unlink()
    anew = checksums(write_fours(tmp_path / "anew", root, mask_root))
    capsys.readouterr()
    caplog.clear()
    with caplog.at_level("INFO", logger="pytorch_lightning"):  # a claim in the same process makes it quiet
        assert checksums(write_fours(folder, root, mask_root)) == anew
    counted = [each.message for each in caplog.records if each.message.startswith("train:")]
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train:")]
    assert re.findall(r"\d+", told)[:2] == re.findall(r"\d+", counted[0])[:2], "the counts of images and of masks"
    new = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    written_again = [name for name in old if name in new and old[name] != new[name]]
    if change in ("image", "mask", "mask added", "mask removed"):
        assert len(written_again) == 1 if finished else len(written_again) <= 1
    main(["shards", "--verify", f"--out={folder}"])


def forget_order(folder: Path) -> None:
    """Have the manifest be as an earlier version wrote it."""
    content = read_json(folder / "manifest.json")
    del content["shuffle_seed"]
    for split in content["splits"].values():
        for record in split["shards"]:
            del record["made_from"]
    (folder / "manifest.json").write_text(json.dumps(content))


def test_shards_of_an_earlier_version_are_written_again_in_random_order(tmp_path):
    folder = write(tmp_path / "out")
    expected = checksums(folder)
    forget_order(folder)
    old = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tar")}
    write(folder)
    assert checksums(folder) == expected
    assert all(path.stat().st_mtime_ns != old[path.name] for path in folder.glob("*.tar"))


def start_a_pool_and_die(path: Path) -> None:
    next(call_in_processes(tell, [(path,)] * 9, 2))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_of_the_pool_ends_with_the_run_that_started_it(tmp_path):
    assert exit_code(start_a_pool_and_die, tmp_path / "pid") == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process is there, and has not ended without anyone asking for its status."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def sum_of_sines(count: int) -> float:
    return torch.linspace(0, 1, count).sin().sum().item()


def test_a_process_of_the_pool_may_use_torch_though_this_one_has_started_its_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = sum_of_sines(1_000_000)
        results = list(call_in_processes(sum_of_sines, [(1_000_000,)] * 2, 2))
    finally:
        torch.set_num_threads(threads)
    assert results == pytest.approx([expected] * 2)


def tell(path: Path) -> None:
    path.write_text(str(os.getpid()))


def refuse(number: int) -> int:
    from maskrobust.errors import check_at_least

    check_at_least("number", number, 0)
    return number


def test_calls_come_back_in_order_and_are_taken_as_others_finish():
    taken = []

    def arguments():
        for number in range(9):
            taken.append(number)
            yield (number,)

    results = call_in_processes(refuse, arguments(), 2)
    assert next(results) == 0 and len(taken) == 4
    assert list(results) == list(range(1, 9))


def test_what_a_process_of_the_pool_finds_wrong_is_one_sentence(tmp_path, capsys):
    root, mask_root = write_tree(tmp_path)
    mask = next((mask_root / "train").rglob("*.png"))
    Image.fromarray(np.ones((9, 8), dtype=np.uint8)).save(mask)
    given = ["shards", "--data=Folder", f"--data.root={root}", f"--data.mask_root={mask_root}", "--workers=2"]
    sentence = sentence_of([*given, f"--out={tmp_path / 'out'}"], capsys)
    assert sentence.startswith(f"'{mask}' must have the size of its image") and sentence.endswith("from that image.")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_other_data_or_settings_in_the_same_folder_are_refused(tmp_path, capsys):
    folder = write(tmp_path / "out")
    before = checksums(folder)
    for change in (
        "--data.seed=1",
        "--samples_per_shard=9",
        "--splits=[train,val]",
        "--data.test_images=4",
        "--resize=40",
    ):
        given = ["shards", "--data=Cues", *SIZES, "--samples_per_shard=8", f"--out={folder}", change]
        assert "holds shards of other data or settings" in sentence_of(given, capsys)
    assert checksums(folder) == before


def test_verify_finds_a_flipped_byte_and_names_the_sample(tmp_path, capsys):
    folder = write(tmp_path / "out")
    main(["shards", "--verify", f"--out={folder}"])
    assert "verified" in capsys.readouterr().out
    path = folder / "train-000001.tar"
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        image = next(member for member in tar if member.name.endswith(".png") and "mask" not in member.name)
    content[image.offset_data + image.size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        main(["shards", "--verify", f"--out={folder}"])
    captured = capsys.readouterr()
    key = image.name.split(".")[0]
    assert f"'train-000001.tar/{key}'" in captured.out or "'train-000001.tar' must have" in captured.out
    assert "but 1 places are not" in captured.err or "but 2 places are not" in captured.err
    (folder / "val-000000.tar").unlink()
    with pytest.raises(SystemExit):
        main(["shards", "--verify", f"--out={folder}"])
    assert "'val-000000.tar' breaks off after 0 of 5 samples" in capsys.readouterr().out


def test_verify_finds_an_id_that_comes_twice_in_a_split(tmp_path, capsys):
    folder = write(tmp_path / "out")
    manifest = read_json(folder / "manifest.json")
    manifest["splits"]["train"]["shards"][1] = manifest["splits"]["train"]["shards"][0]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit):
        main(["shards", "--verify", f"--out={folder}"])
    assert "'train' holds 8 ids more than once" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", ["--samples_per_shard=0", "--workers=0", "--resize=31", "--splits=[]", "--splits=[val,val]"]
)
def test_an_option_out_of_its_range_is_refused(option, tmp_path, capsys):
    name = option.split("=")[0].removeprefix("--")
    assert sentence_of(["shards", "--data=Cues", f"--out={tmp_path / 'out'}", option], capsys).startswith(name)
    assert not (tmp_path / "out").exists()


def test_a_run_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    """Its journal says nothing of a size."""
    nothing: dict[Split, tuple[ShardRecord, ...]] = {"train": ()}
    settings = Manifest(("a",), (0.5,) * 3, (0.5,) * 3, {}, 2, nothing)
    without_size = {
        name: value for name, value in settings.to_json().items() if name not in ("resize", "objects", "shuffle_seed")
    }
    (tmp_path / "written.jsonl").write_text(json.dumps(without_size | {"splits": ["train"]}) + "\n")
    assert Journal(tmp_path, settings).known("train-000000.tar") is None
    with pytest.raises(InputError, match="shards of other data or settings"):
        Journal(tmp_path, replace(settings, resize=40))
