"""`maskrobust shards` writes what WebDataset reads, and trainings on shards: killed, resumed, on two processes."""

import hashlib
import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
import yaml
from PIL import Image

from maskrobust.augment.random import sample_keys
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.cli import main
from maskrobust.train.data import Folder, Shards
from maskrobust.train.storage.files import read_json
from tests.processes import run_command, started
from tests.train.data.layouts import joined
from tests.train.data.sets.test_folder import write_tree
from tests.train.data.sets.test_shards import COUNTS, make, named, serving, write_folder
from tests.train.fit.test_resume import assert_same
from tests.train.runs import last, rows, run
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES

resumes = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def write_arguments(tree, out, *more):
    given = ["shards", "--data=Folder", f"--data.root={tree[0]}", f"--data.mask_root={tree[1]}"]
    return [*given, "--samples_per_shard=5", f"--out={out}", *more]


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("[!.]*.tar*")}


def test_image_files_are_kept_byte_for_byte_with_label_mask_and_size(tmp_path):
    tree = write_tree(tmp_path)
    Image.effect_noise((70, 50), 60).convert("RGB").save(tree[0] / "train" / "cat" / "photo.JPEG")
    main(write_arguments(tree, tmp_path / "out"))
    data = Folder(str(tree[0]), str(tree[1]))
    for split in ("train", "val", "test"):
        urls = [str(path) for path in sorted((tmp_path / "out").glob(f"{split}-*.tar"))]
        with pytest.warns(UserWarning, match="shardshuffle"):
            stored = {int(each["__key__"]): each for each in webdataset.WebDataset(urls)}
        files = {file.id: file for file in data.files(split)}
        assert stored.keys() == files.keys() and len(urls) == -(-len(files) // 5)
        for each, file in files.items():
            parts = stored[each]
            assert parts[file.image.suffix.lower()[1:]] == file.image.read_bytes()
            height, width = np.asarray(Image.open(file.image)).shape[:2]
            assert json.loads(parts["json"]) == {"id": each, "height": height, "width": width}
            assert (parts["cls"], "mask.png" in parts) == (f"{file.label}".encode(), file.mask is not None)
    content = yaml.safe_load((tmp_path / "out" / "shards.yaml").read_text())["data"]["init_args"]
    shards = Shards(**content, image_size=32, num_workers=0)
    assert (shards.class_names, shards.mean, shards.train_samples) == (data.class_names, [*data.mean], 13)
    pictures = [joined(each.whole_split("val")).images.sum(dim=(1, 2, 3)).sort()[0] for each in (shards, Folder(
        str(tree[0]), str(tree[1]), image_size=32, num_workers=0))]  # fmt: skip
    assert torch.equal(*pictures)


class Held(Folder):
    """Waits with the last image of its second shard where a file says so."""

    def files(self, split):
        files = super().files(split)
        if split != "train" or not os.environ.get("HELD"):
            return files
        order = sample_keys(0, torch.tensor([file.id for file in files])).argsort().tolist()
        pipe = Path(os.environ["HELD"])
        return [file._replace(image=pipe) if place == order[9] else file for place, file in enumerate(files)]


def test_a_writer_that_was_killed_is_gone_on_with_to_the_same_bytes_and_leaves_no_half_a_shard(
    tmp_path, monkeypatch, capsys
):
    tree, out = write_tree(tmp_path), tmp_path / "out"
    arguments = ["shards", f"--data={__name__}.Held", *write_arguments(tree, out)[2:]]
    main([*arguments[:-1], f"--out={tmp_path / 'whole'}"])
    os.mkfifo(tmp_path / "pipe")  # which nobody writes to
    monkeypatch.setenv("HELD", str(tmp_path / "pipe"))
    with started(run_command, arguments, errors=tmp_path / "errors") as process:
        while not (out / "train-000000.tar").exists() or not [*out.glob(".train-000001.tar.*")]:
            assert process.poll() is None, (tmp_path / "errors").read_text()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    monkeypatch.delenv("HELD")
    whole = checksums(tmp_path / "whole")
    assert checksums(out) == {"train-000000.tar": whole["train-000000.tar"]}
    assert "holds shards of other" in sentence_of([*arguments, "--samples_per_shard=4"], capsys)
    main(arguments)
    assert checksums(out) == whole and not [*out.glob(".*")]


def test_shards_hold_all_classes_in_random_order_whatever_the_order_of_the_files(tmp_path):
    for number in range(80):
        path = tmp_path / "images" / "val" / f"class_{number // 20}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
    main(
        ["shards", "--data=Folder", f"--data.root={tmp_path / 'images'}", f"--out={tmp_path}", "--samples_per_shard=20"]
    )
    for number in range(4):
        with pytest.warns(UserWarning, match="shardshuffle"):
            labels = [each["cls"] for each in webdataset.WebDataset(f"{tmp_path}/val-{number:06d}.tar")]
        assert len(set(labels)) == 4 and max(map(labels.count, labels)) <= 11
        assert sum(a != b for a, b in pairwise(labels)) >= 8


def test_what_cannot_be_written_is_one_sentence(tmp_path, capsys):
    generated = sentence_of(["shards", "--data=Cues", f"--out={tmp_path / 'out'}"], capsys)
    assert generated.startswith("shards are made of image files")
    empty = sentence_of(write_arguments(write_tree(tmp_path), tmp_path / "out", "--samples_per_shard=0"), capsys)
    assert empty.startswith("samples_per_shard must be at least 1")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "shards")


def fit_arguments(place, out, *more):
    shards = [f"--data.{name}={value}" for name, value in named(place).items()]
    small = ["--data.image_size=32", "--data.batch_size=4", "--data.num_workers=2", "--trainer.accelerator=cpu"]
    run_options = [f"--trainer.default_root_dir={out}", "--trainer.max_epochs=2", "--trainer.enable_progress_bar=false"]
    network = ["--model.architecture_options={width: 16}", "--model.masking=layer_masking", "--model.patch_size=8"]
    return ["fit", "--data=Shards", *shards, *small, *run_options, *network, *more]


STEPS = sum(COUNTS["train"]) // 4


KILL = ["--trainer.callbacks+=tests.train.interruptions.Interruption", "--trainer.callbacks.kind=kill"]


@resumes
@pytest.mark.parametrize(("every", "kept"), [(2, 2), (1, STEPS)], ids=["in an epoch", "after an epoch"])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(folder, tmp_path, every, kept):
    main(fit_arguments(f"pipe:cat {folder}", tmp_path / "whole"))
    arguments = fit_arguments(f"pipe:cat {folder}", tmp_path / "parts", f"--save_every_n_steps={every}")
    run([*arguments, "--ckpt_path=auto", *KILL, f"--trainer.callbacks.step={kept + every}"], status=-9)
    checkpoint = torch.load(last(tmp_path / "parts"))
    assert checkpoint["global_step"] == kept
    checkpoint["config"]["data"]["init_args"]["train"] = f"pipe:touch {tmp_path / 'executed'}"
    torch.save(checkpoint, last(tmp_path / "parts"))
    run([*arguments, "--ckpt_path=auto"])
    assert not (tmp_path / "executed").exists(), "no command is taken from a checkpoint"
    ended, whole = (torch.load(last(tmp_path / name)) for name in ("parts", "whole"))
    for name in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same(ended[name], whole[name], name)


@resumes
def test_two_processes_train_in_step_and_validate_as_one_does(folder, tmp_path):
    """On uneven shards over HTTP, with two loader processes each."""
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1"]
    with serving(folder) as address:
        run(fit_arguments(address, tmp_path / "two", *two))
    checkpoint = last(tmp_path / "two")
    assert torch.load(checkpoint)["global_step"] == 28 // (4 * 2)
    together = next(row for row in rows(tmp_path / "two") if row["val/accuracy"])
    classifier = MaskRobustClassifier.load_from_checkpoint(checkpoint).eval()
    batch = joined(make(folder).val_dataloader())
    with torch.inference_mode():
        right = (classifier(batch.images).argmax(dim=1) == batch.labels).float().mean()
    assert float(together["val/accuracy"]) == pytest.approx(float(right), abs=1e-5)


def test_an_evaluation_asks_about_every_sample_once_and_a_quick_one_about_some(folder, tmp_path):
    data = ["--data=Shards", *(f"--data.{name}={value}" for name, value in named(folder).items())]
    given = ["evaluate", "--network=small_resnet:random", *data, "--data.image_size=32", "--data.batch_size=4"]
    for number, more in enumerate(([], ["--quick"])):
        out = tmp_path / f"out{number}"
        main([*given, "--data.num_workers=2", f"--out={out}", *more, *FEW_MEASURES, "--split=val"])
        images = {row["images"] for row in read_json(out / "reliance.json")["rows"]}
        assert max(images) == 12
