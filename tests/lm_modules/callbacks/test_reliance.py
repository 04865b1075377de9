"""Reliance measured during training: right figures, from every process, to every logger, and nothing disturbed."""

import itertools
import json

import pytest
import pytorch_lightning as pl
import torch
import wandb
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch.utils.data import DataLoader

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks import RelianceCallback, reliance
from maskrobust.lm_modules.callbacks.logged_pictures import log_picture
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.accuracy import retention
from maskrobust.lm_modules.reliance.measures.shape import shape_choice, silhouette_leak
from maskrobust.lm_modules.reliance.plan import WITHOUT_OBJECTS, ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.callbacks.runs import PLAN, TRAINING, VALIDATION, Shapes, build, callback, csv_logger, fit, logged
from tests.lm_modules.reliance.shapes import NUM_CLASSES

EVERYTHING = ReliancePlan(
    patch_size=4,
    curve_families=("patches",),
    curve_orders=("random", "most_salient"),
    curve_fractions=(0.0, 0.5, 1.0),
    transfer_families=("rectangles", "silhouettes"),
    scenes=3,
    scene_objects=12,
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A run of two measured epochs, logged to an offline run of W&B and to CSV."""
    folder = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        loggers = [WandbLogger(save_dir=folder, project="test", offline=True), csv_logger(folder / "scalars")]
        _, classifier = fit(loggers, callback())
        wandb.finish()
    return folder / "scalars", classifier


def test_training_goes_on_as_it_would_without_and_every_part_of_the_plan_is_logged(measured, tmp_path):
    """Measured amid an epoch and amid the accumulation of gradients, too."""
    often = {"val_check_interval": 2, "accumulate_grad_batches": 3, "epochs": 1}
    _, classifier = fit(csv_logger(tmp_path / "measured"), callback(plan=EVERYTHING), **often)
    random_state = torch.get_rng_state()
    _, undisturbed = fit(csv_logger(tmp_path / "undisturbed"), **often)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in classifier.modules()] == [module.training for module in undisturbed.modules()]
    for name, weights in undisturbed.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], weights), name
    everything, default = logged(tmp_path / "measured"), logged(measured[0])
    added = {
        "curve_accuracy_score_patches_random",
        "curve_accuracy_score_patches_most_salient",
        "transfer_accuracy_rectangles",
        "transfer_accuracy_silhouettes",
        "outline_pull",
    }
    names = {f"reliance/{method}/{name}" for method in ("black", "layer_masking") for name in added}
    assert names <= set(everything)
    assert not names & set(default)
    for name in names:
        assert everything[f"{name}_low"][0] <= everything[name][0] <= everything[f"{name}_high"][0]


def test_scenes_are_refused_where_the_data_have_none(tmp_path, monkeypatch):
    monkeypatch.setattr(Shapes, "empty_scenes", lambda *_: None)
    with pytest.raises(InputError, match="asks about 3 scenes, but Shapes has no empty scenes"):
        fit(csv_logger(tmp_path), callback(plan=EVERYTHING), epochs=1)


class NoMasks(Shapes):
    """Images alone, as most people have them."""

    def annotated_batches(self, split):
        return (_without_mask(batch) for batch in TRAINING)

    def val_dataloader(self):
        return DataLoader([_without_mask(batch) for batch in VALIDATION], batch_size=None)


def _without_mask(batch):
    return batch._replace(object_mask=torch.zeros_like(batch.object_mask))


def test_images_without_object_masks_are_asked_all_that_needs_none(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("maskrobust.lm_modules.callbacks.reliance.rank_zero_info", said.append)
    fit(csv_logger(tmp_path), callback(plan=EVERYTHING), data=NoMasks)
    numbers = logged(tmp_path)
    found = {name.removeprefix("reliance/black/") for name in numbers if name.startswith("reliance/black/")}
    kept = {"retention_0.5", "curve_accuracy_score_patches_random", "transfer_accuracy_rectangles"}
    assert {name for name in found if not name.endswith(("_low", "_high"))} == kept
    assert all(len(numbers[f"reliance/black/{name}"]) == 2 for name in kept)
    assert said[0] == f"RelianceCallback: {WITHOUT_OBJECTS}"
    start = "RelianceCallback: the measures of epoch 1 mean nothing: its mean recall over classes with nothing "
    assert [each.startswith(start) for each in said[1:]] == [True]  # epoch 0 was better


def test_the_figures_of_the_last_epoch_are_those_of_a_measurement(measured):
    folder, classifier = measured
    network = classifier.eval().trained_network()
    asked = {method: Asked(network.predictor(method), PLAN) for method in ("black", "layer_masking")}
    measurement, numbers = Measurement(asked, SilhouetteBank.from_batches(TRAINING), NUM_CLASSES), logged(folder)
    answers = measurement.run(VALIDATION)
    statistics = {"silhouette_leak": silhouette_leak(), "shape_choice": shape_choice(), "retention_0.5": retention(0.5)}
    for method, (key, measure) in itertools.product(asked, statistics.items()):
        expected = estimate(measure, [answers[method]]).interval
        name = f"reliance/{method}/{key}"
        found = [numbers[name + end][-1] for end in ("", "_low", "_high")]
        assert expected is not None and found == pytest.approx(list(expected), abs=1e-6)


def test_each_metric_is_defined_once_and_before_it_is_logged(tmp_path, monkeypatch):
    said = []
    log = MaskRobustClassifier.log

    def noted_log(self, name, *values, **options):
        said.append(name)
        log(self, name, *values, **options)

    def noted_definition(_, name, **__):
        said.append(f"define {name}")

    monkeypatch.setattr(MaskRobustClassifier, "log", noted_log)
    monkeypatch.setattr("maskrobust.lm_modules.callbacks.reliance.define_metric", noted_definition)
    fit(csv_logger(tmp_path), callback(plan=ReliancePlan(shapes=False, patch_size=4)), epochs=2)
    names = {name for name in said if name.startswith("reliance/")}
    assert names and all(said.count(name) == 2 and said.count(f"define {name}") == 1 for name in names)
    assert all(said.index(f"define {name}") < said.index(name) for name in names)


def test_data_that_know_which_images_stand_for_a_split_choose_them(tmp_path, monkeypatch):
    class Chosen(Shapes):
        def some_images(self, *given):
            return VALIDATION[2:] if given == ("val", 20) else []

        def some_objects(self, *given):
            return TRAINING[3:] if given == ("train", 30) else []

    asked = []
    ask, measuring = Measurement.ask, callback(max_images=20, max_objects=30)
    monkeypatch.setattr(Measurement, "ask", lambda self, batch: asked.extend(batch.ids.tolist()) or ask(self, batch))
    fit(csv_logger(tmp_path), measuring, data=Chosen, epochs=1)
    assert asked == VALIDATION[2].ids.tolist() and measuring._bank.ids.tolist() == TRAINING[3].ids.tolist()


def test_no_more_images_are_measured_than_asked_for_and_only_in_every_nth_epoch(tmp_path, monkeypatch):
    asked = []
    ask = Measurement.ask
    monkeypatch.setattr(Measurement, "ask", lambda self, batch: asked.append(len(batch.ids)) or ask(self, batch))
    fit(csv_logger(tmp_path), callback(max_images=20, every_n_epochs=2), epochs=5)
    assert asked == [16, 4] * 2  # nothing in the sanity check
    asked.clear()
    monkeypatch.setattr(reliance, "_PART", 6)  # so that many processes share few batches
    fit(csv_logger(tmp_path / "parts"), callback(max_images=20), epochs=1)
    assert asked == [6, 6, 4, 4]
    assert len(logged(tmp_path)["reliance/black/silhouette_leak"]) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"methods": ("blue",)}, "'blue'"),
        ({"every_n_epochs": 0}, "every_n_epochs"),
        ({"max_images": 0}, "max_images"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        RelianceCallback(**options)


def test_weights_are_averaged_after_the_callback_or_not_at_all(tmp_path):
    averaging = EMAWeightAveraging(decay=0.5)
    fit(csv_logger(tmp_path / "right"), callback(), averaging, epochs=1)
    with pytest.raises(InputError, match="must come before EMAWeightAveraging"):
        fit(csv_logger(tmp_path / "wrong"), averaging, callback(), epochs=1)
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[averaging, callback()])
    trainer.validate(build(), datamodule=Shapes())  # where no weights are averaged


def test_a_resumed_run_goes_on_with_the_table(tmp_path):
    first, second = callback(), callback()
    trainer, _ = fit(csv_logger(tmp_path / "first"), first, epochs=1)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    saved = torch.load(tmp_path / "first.ckpt", weights_only=True)["callbacks"]
    second.load_state_dict(saved[second.state_key])
    fit(csv_logger(tmp_path / "second"), second, epochs=1)
    rows = first.state_dict()["rows"]
    assert len(rows) > 0 and second.state_dict()["rows"] == rows + rows


def test_data_without_objects_to_lend_are_refused(tmp_path):
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[callback()])
    with pytest.raises(InputError, match="reliance callback needs a data module"):
        trainer.validate(build(), dataloaders=DataLoader(VALIDATION, batch_size=None))
    with pytest.raises(InputError, match=r"needs a data module with .*, got 'IMAGES'; give one of maskrobust"):
        callback(data="IMAGES")


def test_the_table_and_the_scalars_are_the_same_numbers(measured):
    last = max(measured[0].parent.rglob("media/table/reliance/rows*.table.json"), key=lambda path: path.stat().st_size)
    scalars = logged(measured[0])
    for epoch, method, measure, *numbers, _, _ in json.loads(last.read_text())["data"]:
        name = f"reliance/{method}/{measure}"
        for end, number in zip(("", "_low", "_high"), numbers, strict=True):
            assert number is None or scalars[name + end][epoch] == pytest.approx(number, abs=1e-6)
        assert None not in numbers


def test_weights_and_biases_gets_a_picture_of_each_measured_epoch(measured):
    assert len([*measured[0].parent.rglob("media/images/reliance/shown*.png")]) == 2


def test_tensorboard_gets_the_picture(monkeypatch):
    """Its writer is no dependency, so a stand-in takes its place."""
    shown = []

    class Writer:
        def add_image(self, tag, img_tensor, global_step):
            shown.append((tag, img_tensor, global_step))

    monkeypatch.setattr(TensorBoardLogger, "experiment", Writer())
    picture = torch.rand(3, 8, 8)
    log_picture([TensorBoardLogger.__new__(TensorBoardLogger)], "reliance/shown", picture, "image | black", step=7)
    assert shown == [("reliance/shown", picture, 7)]
