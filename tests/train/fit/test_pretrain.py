"""`maskrobust pretrain`: `fit` and plain PyTorch load what it leaves, and nothing is lost when it is stopped."""

from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from safetensors.torch import load_file

from maskrobust.augment import Batch
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.cli import main
from maskrobust.train.data import InMemoryDataModule
from tests.train.data.sets.test_folder import write_tree
from tests.train.fit.test_resume import EXACT, assert_same
from tests.train.runs import last, next_commands
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_NETWORK

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

DATA = {"train_images": 40, "val_images": 12, "image_size": 32, "batch_size": 8}  # 5 steps an epoch
OPTIONS = [
    *("--data=Cues", *(f"--data.init_args.{name}={value}" for name, value in DATA.items())),
    *(*TINY_NETWORK, "--model.patch_size=8", "--model.decoder_width=16"),
    *("--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    *("--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.5"),
]


def arguments(folder, *more):
    return ["pretrain", *OPTIONS, f"--trainer.default_root_dir={folder}", *more]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    main(arguments(folder))
    return folder


def test_a_pretraining_that_was_stopped_ends_as_if_it_had_not_been(whole, tmp_path):
    interruption = "--trainer.callbacks+=tests.train.interruptions.Interruption"
    with pytest.raises(SystemExit) as stopped:
        main(arguments(tmp_path, interruption, "--trainer.callbacks.kind=term", "--trainer.callbacks.step=7"))
    assert stopped.value.code == 143 and torch.load(last(tmp_path))["global_step"] == 7
    main(arguments(tmp_path, "--ckpt_path=last"))
    ended, undisturbed = torch.load(last(tmp_path)), torch.load(last(whole))
    for name in EXACT:
        assert_same(ended[name], undisturbed[name], name)


def test_fit_and_plain_pytorch_load_what_it_leaves_and_give_the_logits_of_the_encoder(whole):
    (best,), (weights,) = whole.rglob("best.ckpt"), whole.rglob("encoder.safetensors")
    saved = torch.load(best)
    options = {"architecture_options": {"width": 16}}
    pretraining = MaskedPretraining("small_resnet", decoder_width=16, **options)
    pretraining.load_state_dict(saved["state_dict"])
    images = torch.rand(2, 3, 32, 32)
    expected = pretraining.network.eval()(images)
    plain = build_network("small_resnet", 1000, {"width": 16}).eval()
    head = pretraining.network.network.fc.state_dict()
    missing, unexpected = plain.load_state_dict(load_file(weights), strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])
    plain.fc.load_state_dict(head)
    assert torch.equal(plain(images.contiguous(memory_format=torch.channels_last)), expected)
    for path in (best, weights):
        fitted = MaskRobustClassifier("small_resnet", 1000, weights=str(path), new_head=True, **options)
        fitted.network.fc.load_state_dict(head)
        assert torch.equal(fitted.network.eval()(images), expected)


def test_the_command_that_it_ends_with_fine_tunes_its_weights(tmp_path, capsys):
    root, _ = write_tree(tmp_path, ("train", "val"))
    main(arguments(tmp_path / "runs", "--trainer.max_epochs=1"))
    (given,) = next_commands(capsys.readouterr().out)
    assert given[-1].endswith("best.ckpt")
    short = [
        *("--data.init_args.image_size=32", "--data.init_args.batch_size=4", "--data.init_args.num_workers=0"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--model.learning_rate=1e-9", f"--trainer.default_root_dir={tmp_path / 'fitted'}"),
    ]
    main([each.replace("LABELLED_IMAGES", str(root)) for each in given] + short)
    (best,), fitted = (tmp_path / "runs").rglob("best.ckpt"), torch.load(last(tmp_path / "fitted"))
    before = torch.load(best)
    for name in ("network.conv1.weight", "network.layer3.0.conv2.weight"):
        torch.testing.assert_close(fitted["state_dict"][name], before["state_dict"][name], rtol=1e-4, atol=1e-5)
    for name in ("mean", "std"):  # the colours that the encoder knows, not those of the labelled images
        assert fitted["hyper_parameters"][name] == before["hyper_parameters"][name]


class Scans(InMemoryDataModule):
    """Volumes of bytes in .npy files."""

    num_classes, class_names, splits, mean, std = 0, (), ("train", "val"), (0.5,), (0.3,)

    def __init__(self, root: str):
        super().__init__(batch_size=2, num_workers=0, seed=0)
        self.paths = sorted(Path(root).glob("*.npy"))

    def ids(self, split):
        return torch.arange(4) if split == "train" else torch.arange(4, 6)

    def make_samples(self, split, ids):
        scans = torch.from_numpy(np.stack([np.load(self.paths[each]) for each in ids.tolist()]))[:, None]
        return Batch(ids, scans, torch.zeros_like(scans, dtype=torch.bool), torch.full_like(ids, -1))


def scan_encoder():
    return torch.nn.Sequential(torch.nn.Conv3d(1, 8, 4, 4), torch.nn.ReLU(), torch.nn.Conv3d(8, 8, 3, 2, 1))


def test_volumes_of_a_data_module_of_ones_own_are_taken(tmp_path, capsys):
    for number in range(6):
        np.save(tmp_path / f"{number}.npy", np.random.default_rng(number).integers(0, 256, (16, 16, 16), np.uint8))
    own = [f"--data={__name__}.Scans", f"--data.root={tmp_path}", f"--model.architecture={__name__}.scan_encoder"]
    size = ["--model.patch_size=8", "--model.decoder_width=8"]
    main(
        [
            "pretrain",
            *own,
            *size,
            *(each for each in OPTIONS if "trainer" in each),
            f"--trainer.default_root_dir={tmp_path}",
        ]
    )
    (weights,) = tmp_path.rglob("encoder.safetensors")
    scan_encoder().load_state_dict(load_file(weights))
    assert "maskrobust fit" not in capsys.readouterr().out


def test_reconstructions_are_shown_after_each_validation(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    try:
        main(arguments(tmp_path, "--trainer.max_epochs=1", "--wandb=true", "--trainer.limit_train_batches=1"))
    finally:
        wandb.finish()
    assert [path.parent.name for path in tmp_path.rglob("*.png")] == ["val"]
    assert next(tmp_path.rglob("*.png")).name.startswith("reconstructions")


def test_what_pretrain_cannot_do_is_refused_in_one_sentence(whole, tmp_path, capsys):
    endless = sentence_of([*arguments(tmp_path), "--trainer.max_epochs=-1"], capsys)
    assert endless.startswith("a schedule and a warm-up need to know how long")
    assert sentence_of([*arguments(tmp_path), "--compile=true"], capsys).startswith("compile must be false")
    assert "--model.masking" in sentence_of([*arguments(tmp_path), "--model.masking=fill"], capsys)
    going_on = ["fit", "--data=Cues", "--trainer.max_epochs=3", f"--ckpt_path={last(whole)}"]
    assert "must be the checkpoint of a MaskRobustClassifier, but it has 'decoder_width'" in sentence_of(
        going_on, capsys
    )


def test_images_without_labels_are_read_from_shards(tmp_path, capsys):
    root, _ = write_tree(tmp_path, ["train"])
    main(["shards", "--data=Images", f"--data.root={root}", "--data.val_fraction=0.3", f"--out={tmp_path}"])
    names = {split: f"{tmp_path}/{split}-000000.tar" for split in ("train", "val")}
    shards = ["--data=Shards", *(f"--data.{split}={name}" for split, name in names.items())]
    shards += ["--data.train_samples=8", "--data.image_size=32", "--data.batch_size=4"]
    options = [each for each in OPTIONS if "--data" not in each]
    main(["pretrain", *shards, *options, "--data.num_workers=0", f"--trainer.default_root_dir={tmp_path}"])
    assert last(tmp_path).is_file()
    assert sentence_of(["fit", *shards, "--trainer.max_epochs=1"], capsys).startswith("fit needs images with labels")
    refused = sentence_of(["evaluate", "--network=resnet18:x", *shards[:3], f"--out={tmp_path / 'evaluation'}"], capsys)
    assert refused.startswith("maskrobust evaluate needs images with labels")
    claim = ["claim", "--config=claim_cues.yaml", *shards[:3], f"--out={tmp_path / 'claim'}"]
    assert sentence_of(claim, capsys).startswith("a claim needs images with labels")
