"""Pictures in training: what they show, when they are due, and that training does not notice."""

import csv
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.callbacks import ClassAnswers, ShownImages, training
from maskrobust.lm_modules.callbacks.classes import draw_confusion
from maskrobust.lm_modules.callbacks.reliance import draw_panel
from maskrobust.lm_modules.methods import mark_hidden
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.callbacks.runs import TRAINING, VALIDATION, csv_logger, fit, logged
from tests.lm_modules.reliance.shapes import NUM_CLASSES

SIDE = TRAINING[0].images.shape[-1]


@pytest.fixture
def pictures(monkeypatch):
    """What a logger is given that shows pictures: name, picture and step."""
    shown = []
    monkeypatch.setattr(training, "shows_pictures", lambda _loggers: True)
    monkeypatch.setattr(
        training, "log_picture", lambda _loggers, name, picture, _caption, step: shown.append((name, picture, step))
    )
    return shown


def seen_in_training(monkeypatch):
    """The images that the network is given in each training step, in a list that fills as it trains."""
    given = []
    forward = MaskRobustClassifier.forward

    def watched(self, images, visible=None):
        if self.training:
            given.append(images.clone())
        return forward(self, images, visible)

    monkeypatch.setattr(MaskRobustClassifier, "forward", watched)
    return given


def test_it_shows_what_the_first_step_of_a_training_sees_once(pictures, tmp_path, monkeypatch):
    given = seen_in_training(monkeypatch)
    fit(csv_logger(tmp_path), ShownImages(pictures=4), epochs=2)
    ((name, picture, step),) = pictures
    assert (name, step) == ("train/shown", 0)
    assert picture.shape == (3, 2 * (SIDE + 2) + 2, 4 * (SIDE + 2) + 2)
    below = [cell(picture, row=1, column=column) for column in range(4)]
    assert torch.equal(torch.stack(below), given[0][:4])
    assert not torch.equal(torch.stack(below), torch.stack([cell(picture, 0, column) for column in range(4)]))


def test_training_goes_on_as_it_would_without(pictures, tmp_path):
    with_picture = fit(csv_logger(tmp_path / "with"), ShownImages())[1].state_dict()
    without = fit(csv_logger(tmp_path / "without"))[1].state_dict()
    assert len(pictures) == 1
    assert all(torch.equal(with_picture[name], without[name]) for name in without)


def test_it_draws_nothing_for_loggers_that_show_no_pictures(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("drawn for nobody")

    monkeypatch.setattr(training, "draw_grid", refuse)
    fit(csv_logger(tmp_path), ShownImages(), epochs=1)


def test_what_layer_masking_hides_is_marked(pictures):
    classifier = MaskRobustClassifier(num_classes=NUM_CLASSES, masking="layer_masking", patch_size=4)
    classifier.build_masks(None)
    shown, trainer = ShownImages(pictures=8), SimpleNamespace(is_global_zero=True, loggers=[], global_step=0)
    shown.on_train_start(trainer, classifier)
    shown.on_train_batch_start(trainer, classifier, TRAINING[0], 0)
    ((_, picture, _),) = pictures
    images, visible = TRAINING[0].images[:8], classifier.present(TRAINING[0]).visible[:8]
    below = torch.stack([cell(picture, row=1, column=column) for column in range(8)])
    assert not visible.all() and torch.equal(below, mark_hidden(images, visible))


def cell(picture, row, column):
    """One picture of the grid, without the frame of two pixels."""
    top, left = (2 + place * (SIDE + 2) for place in (row, column))
    return picture[:, top : top + SIDE, left : left + SIDE]


def test_there_is_a_row_for_each_image_and_a_column_for_it_and_each_method():
    batch = VALIDATION[0].select(slice(3))
    picture = draw_panel(batch, ("black", "layer_masking"), (0.5, 0.5, 0.5), seed=0)
    assert picture.shape == (3, 3 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2)
    image, black, marked = (cell(picture, row=1, column=column) for column in range(3))
    source = ConditionSource(SilhouetteBank.from_batches(TRAINING), ReliancePlan(), seed=0)
    visible_of_all = source.draw(batch).holes.silhouette_visible
    visible = visible_of_all[1]
    assert not visible[batch.object_mask[1]].any()
    assert torch.equal(image, batch.images[1])
    assert torch.equal(black, torch.where(visible, batch.images[1], 0.0))
    assert torch.equal(marked, mark_hidden(batch.images, visible_of_all)[1])


def test_a_validation_leaves_how_each_class_was_answered_beside_the_logs(tmp_path):
    fit(csv_logger(tmp_path), ClassAnswers(), epochs=1)
    with (tmp_path / "classes.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    labels = torch.cat([batch.labels for batch in VALIDATION])
    names = [f"{label}" for label in range(NUM_CLASSES)]
    assert head == ["class", "images", "accuracy", *(f"as {name}" for name in names)]
    counts = torch.tensor([[int(number) for number in line[3:]] for line in lines])
    assert [line[0] for line in lines] == names
    assert [int(line[1]) for line in lines] == counts.sum(1).tolist() == labels.bincount(minlength=NUM_CLASSES).tolist()
    accuracies = [float(line[2]) for line in lines]
    assert accuracies == pytest.approx((counts.diagonal() / counts.sum(1)).tolist())
    (balanced,), (accuracy,) = (logged(tmp_path)[f"val/{name}"] for name in ("balanced_accuracy", "accuracy"))
    assert balanced == pytest.approx(sum(accuracies) / NUM_CLASSES)
    assert accuracy == pytest.approx(float(counts.diagonal().sum() / len(labels)))
    drawn = pil_to_tensor(Image.open(tmp_path / "confusion.png").convert("RGB")) / 255
    assert torch.allclose(drawn, draw_confusion(counts, names), atol=0.5 / 255)


@pytest.mark.parametrize("classes", [3, 60])
def test_a_cell_is_the_darker_the_more_images_of_its_row_have_its_answer(classes):
    counts = torch.randint(5, (classes, classes), generator=torch.Generator().manual_seed(0))
    counts[1] = 0  # a class without images
    picture = draw_confusion(counts, ["a class"] * classes)
    height = picture.shape[1]
    middles = ((torch.arange(classes) + 0.5) * height / classes).long()
    found = picture[:, middles][:, :, picture.shape[2] - height + middles]
    expected = 1 - counts / counts.sum(1, keepdim=True).clamp(min=1)
    assert torch.allclose(found, expected.expand_as(found), atol=1 / 255)
    assert (picture.shape[2] > height) == (classes == 3)  # many have no room for their names
