"""The kinds of arm: what a calibration is fitted on, and known manipulation checks."""

from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from rich.console import Console
from torch import Tensor, nn

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.augment.batch import first_images
from maskrobust.errors import InputError
from maskrobust.lm_modules.calibration import AffineCalibration
from maskrobust.lm_modules.methods import centred
from maskrobust.lm_modules.networks.weights import read_state_dict
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.training_masks import build_masking
from maskrobust.train.claim import arms, run_claim, runs
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.arms import frozen_network, learn, predictors
from maskrobust.train.claim.runs import manipulation_check, measured_probe
from maskrobust.train.data.batches import batches_on
from maskrobust.train.running.progress import ClaimProgress
from tests.train.tiny import tiny_claim, write_claim

SILENT = Console(file=StringIO())


def config_of(path, out, *options):
    return parse_config([f"--config={path}", f"--out={out}", *options])


def outcomes_of(config):
    """Of the seed 1 of every arm, by arm and method; made unless they are there."""
    measured = run_claim(config, SILENT)
    assert measured is not None
    runs, _ = measured
    return {(arm, method): found for arm, seeds in runs.items() for method, found in seeds[1].outcomes.items()}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        for one, other in zip(vars(left[key]).values(), vars(right[key]).values(), strict=True):
            np.testing.assert_equal(one, other)


def test_answers_are_centred_by_training_scenes_after_they_are_calibrated(tmp_path):
    path = write_claim(tmp_path / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["evaluation"]["methods"] = ["mean", "mean+centred", "layer_masking"]
    content["arms"] = dict(
        reversed(content["arms"].items())
    )  # those that use a network ahead of the one that trains it
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    config = config_of(path, tmp_path / "out")
    found, bank = outcomes_of(config), SilhouetteBank.from_batches(config.data.annotated_batches("val"))
    scenes = config.data.empty_scenes("train", 8).images
    for arm in ("no_masks", "mcal"):
        network, run = frozen_network(config, arm, 1).trained_network(), config.run_of(arm, 1)
        plain = predictors(config, run, network).get("mean", network.predictor("mean"))
        asked = Measurement(
            {arm: network},
            bank,
            {"mean": config.plans_of(arm)["mean+centred"]},
            num_classes=config.data.num_classes,
            seed=config.evaluation.seed,
            predictors={arm: {"mean": centred(plain, scenes)}},
        )
        device = next(network.parameters()).device
        expected = asked.run(batches_on(config.data.whole_split("test"), device))[arm]["mean"]
        assert_same({"": found[arm, "mean+centred"]}, {"": expected})


def test_the_seed_of_a_run_decides_weights_and_order_alike_for_all_arms(tmp_path, monkeypatch):
    config = config_of(write_claim(tmp_path / "claim.yaml", seeds=[1, 2]), tmp_path / "out")
    begun: list[tuple[int, Tensor]] = []

    def fit(_trainer, classifier, datamodule, **_):
        begun.append((datamodule.order_seed, torch.cat([each.flatten() for each in classifier.network.parameters()])))

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    for arm in ("no_masks", "layer_masking"):
        for seed in (1, 2):
            learn(config, config.run_of(arm, seed), tmp_path, ClaimProgress(SILENT, runs=1))
    assert [order for order, _ in begun] == [1, 2, 1, 2]
    first, second, *same = (weights for _, weights in begun)
    assert torch.equal(first, same[0]) and torch.equal(second, same[1]) and not torch.equal(first, second)


Fit = tuple[Tensor, Tensor]


@pytest.fixture
def holes(monkeypatch):
    """What is visible in each batch that a calibration is fitted on."""
    drawn: list[Tensor] = []

    def build(*arguments, **options):
        masks = build_masking(*arguments, **options)

        def draw_visible(keys, batch):
            drawn.append(masks.draw_visible(keys, batch))
            return drawn[-1]

        return SimpleNamespace(draw_visible=draw_visible)

    monkeypatch.setattr(arms, "build_masking", build)
    return drawn


@pytest.fixture
def fits(monkeypatch):
    """What is fitted, in place of a fit; 20 images are enough."""
    asked: list[Fit] = []

    def fit(masked_logits, targets):
        asked.append((masked_logits, targets))
        return AffineCalibration(torch.full((4, 4), float(len(asked))), torch.zeros(4))

    monkeypatch.setattr(arms, "fit_calibration", fit)
    monkeypatch.setattr(arms, "CALIBRATION_IMAGES", 20)
    return asked


def calibrated(folder, batch_size, monkeypatch):
    """An untrained network, the first 20 training images, and what a calibration of that network has learned."""
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["data"]["init_args"]["batch_size"] = batch_size
    content["evaluation"]["methods"].append("mean+centred")  # whose map is that of the mean
    content["arms"]["mcal"] = {"title": "MCal", "network_of": "no_masks", "calibration": True}
    path.write_text(yaml.safe_dump(content))
    config = parse_config([f"--config={path}", f"--out={folder / 'out'}"])
    config.data.setup("fit")
    torch.manual_seed(0)
    classifier = MaskRobustClassifier(num_classes=4, **config.models["mcal"]).eval()
    monkeypatch.setattr(arms, "frozen_network", lambda *_: classifier)
    run = config.run_of("mcal", 1)
    learn(config, run, folder, ClaimProgress(Console(file=StringIO()), runs=1))
    images = config.data.samples("train").images[:20] / 255  # type: ignore[attr-defined]
    return classifier, images, read_state_dict(folder / run.learned.name)


def test_masked_images_are_to_be_predicted_as_the_network_predicts_them_with_nothing_hidden(
    fits, holes, tmp_path, monkeypatch
):
    classifier, images, maps = calibrated(tmp_path, 16, monkeypatch)
    with torch.no_grad():
        clean = classifier(images)
    first = {name: float(each.flatten()[0]) for name, each in maps.items()}
    methods = ("black", "mean", "random_colour", "layer_masking")
    weights = {f"{method}.weight": float(place) for place, method in enumerate(methods, start=1)}
    assert first == weights | {f"{method}.bias": 0.0 for method in methods}
    with torch.no_grad():
        behind_black = classifier(torch.where(torch.cat(holes), images, 0.0))
    assert torch.allclose(fits[0][0], behind_black, atol=1e-5)
    for logits, targets in fits:
        assert torch.equal(targets, clean.argmax(dim=1))
        assert logits.shape == (20, 4)
        assert not (logits - clean).abs().amax(dim=1).lt(1e-6).any()


def test_holes_do_not_depend_on_the_batches(fits, tmp_path, monkeypatch):
    for batch_size in (16, 5):
        (tmp_path / str(batch_size)).mkdir()
        calibrated(tmp_path / str(batch_size), batch_size, monkeypatch)
    for (first, _), (second, _) in zip(fits[:4], fits[4:], strict=True):
        assert torch.allclose(first, second, atol=1e-5)


def test_the_probe_learns_from_the_first_draw_whatever_was_trained_on_before(tmp_path, monkeypatch):
    path = write_claim(tmp_path / "claim.yaml", training={"epochs": 1, "images_by_seed": True})
    config, learned = config_of(path, tmp_path / "out"), []

    def train(data, _seed):
        learned.append(data.samples("train").ids.tolist())
        raise InputError("enough")

    monkeypatch.setattr(runs, "train_outline_probe", train)
    first = config.data.samples("train").ids.tolist()
    config.data.draw_training(3)
    with pytest.raises(InputError, match="enough"):
        measured_probe(config, ClaimProgress(SILENT, runs=1))
    assert learned == [first]


def fixed(logits):
    """A classifier that says the same of every image."""
    head = nn.Linear(3, len(logits))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(logits))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return MaskRobustClassifier(network, num_classes=len(logits))


def test_a_network_that_says_the_same_of_everything_has_the_numbers_that_follow_from_it(tmp_path):
    path = tiny_claim("factorial_cues.yaml", tmp_path / "claim.yaml")
    config = parse_config([f"--config={path}", f"--out={tmp_path}"])
    config.data.setup("fit")
    few = Batch.cat([*first_images(config.data.val_dataloader(), 20)]).to("cpu")
    for logits, entropy in (([0.0] * 4, 1.0), ([0.0, 0.0, -90.0, -90.0], 0.5), ([90.0, 0.0, 0.0, 0.0], 0.0)):
        found = manipulation_check(config, fixed(logits), few)
        assert found.pop("abstention") == pytest.approx(entropy, abs=1e-6)
        assert found.pop("consistency") == 1.0
        assert set(found) == set(config.manipulation_checks) - {"abstention", "consistency"}
        assert list(found.values()) == pytest.approx([(few.labels == 0).float().mean().item()] * len(found))
