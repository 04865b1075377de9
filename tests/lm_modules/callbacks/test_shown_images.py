"""The picture of training images is that of the step that follows, and training does not notice it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskrobust.lm_modules.callbacks import ShownImages, shown_images
from maskrobust.lm_modules.callbacks.shown_images import draw_training_panel
from maskrobust.lm_modules.methods import mark_hidden
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.callbacks.runs import TRAINING, csv_logger, fit

SIDE = TRAINING[0].images.shape[-1]


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Tensor, int]]:
    """What a logger is given that shows pictures: name, picture and step."""
    shown: list[tuple[str, Tensor, int]] = []
    monkeypatch.setattr(shown_images, "shows_pictures", lambda _loggers: True)
    monkeypatch.setattr(
        shown_images, "log_picture", lambda _loggers, name, picture, _caption, step: shown.append((name, picture, step))
    )
    return shown


def seen_in_training(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The images that the network is given in each training step, in a list that fills as it trains."""
    given: list[Tensor] = []
    forward = MaskRobustClassifier.forward

    def watched(self: MaskRobustClassifier, images: Tensor, visible: Tensor | None = None) -> Tensor:
        if self.training:
            given.append(images.clone())
        return forward(self, images, visible)

    monkeypatch.setattr(MaskRobustClassifier, "forward", watched)
    return given


def test_it_shows_what_the_first_step_of_a_training_sees_once(
    pictures: list[tuple[str, Tensor, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = seen_in_training(monkeypatch)
    fit(csv_logger(tmp_path), ShownImages(pictures=4), epochs=2)
    ((name, picture, step),) = pictures
    assert (name, step) == ("train/shown", 0)
    assert picture.shape == (3, 2 * (SIDE + 2) + 2, 4 * (SIDE + 2) + 2)
    below = [cell(picture, row=1, column=column) for column in range(4)]
    assert torch.equal(torch.stack(below), given[0][:4])
    assert not torch.equal(torch.stack(below), torch.stack([cell(picture, 0, column) for column in range(4)]))


def test_training_goes_on_as_it_would_without(pictures: list[tuple[str, Tensor, int]], tmp_path: Path) -> None:
    with_picture = fit(csv_logger(tmp_path / "with"), ShownImages())[1].state_dict()
    without = fit(csv_logger(tmp_path / "without"))[1].state_dict()
    assert len(pictures) == 1
    assert all(torch.equal(with_picture[name], without[name]) for name in without)


def test_it_draws_nothing_for_loggers_that_show_no_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("drawn for nobody")

    monkeypatch.setattr(shown_images, "draw_training_panel", refuse)
    fit(csv_logger(tmp_path), ShownImages(), epochs=1)


def test_what_layer_masking_hides_is_marked() -> None:
    images = TRAINING[0].images[:2]
    visible = torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    visible[1, :, :5] = False
    picture = draw_training_panel(images, images, visible)
    assert torch.equal(cell(picture, row=1, column=0), images[0])
    assert torch.equal(cell(picture, row=1, column=1), mark_hidden(images, visible)[1])
    assert torch.equal(cell(picture, row=1, column=1)[:, 5:], images[1, :, 5:])


def cell(picture: Tensor, row: int, column: int) -> Tensor:
    """One picture of the grid, without the frame of two pixels."""
    top, left = (2 + place * (SIDE + 2) for place in (row, column))
    return picture[:, top : top + SIDE, left : left + SIDE]
