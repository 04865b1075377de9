"""Words for networks that see no shape, and for one that does, whatever the scale of logits and who else is asked."""

from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import predictor
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, Context
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement, result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.evaluate.summary import with_readings
from maskrobust.train.report.headline import decisions
from maskrobust.train.report.results import Results
from tests.lm_modules.reliance.shapes import NUM_CLASSES, draw_shape, shape_batch

COUNT, SCALES, METHODS = 400, (1.0, 10.0, 0.1), ("black", "layer_masking")
COLOURS = torch.tensor([[0.9, 0.2, 0.2], [0.2, 0.9, 0.2], [0.2, 0.2, 0.9], [0.9, 0.9, 0.2]])
PLAN = ReliancePlan(hidden_fractions=())


def tinted(batch):
    """Grey noise; objects in their class's colour, and paler a rim of two pixels, which no outline hides."""
    grown = F.max_pool2d(batch.object_mask.float(), 5, 1, 2)
    weight = 0.4 * grown + 0.6 * batch.object_mask
    return batch._replace(images=torch.lerp(0.45 + 0.1 * batch.images, COLOURS[batch.labels, :, None, None], weight))


class Colours(nn.Module):
    """Convolutions of 1 x 1 and a global mean: how much of each class's colour a picture has, wherever it is."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.conv = scale, nn.Conv2d(3, NUM_CLASSES, 1)
        self.conv.weight.data = F.normalize(COLOURS - COLOURS.mean(dim=1, keepdim=True))[:, :, None, None]
        self.conv.bias.data.fill_(-0.1)

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * (50.0 * F.adaptive_avg_pool2d(self.conv(images).relu(), 1).flatten(1) + self.seen(images))

    def seen(self, images: Tensor) -> Tensor | float:
        """What the network does with a hole besides."""
        return 0.0


def black(images: Tensor) -> Tensor:
    """(B, 1, H, W): 1 where a picture is black, else 0."""
    return F.relu(1.0 - 100.0 * images.amax(dim=1, keepdim=True))


class Places(Colours):
    """It names a class by the quarter of the picture in which black lies, too."""

    def seen(self, images: Tensor) -> Tensor:
        return 30.0 * F.adaptive_avg_pool2d(black(images), 2).flatten(1)


class Areas(Colours):
    """It names a class by how much is black, too."""

    def seen(self, images: Tensor) -> Tensor:
        area = black(images).mean(dim=(2, 3))
        return -30.0 * (area - torch.linspace(0.05, 0.25, NUM_CLASSES)).square()


class Shapes(Colours):
    """It names a class by the shape of what is black, too."""

    def seen(self, images: Tensor) -> Tensor:
        drawn = torch.stack([torch.from_numpy(draw_shape(each, 8, 8, 6)) for each in range(NUM_CLASSES)])
        template = (drawn.float() - drawn.float().mean(dim=0))[:, None, :17, :17]
        return 0.5 * F.conv2d(black(images), template, padding=8).amax(dim=(2, 3))


NETWORKS = {kind.__name__: kind for kind in (Colours, Places, Areas, Shapes)}
ALL = [f"{name} x {scale:g}" for name in NETWORKS for scale in SCALES]


@cache
def rows():
    """All rows of all networks at all scales under all ways of hiding."""
    batch = tinted(shape_batch(COUNT, 0))
    networks = {f"{name} x {scale:g}": kind(scale).eval() for name, kind in NETWORKS.items() for scale in SCALES}
    asked = {
        (name, method): Asked(predictor(_given(network, method), method, (0.0,) * 3, (1.0,) * 3), PLAN)
        for name, network in networks.items()
        for method in METHODS
    }
    runs = Measurement(asked, SilhouetteBank.from_batches([batch]), NUM_CLASSES).run([batch])
    wanted = {HEADLINE, "clean_accuracy", "commonest_answer"}
    found = [
        row
        for (name, method), run in runs.items()
        for row in result_rows(name, method, {0: run}, Context(PLAN), wanted=lambda measure: measure.name in wanted)
    ]
    return with_readings(found, {name: at_chance(runs[name, "black"]) for name in networks})


def _given(network, method):
    return LayerMasking(network).eval() if method == "layer_masking" else network


def words(networks, methods):
    """What is said where these are asked together."""
    some = [row for row in rows() if row.network in networks and row.method in methods]
    content = {"networks": [*networks], "methods": [*methods], "own_methods": {}}
    return {key: each.state for key, each in decisions(Results("reliance", content, some)).items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_only_a_network_that_sees_shapes_is_said_to_whatever_its_scale_and_whoever_is_asked(name, method):
    together = words(ALL, METHODS)
    expected = "reads" if (name, method) == ("Shapes", "black") else "hardly"
    for scale in SCALES:
        network = f"{name} x {scale:g}"
        assert together[network, method] == expected
        assert words([network], [method]) == {(network, method): expected}
