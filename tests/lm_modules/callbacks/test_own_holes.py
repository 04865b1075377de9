"""`RelianceCallback` on images with holes of their own, which training images lend."""

import pytest
import pytorch_lightning as pl

from maskrobust import RelianceCallback
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data import Folder
from tests.train.evaluate.gaps import SIZE, NamesBlackCorners, write_gaps
from tests.trainers import quiet_trainer


class Module(pl.LightningModule):
    """A network that is not trained."""

    def __init__(self):
        super().__init__()
        self.net = NamesBlackCorners()

    def validation_step(self, batch, _):
        return self.net(batch.images).mean()


def logged(root, **options):
    """What the callback logs of a validation."""
    colours = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    data = Folder(str(root), visible=0, image_size=SIZE, num_workers=0, batch_size=16, **colours)
    callback = RelianceCallback(("black", "mean", "inpainting"), network="net", data=data, **options)
    trainer = quiet_trainer(callbacks=[callback])
    trainer.validate(Module(), dataloaders=data.val_dataloader(), verbose=False)
    return {name.removeprefix("reliance/"): float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("plan", [None, ReliancePlan(own_holes=1)])
def test_the_pull_is_logged_with_holes_of_training_images(plan, tmp_path):
    write_gaps(tmp_path, 40, split="train", dose=0.0)  # whose holes tell nothing, so that it shows whose are lent
    write_gaps(tmp_path, 60, split="val")
    of_training = logged(tmp_path, plan=plan)
    assert abs(of_training["black/own_hole_pull"]) < 0.3
    assert of_training["black/own_hole_pull_low"] < of_training["black/own_hole_pull"]
    assert of_training["mean/own_hole_pull"] == 0.0
    assert not [name for name in of_training if name.startswith("inpainting/") and "hole" in name]
    write_gaps(tmp_path, 40, split="train")
    found = logged(tmp_path, plan=plan)
    assert found["black/own_hole_pull"] == 1.0 and found["black/exchanged_holes_accuracy"] < 0.5


def test_nothing_is_logged_of_holes_where_there_are_none(tmp_path):
    for split in ("train", "val"):
        write_gaps(tmp_path, 40, split=split, holes="none")
    assert not [name for name in logged(tmp_path) if "hole" in name]
