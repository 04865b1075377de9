"""Both controls on trained networks: one that saw outlines alone, and one for which outlines were useless."""

import pytest
import pytorch_lightning as pl
import torch
from torch.nn.functional import one_hot

from maskrobust.augment import SilhouetteBank, object_holes, sample_keys
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measures.shape import swap_pull, used_share
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.probe import probe_outcomes, train_probe
from maskrobust.lm_modules.reliance.suite import RelianceSuite
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data import Cues
from maskrobust.train.data.batches import batches_on

CLASSES = 4


def cues(**options):
    return Cues(train_images=2000, val_images=200, test_images=600, image_size=32, num_classes=CLASSES, **options)


@pytest.fixture(scope="module")
def told():
    """Images whose outline tells the class."""
    return cues()


def train_on(masks, labels):
    train, held_out = (
        SilhouetteBank(masks[split], labels[split], torch.arange(len(labels[split]))) for split in ("train", "val")
    )
    return train_probe(train, held_out, CLASSES, seed=0, max_epochs=8)


@pytest.fixture(scope="module")
def probe(told):
    samples = {split: told.samples(split) for split in ("train", "val")}
    trained = train_on(
        {split: each.object_mask for split, each in samples.items()},
        {split: each.labels for split, each in samples.items()},
    )
    return probe_outcomes(trained, told.test_dataloader())


def measured(predictors, data, probe):
    """Used share and swap pull of each predictor on the test split."""
    bank = SilhouetteBank.from_batches(data.val_dataloader())
    suite = RelianceSuite(bank, CLASSES, ReliancePlan(hidden_fractions=()))
    parts = [suite.ask(predictors, batch) for batch in batches_on(data.test_dataloader(), "cpu")]
    found = {}
    for name in predictors:
        outcomes = Outcomes.merge([part[name] for part in parts])
        measures = (used_share(probe), swap_pull())
        share, pull = (estimate(measure, [outcomes], confidence=0.999).interval for measure in measures)
        assert share is not None and pull is not None
        found[name] = (share, pull)
    return found


def test_a_network_trained_on_holes_alone_uses_all_that_outlines_hold(told, probe):
    holes, labels = {}, {}
    for split in ("train", "val"):
        samples = told.samples(split)
        found = object_holes(sample_keys(1, samples.ids), samples.object_mask)
        holes[split], labels[split] = ~found.silhouette_visible[found.valid], samples.labels[found.valid]
    reader = train_on(holes, labels)

    def predict(_images, visible, _keys):
        return one_hot(reader(~visible), CLASSES).float()

    share, pull = measured({"reader": predict}, told, probe)["reader"]
    assert 0.8 < share.low <= share.high < 1.2  # not 1: holes are read a little worse than outlines, or better
    assert pull.low > 0.5


def test_outlines_that_tell_nothing_are_not_used_and_hidden_ones_cannot_be(told, probe):
    """Where outlines tell nothing, whatever is read of them is worth nothing; the probe's scale is that of `told`."""
    useless = cues(outline_informativeness=0.0)
    pl.seed_everything(0, verbose=False)
    classifier = MaskRobustClassifier(
        num_classes=CLASSES, mean=useless.mean, std=useless.std, architecture_options={"width": 16}
    )
    trainer = pl.Trainer(
        max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(classifier, datamodule=useless)
    classifier.eval()
    assert trainer.callback_metrics["val/accuracy"] > 0.7
    methods = {method: classifier.trained_network().predictor(method) for method in ("black", "mean", "layer_masking")}
    found = [*measured(methods, useless, probe).values()]
    found += measured({"layer_masking": methods["layer_masking"]}, told, probe).values()
    for share, pull in found:
        assert -0.15 < share.low <= 0.0 <= share.high < 0.15
        assert -0.15 < pull.low <= 0.0 <= pull.high < 0.15
