"""Data modules of a user's own that know nothing of this package: pairs, triples and dictionaries of tensors."""

import json

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from maskrobust.augment import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.plain_batches import as_batch
from maskrobust.train.cli import main
from tests.train.runs import table
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_NETWORK
from tests.trainers import quiet_trainer

NUMBER = 12


class Tensors(Dataset):
    """Images of a known grey, with labels and the right half visible."""

    def __init__(self, kind):
        self.kind = kind

    def __len__(self):
        return NUMBER

    def __getitem__(self, index):
        image, visible = torch.full((3, 32, 32), index / NUMBER), torch.arange(32).expand(32, 32) >= 16
        if self.kind == "dict":
            return {"image": image, "label": index % 3, "visible": visible}
        return (image, index % 3, visible) if self.kind == "triple" else (image, index % 3)


class Bright(torch.nn.Module):
    """Whether an image is bright, dark, or neither."""

    def __init__(self, num_classes: int = 3):
        super().__init__()
        self.head = torch.nn.Linear(1, num_classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(x.mean(dim=(1, 2, 3))[:, None])


class Plain(pl.LightningDataModule):
    """As a tutorial of Lightning has it."""

    def __init__(
        self, kind: str = "pair", batch_size: int = 5, says: str = "num_classes", *, shuffle: bool = False
    ) -> None:
        super().__init__()
        self.kind, self.batch_size, self.shuffle = kind, batch_size, shuffle
        if says in ("num_classes", "both"):
            self.num_classes = 3
        if says == "class_names":
            self.class_names = ["a", "b", "c"]

    def setup(self, stage):
        if stage == "fit":  # and for no other stage, as tutorials have it
            self.data = Tensors(self.kind)

    def train_dataloader(self):
        return DataLoader(self.data, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, self.batch_size, shuffle=self.shuffle)


@pytest.fixture(autouse=True)
def told(caplog):
    """A command that ran in this process before may have quieted Lightning."""
    caplog.set_level("INFO", "pytorch_lightning")


def arguments(folder, **options):
    given = [f"--data.{name}={value}" for name, value in options.items()]
    run = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={folder}"]
    return ["fit", f"--data={__name__}.Plain", *given, *run, *TINY_NETWORK, "--trainer.enable_progress_bar=false"]


@pytest.mark.filterwarnings("ignore:The .*_dataloader. does not have many workers")
@pytest.mark.parametrize(
    ("kind", "says", "masking"),
    [("pair", "num_classes", "none"), ("triple", "class_names", "layer_masking"), ("dict", "num_classes", "none")],
)
def test_any_data_module_is_trained_on_by_the_command(kind, says, masking, tmp_path, capsys):
    main([*arguments(tmp_path, kind=kind, says=says), f"--model.masking={masking}", "--model.patch_size=8"])
    run = tmp_path / "run" / "version_0"
    assert "best: " in (out := capsys.readouterr().out) and f"--config {run}/config.yaml" in out
    saved = MaskRobustClassifier.from_checkpoint(str(next(run.rglob("best.ckpt"))))
    assert saved.num_classes == 3 and saved.class_names == (("a", "b", "c") if says == "class_names" else tuple("012"))


@pytest.mark.filterwarnings("ignore:The .*_dataloader. does not have many workers")
def test_a_sample_is_known_by_its_place_in_each_loader_and_epoch(caplog):
    seen = []

    class Noting(MaskRobustClassifier):
        def training_step(self, batch, batch_idx):
            seen.append(("train", batch.ids.tolist()))
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            seen.append(("val", batch.ids.tolist()))
            super().validation_step(batch, batch_idx)

    trainer = quiet_trainer(max_epochs=2, val_check_interval=2, num_sanity_val_steps=0)
    with caplog.at_level("INFO"):
        trainer.fit(Noting("small_resnet", 3, architecture_options={"width": 16}, patch_size=8), datamodule=Plain())
    for stage in ("train", "val"):
        assert [ids for each, ids in seen if each == stage] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]] * 2
    assert caplog.text.count("known by its place") == 1


def test_hidden_pixels_are_black_and_names_and_numbers_may_be_given_in_any_form():
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([1, 0], dtype=torch.int32)
    visible = torch.rand(2, 8, 8) > 0.5
    for given in ((images, labels, visible), [images, labels, visible[:, None].float()]):
        made = as_batch(given, range(5, 99))
        assert torch.equal(made.known[:, 0], visible) and torch.equal(made.images, images * visible[:, None])
        assert made.ids.tolist() == [5, 6] and made.labels.dtype == torch.int64
    named = {"images": images, "target": labels, "ids": [7, 9], "object_mask": visible}
    made = as_batch(named, range(9))
    assert made.ids.tolist() == [7, 9] and made.visible is None and torch.equal(made.object_mask[:, 0], visible)
    assert isinstance(made, Batch) and as_batch(made, range(9)) is made


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(2, 3, 8, 8), "a batch must be .* got torch.float32 of shape"),
        ({"x": 1}, "got a dictionary of x"),
        ((torch.zeros(2, 32, 32, 3), torch.zeros(2).long()), r"looks like \(B, H, W, C\)"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2)), r"labels must be \(2,\) integers, got torch.float32"),
        ((torch.full((2, 3, 8, 8), -2.0), torch.zeros(2).long()), "leave Normalize out of the data"),
        ((torch.zeros(2, 3, 8, 8), torch.zeros(2).long(), torch.ones(2, 3, 8, 8)), r"visible must be \(2, 1, 8, 8\)"),
    ],
)
def test_what_is_no_batch_is_one_sentence(given, said):
    with pytest.raises(InputError, match=said):
        as_batch(given, range(9))


def test_a_data_module_that_does_not_say_its_classes_is_told_how(tmp_path, capsys):
    sentence = sentence_of(arguments(tmp_path, says="nothing"), capsys)
    assert "Plain must say how many outputs the network has" in sentence


def measuring(folder, **options):
    torch.save(Bright().state_dict(), folder / "bright.pt")
    given = [f"--data.{name}={value}" for name, value in options.items()]
    network = f"--network={__name__}.Bright:{folder / 'bright.pt'}"
    return [f"--data={__name__}.Plain", *given, network, "--methods=[black]", "--device=cpu", f"--out={folder}"]


@pytest.mark.parametrize("kind", ["pair", "triple"])
def test_any_data_module_is_evaluated_and_explained(kind, tmp_path):
    quick = ["--plan.curve_families=[]", "--quick", "--predictions=true"]
    main(["evaluate", *measuring(tmp_path, kind=kind), *quick])
    mean, std = (torch.tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
    shown = torch.stack([Tensors("pair")[index][0] for index in range(NUMBER)])
    if kind == "triple":
        shown[..., :16] = 0  # hidden pixels are black
    expected = (((shown - mean) / std).mean(dim=(1, 2, 3)) < 0).int()
    assert 0 < expected.sum() < NUMBER
    rows = [row for row in table(tmp_path / "predictions.csv") if not float(row["hidden_fraction"])]
    found = [(row["sample"], int(row["label"]), int(row["prediction"])) for row in rows]
    assert found == [(f"image {place}", place % 3, each) for place, each in enumerate(expected.tolist())]
    main(["explain", *measuring(tmp_path, kind=kind), "--methods=[black]", *["--quick", "--max_images=2"]])
    assert len(json.loads((tmp_path / "explanations.json").read_text())["images"]) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data.shuffle=true"], "val_dataloader of Plain must yield the same batches each time, but shuffles"),
        (["--split=train"], "got train and loaders for val; give --split val."),
        (["--split=test"], "got test and loaders for val; give --split val."),
    ],
)
def test_images_that_change_from_pass_to_pass_are_not_measured(options, said, tmp_path, capsys):
    assert said in sentence_of(["evaluate", *measuring(tmp_path), *options], capsys)


@pytest.mark.parametrize("command", ["fit --trainer.max_epochs=1", "evaluate --network=resnet18:random --out=x"])
def test_a_data_module_of_the_other_lightning_is_told_from_a_wrong_name(command, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "others.py").write_text("class Other:\n    pass\n")
    sentence = sentence_of([*command.split(), "--data=others.Other"], capsys)
    assert "must be a subclass of pytorch_lightning.LightningDataModule" in sentence and "got others.Other" in sentence
