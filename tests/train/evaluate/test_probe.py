"""The mask-only probe is a bound: it reads all that outlines hold."""

import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.probe import probe_outcomes
from maskrobust.train.data import Cues
from maskrobust.train.probe import train_outline_probe

CLASSES = 4
TOLERANCE = 0.1  # four standard errors of the difference of two readers that guess
INFORMATIVENESS = (0.0, 0.5)


def cues(informativeness):
    return Cues(
        train_images=1200,
        val_images=200,
        test_images=600,
        image_size=32,
        num_classes=CLASSES,
        outline_informativeness=informativeness,
    )


@pytest.mark.parametrize("informativeness", INFORMATIVENESS)
def test_the_probe_reaches_what_a_perfect_reader_of_outlines_can(informativeness):
    """A perfect reader names the outline's class: right in s + (1 - s) / K of cases."""
    data = cues(informativeness)
    outcomes = probe_outcomes(train_outline_probe(data, seed=0), data.test_dataloader())
    causes = data.causes(torch.from_numpy(outcomes.ids))
    perfect = (causes.outlines == causes.labels).double().mean().item()
    assert perfect == pytest.approx(informativeness + (1 - informativeness) / CLASSES, abs=0.05)
    accuracy = float((outcomes.predictions == outcomes.labels).mean())
    assert accuracy == pytest.approx(perfect, abs=TOLERANCE)


def test_a_probe_learns_nothing_from_objects_without_labels():
    data = Cues(train_images=4, val_images=4, test_images=4, image_size=32, num_classes=CLASSES)
    data.samples("train").labels.fill_(-1)
    with pytest.raises(InputError, match=r"^the mask-only probe learns the classes .* those of Cues have no labels;"):
        train_outline_probe(data, seed=0)
