"""Computing only the positions that are needed gives what computing all of them gives."""

import math

import pytest
import torch
from timm.layers import BatchNormAct2d, freeze_batch_norm_2d
from torch import nn
from torchvision.models import resnet50

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError, layer_masking
from tests.lm_modules.masking.networks import CLASSES, build, draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import Branched, Dense

SIZE = 64
_, PATCHES, BOX = holes(SIZE)
ONE_PIXEL = torch.zeros_like(BOX)
ONE_PIXEL[0, 37, 21] = True
MASKS = {
    "box": BOX,
    "scattered patches": PATCHES & PATCHES.roll(8, 2) & PATCHES.roll(24, 1),
    "one pixel": ONE_PIXEL,
    "nothing": torch.zeros_like(BOX),
    "everything": torch.ones_like(BOX),
}
ALL_MASKS = torch.stack([*MASKS.values()])


def engines(network, **options):
    """The network computed on rows and on dense features."""
    return [LayerMasking(network, engine=engine, **options) for engine in ("rows", "dense")]


def spy_on_rows(monkeypatch):
    """Filled with the share of every run on rows."""
    shares, run = [], layer_masking.run_suffix
    monkeypatch.setattr(layer_masking, "run_suffix", lambda *args: shares.append(args[3].share) or run(*args))
    return shares


def relative_error(given, expected):
    return ((given.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_rows_have_the_logits_and_gradients_of_dense_features_whatever_is_hidden(padding):
    rows, dense = engines(build("basic_resnet"), padding=padding, detach_padding=padding == "mean")
    images = draw_images(len(MASKS), SIZE)
    with torch.no_grad():
        together, logits = dense(images, ALL_MASKS), rows(images, ALL_MASKS)
        assert relative_error(logits, together) < 1e-5
        for i, (kind, mask) in enumerate(MASKS.items()):
            alone = rows(images[i : i + 1], mask[None])
            assert relative_error(alone[0], together[i]) < 1e-5, kind
        assert torch.equal(together[3], dense.network.fc.bias)
        for hidden_value in (math.nan, -1e30):
            assert torch.equal(rows(torch.where(ALL_MASKS, images, hidden_value), ALL_MASKS), logits)
    gradients = []
    for engine in (rows, dense):
        garbled = torch.where(ALL_MASKS, images.double(), math.nan).requires_grad_()
        engine.double()(garbled, ALL_MASKS).square().sum().backward()
        gradients.append([garbled.grad, *(parameter.grad.clone() for parameter in engine.parameters())])
        engine.zero_grad()
        assert (garbled.grad[~ALL_MASKS.expand_as(images)] == 0).all()
    for given, expected in zip(*gradients, strict=True):
        assert relative_error(given, expected) < 1e-9


@torch.no_grad()
def test_auto_takes_rows_for_a_small_box_and_dense_features_for_half_of_the_patches(monkeypatch):
    shares = spy_on_rows(monkeypatch)
    masked = LayerMasking(resnet50(num_classes=CLASSES).eval())
    images = draw_images(2, SIZE)
    masked(images, BOX.expand(2, 1, -1, -1))
    assert len(shares) == 1 and 0.1 < shares[0] < 0.5
    masked(images, PATCHES.expand(2, 1, -1, -1))
    masked.train()(images, BOX.expand(2, 1, -1, -1))
    assert len(shares) == 1


@torch.no_grad()
def test_rows_under_autocast_stay_close():
    rows, dense = engines(build("basic_resnet"))
    images = draw_images(3, SIZE)
    exact = dense(images, ALL_MASKS[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = rows(images, ALL_MASKS[:3])
    assert logits.dtype == torch.bfloat16
    assert 0 < relative_error(logits, exact) < 2e-2


class Classifier(nn.Sequential):
    """Some layers between a stem and a pool."""

    def __init__(self, *layers: nn.Module, pool: nn.Module | None = None) -> None:
        stem = [nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, padding=1)]
        super().__init__(*stem, *layers, pool or nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))


class TwoHeads(nn.Module):
    """A pool in the middle of the network, and one at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.last = (nn.Conv2d(c, 16, 3, padding=1) for c in (3, 16, 16))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        middle = self.pool(x)
        last = self.pool(self.last(self.conv(x)))
        return self.fc(torch.cat([middle, last], 1).flatten(1))


def frozen():
    norm = freeze_batch_norm_2d(nn.Sequential(randomise(BatchNormAct2d(16))))
    return Classifier(nn.Conv2d(16, 16, 3), norm, nn.Conv2d(16, 16, 3), nn.Conv2d(16, 16, 1))


MIXED = {
    "frame": lambda: Classifier(nn.ZeroPad2d(2), *(nn.Conv2d(16, 16, 3) for _ in range(3)), nn.ReLU()),
    "frozen batch norm": frozen,
    "two heads": TwoHeads,
}


@pytest.mark.parametrize("name", MIXED)
@torch.no_grad()
def test_networks_that_take_rows_in_part_have_the_logits_of_dense_features(name, monkeypatch):
    shares = spy_on_rows(monkeypatch)
    network, images = MIXED[name]().eval(), draw_images(len(MASKS), SIZE)
    rows, dense = engines(network)
    assert relative_error(rows(images, ALL_MASKS), dense(images, ALL_MASKS)) < 1e-5
    assert len(shares) == 1


UNFIT = {
    "dense": Dense,
    "inception": Branched,
    "maximum": lambda: Classifier(pool=nn.AdaptiveMaxPool2d(1)),
    "grouped": lambda: Classifier(nn.Conv2d(16, 16, 3, groups=4)),
    "group norm": lambda: Classifier(nn.GroupNorm(4, 16)),
    "circular": lambda: Classifier(nn.Conv2d(16, 16, 3, padding=1, padding_mode="circular")),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_network_that_rows_cannot_compute_is_refused_in_one_sentence(name):
    with pytest.raises(UnsupportedNetworkError, match="cannot be computed on rows") as refusal:
        LayerMasking(UNFIT[name](), engine="rows")
    message = str(refusal.value)
    assert "'auto'" in message and message.endswith(".") and ". " not in message


def test_the_union_rule_is_refused_on_rows_and_dense_by_itself(monkeypatch):
    shares = spy_on_rows(monkeypatch)
    network = build("small_resnet")
    with pytest.raises(UnsupportedNetworkError, match="merged by intersection"):
        LayerMasking(network, merge="union", engine="rows")
    LayerMasking(network, merge="union")(draw_images(1, SIZE), ONE_PIXEL[None])
    assert shares == []
