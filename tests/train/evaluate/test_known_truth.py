"""Known truth in between: measures rise with what outlines tell and are used for.

The network here names the class of the outline it is shown, from the generator's own record, and guesses one of the K
classes evenly where it is shown none: behind the circle, whose place and size are distributed alike for every class, so
that nobody could do better than 1 / K. An outline is the label's with probability s, and otherwise one of K at random:

- behind the silhouette it is right in s + (1 - s) / K of cases, behind the circle in 1 / K: leak s (1 - 1 / K);
- of objects j and k of two classes, j's outline is y_j in s + (1 - s) / K of cases and y_k in (1 - s) / K: pull s.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from maskrobust.augment import SilhouetteBank, fold_in, object_holes, sample_keys, uniform
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import predictor
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.holes.conditions import HOLE_STREAM
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.measures.shape import shape_choice, shape_gain, silhouette_leak
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.data import Cues

CLASSES, IMAGES = 4, 400
INFORMATIVENESS = (0.0, 0.5, 1.0)
TRUTH: dict[str, Callable[[float], float]] = {
    "silhouette leak": lambda s: s * (1 - 1 / CLASSES),
    "shape choices": lambda s: 0.5 + s / 2,
}


def cues(informativeness, seed=0, val_images=IMAGES):
    return Cues(
        val_images=val_images,
        test_images=IMAGES,
        image_size=32,
        num_classes=CLASSES,
        outline_informativeness=informativeness,
        seed=seed,
    )


def shape_of(visible):
    """What is hidden, (1, H, W), in its bounding box."""
    hidden = ~visible[0]
    rows, columns = (hidden.any(dim=dim).nonzero().ravel().tolist() or [0] for dim in (1, 0))
    box = hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return tuple(box.shape), box.numpy().tobytes()


class PerfectReader:
    """Looks a hole up among all outlines of the test and validation splits, and guesses where it is none of them.

    A shape is the same wherever it lies.
    """

    def __init__(self, data: Cues) -> None:
        self._outlines: dict[tuple[tuple[int, ...], bytes], int] = {}
        for split in ("val", "test"):
            samples = data.samples(split)
            keys = fold_in(sample_keys(0, samples.ids), HOLE_STREAM)
            companions = object_holes(keys, samples.object_mask).silhouette_visible
            for visible in (~samples.object_mask, companions):
                outlines = data.causes(samples.ids).outlines.tolist()
                found = zip(visible, outlines, strict=True)
                self._outlines |= {shape_of(each): outline for each, outline in found}

    def __call__(self, images, visible, keys):
        guesses = (uniform(fold_in(keys, 17)) * CLASSES).long().tolist()
        read = [self._outlines.get(shape_of(each), guess) for each, guess in zip(visible, guesses, strict=True)]
        return one_hot(torch.tensor(read), CLASSES).float()


def measured(data):
    """What the suite finds on rendered images."""
    asked = {"reader": Asked(PerfectReader(data), ReliancePlan(hidden_fractions=()))}
    measurement = Measurement(asked, SilhouetteBank.from_batches(data.val_dataloader()), CLASSES)
    return measurement.run(each.to("cpu") for each in data.test_dataloader())["reader"]


def test_the_suite_finds_the_truth_and_its_figures_rise_with_it():
    found = {}
    for informativeness in INFORMATIVENESS:
        data = cues(informativeness)
        outcomes, statistics = [measured(data)], {"silhouette leak": silhouette_leak(), "shape choices": shape_choice()}
        found[informativeness] = {name: estimate(each, outcomes, confidence=0.999) for name, each in statistics.items()}
    for name, truth in TRUTH.items():
        estimates = [found[informativeness][name].interval for informativeness in INFORMATIVENESS]
        for each, s in zip(estimates, INFORMATIVENESS, strict=True):
            assert each.low <= truth(s) <= each.high, name
        assert min(np.diff([each.value for each in estimates])) > 0.1, name


def test_the_gain_in_log_odds_recovers_a_planted_dose_and_is_zero_at_zero():
    """logits = (1 - w) layer-masked + w reader of outlines: the measures rise with w, and hold 0 where it is 0."""
    data, doses = cues(1.0), (0.0, 0.1, 0.5)
    torch.manual_seed(0)
    network = LayerMasking(build_network("small_resnet", CLASSES, {"width": 16})).eval()
    masked, reader = predictor(network, "layer_masking", data.mean, data.std), PerfectReader(data)

    def mixed(dose):
        return lambda *asked: (1 - dose) * masked(*asked) + dose * 5.0 * reader(*asked)

    plan, bank = ReliancePlan(hidden_fractions=()), SilhouetteBank.from_batches(data.val_dataloader())
    measurement = Measurement({dose: Asked(mixed(dose), plan) for dose in doses}, bank, CLASSES)
    found = measurement.run(each.to("cpu") for each in data.test_dataloader())
    none, little, much = (estimate(shape_gain(), [found[dose]]).interval for dose in doses)
    assert none.low <= 0.0 <= none.high
    assert none.high < little.low and little.high < much.low
    for dose, gain in ((0.1, little), (0.5, much)):  # of a reader beside equal logits
        logit = 5.0 * dose
        assert gain.value == pytest.approx(logit - np.log(CLASSES - 1) + np.log(CLASSES - 2 + np.exp(logit)), rel=0.2)
