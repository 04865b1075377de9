"""Explanations in training: of the images' own classes, when they are due, and training does not notice."""

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrobust.lm_modules.callbacks import ExplanationPanel, explanation_panel
from maskrobust.lm_modules.callbacks.explanation_panel import draw_explanations
from maskrobust.lm_modules.explanation.overlays import AGAINST_CLASS, FOR_CLASS
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from tests.lm_modules.callbacks.runs import VALIDATION, csv_logger, fit

SIDE = VALIDATION[0].images.shape[-1]
PLAN = ExplanationPlan(("lime",), samples=64, scale="logit")
SHORT = {"plan": PLAN, "patch_size": SIDE // 4, "pictures": 2}


@pytest.fixture
def pictures(monkeypatch):
    """What a logger is given that shows pictures: name, picture and step."""
    shown: list[tuple[str, Tensor, int]] = []
    monkeypatch.setattr(explanation_panel, "shows_pictures", lambda _loggers: True)
    monkeypatch.setattr(
        explanation_panel,
        "log_picture",
        lambda _loggers, name, picture, _caption, step: shown.append((name, picture, step)),
    )
    return shown


def test_it_explains_validation_images_every_few_epochs(pictures, tmp_path):
    fit(csv_logger(tmp_path), ExplanationPanel(("black", "layer_masking"), every_n_epochs=2, **SHORT), epochs=2)
    ((name, picture, step),) = pictures
    assert name == "explanations/lime" and step > 0
    assert picture.shape == (3, 2 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2)
    first = picture[:, 2 : 2 + SIDE, 2 : 2 + SIDE]
    torch.testing.assert_close(first, VALIDATION[0].images[0], atol=0.5 / 255 + 1e-6, rtol=0)


def test_training_goes_on_as_it_would_without(pictures, tmp_path):
    with_picture = fit(csv_logger(tmp_path / "with"), ExplanationPanel(("black",), **SHORT))[1].state_dict()
    without = fit(csv_logger(tmp_path / "without"))[1].state_dict()
    assert len(pictures) == 2
    assert all(torch.equal(with_picture[name], without[name]) for name in without)


def test_segments_for_and_against_the_own_class_have_their_colours():
    batch = VALIDATION[0].select(slice(1))

    def predict(images, visible, keys):
        half = SIDE // 2  # the left half is for the class, the right half against it
        effect = visible[:, 0, :, :half].float().mean(dim=(1, 2)) - visible[:, 0, :, half:].float().mean(dim=(1, 2))
        logits = torch.zeros(len(images), 10)
        logits[:, int(batch.labels[0])] = effect
        return logits

    picture = draw_explanations(batch, [predict], PLAN, SIDE // 4, 0)
    cell = picture[:, 2 : 2 + SIDE, SIDE + 4 : 2 * SIDE + 4]
    place = SIDE // 8
    for column, colour in ((place, FOR_CLASS), (SIDE - place, AGAINST_CLASS)):
        found = cell[:, place, column].numpy() * 255
        assert np.abs(found - colour).max() < 0.35 * 255 and np.argmax(found) == np.argmax(colour)
