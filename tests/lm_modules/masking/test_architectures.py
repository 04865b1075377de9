"""Layer masking on the networks of torchvision and timm; the big ones are checked by `scripts/architectures`."""

import inspect
import re

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError
from maskrobust.lm_modules.masking.rules.table import RULES, Rule
from maskrobust.lm_modules.networks.architectures import build_outline
from maskrobust.lm_modules.networks.tested_architectures import REFUSED, TIMM, TORCHVISION
from tests.lm_modules.masking.architectures import (
    COLUMNS,
    PAGE,
    architectures,
    build,
    check,
    page,
    size_of,
)

ONE_BLOCK_A_STAGE = (1, 1, 1, 1)
SMALLER = {
    "timm/eca_nfnet_l0": {"depths": ONE_BLOCK_A_STAGE},
    "timm/nasnetalarge": {"num_features": 2016},
    "timm/tresnet_m": {"layers": ONE_BLOCK_A_STAGE},
    "timm/vgg11": {"mlp_ratio": 0.1},
}
"""Options that save time here; `scripts/architectures` checks the whole networks."""

CHECKED_HERE = [
    "convnext_tiny", "googlenet", "mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "timm/eca_nfnet_l0",
    "timm/ghostnetv2_100", "timm/hrnet_w18_small", "timm/inception_v3", "timm/nasnetalarge", "timm/resnetv2_50x1_bit",
    "timm/skresnet18", "timm/tf_efficientnet_cc_b0_4e", "timm/tresnet_m", "timm/vgg11",
]  # fmt: skip
"""Together they use every rule that the listed networks use; `scripts/architectures` checks all of those."""


ALSO_MIRRORED = ["mobilenet_v3_small", "resnet18", "timm/inception_v3", "timm/test_convnext"]
"""Under mirrored padding, too: rows, depthwise, dilated and asymmetric windows."""


@pytest.mark.parametrize(
    ("architecture", "padding"),
    [*((each, "mean") for each in CHECKED_HERE), *((each, "mirror") for each in ALSO_MIRRORED)],
)
def test_network_has_all_six_properties(architecture, padding):
    network = build(architecture, **SMALLER.get(architecture, {}))
    assert check(network, size_of(architecture), padding) == dict.fromkeys(COLUMNS, True)


@pytest.mark.parametrize("name", {refusal.reason: name for name, refusal in REFUSED.items()}.values())
def test_a_refusal_names_the_layer_and_the_reason(name):
    network = build_outline(REFUSED[name].architecture, 10)
    with pytest.raises(UnsupportedNetworkError) as refusal:
        LayerMasking(network)
    message = str(refusal.value)
    layer = re.search(r"layer '([^']+)'", message)
    assert layer and network.get_submodule(layer[1]) is not network
    assert "attends from each position to all others" in message or "become a sequence of tokens" in message


def test_the_lists_hold_every_classifier_of_torchvision_once():
    functions = inspect.getmembers(torchvision.models, inspect.isfunction)
    classifiers = {name for name, _ in functions if not name.startswith(("get_", "list_"))}
    refused = [name for name in REFUSED if not name.startswith("timm/")]
    assert len(TORCHVISION) == len(set(TORCHVISION)) == 68
    assert set(TORCHVISION).isdisjoint(refused)
    assert {*TORCHVISION, *refused} == classifiers


def test_the_lists_hold_every_family_of_timm_once():
    families = {family for family in timm.list_modules() if timm.list_models(module=family)}
    refused = {name.removeprefix("timm/") for name in REFUSED if name.startswith("timm/")}
    unknown = families - TIMM.keys() - refused
    assert not unknown, f"lm_modules/networks/tested_architectures.py does not know timm's families {sorted(unknown)}"
    assert len(TIMM) >= 43 and refused.isdisjoint(TIMM)
    assert {*TIMM, *refused} == families


def test_every_name_belongs_to_its_family():
    names = {family: [*models] for family, models in TIMM.items()}
    names |= {
        name.removeprefix("timm/"): [refusal.architecture.removeprefix("timm/")]
        for name, refusal in REFUSED.items()
        if name.startswith("timm/")
    }
    strangers = {family: set(models) - {*timm.list_models(module=family)} for family, models in names.items()}
    assert {family: found for family, found in strangers.items() if found} == {}
    assert len(set(architectures())) == len(architectures())


def test_the_page_lists_exactly_the_networks_of_the_lists():
    rows = [line.split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    first_cells = [row[0].removeprefix("| ") for row in rows if row[0] not in ("| network", "| ")]
    families = [f"{family}: {name}" for family, names in TIMM.items() for name in names]
    assert first_cells[: len(architectures())] == [*TORCHVISION, *families]
    for (name, refusal), row in zip(REFUSED.items(), rows[-len(REFUSED) :], strict=True):
        assert row == [f"| {name}", refusal.architecture, f"{refusal.reason} |"]
    assert len(first_cells) == len(architectures()) + len(REFUSED) + 1


def test_the_page_tells_what_failed():
    results = {name: dict.fromkeys(COLUMNS, True) for name in architectures()}
    assert "✗" not in page(results)
    results["resnet18"]["training"] = "not finite"
    assert "| resnet18 | ✓ | ✓ | ✓ | ✓ | ✓ | ✗ not finite |" in page(results)
    assert f"{len(results) - 1} have all six properties, 1 do not" in " ".join(page(results).split())


class Blend(nn.Module):
    """Does nothing; the tests below give it rules that are wrong."""

    def forward(self, features: Tensor) -> Tensor:
        return features


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.blend = nn.Conv2d(3, 4, 3, padding=1), Blend()
        self.second, self.pool = nn.Conv2d(4, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.second(self.blend(self.first(images)))).flatten(1))


def small_network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small().eval()


def blind(_operation: Blend, x: Masked) -> Masked:
    return x.with_features(torch.zeros_like(x.features))


def nosy(_operation: Blend, x: Masked) -> Masked:
    return x.with_features(x.features + x.features.mean(dim=(2, 3), keepdim=True))


def sharing(_operation: Blend, x: Masked) -> Masked:
    hidden = (~x.visible.positions).sum()
    return x.with_features(x.features + hidden)


def cornered(_operation: Blend, x: Masked) -> Masked:
    return x.with_features((x.features - x.features.detach()).sqrt() + x.features.detach())


def unguarded(_operation: nn.AdaptiveAvgPool2d, x: Masked) -> Tensor:
    count = x.visible.positions.sum(dim=(2, 3), keepdim=True)
    return x.with_hidden_zero().sum(dim=(2, 3), keepdim=True) / count


@pytest.mark.parametrize(
    ("target", "rule", "column"),
    [
        (Blend, blind, "all visible"),
        (Blend, blind, "hidden gradient"),
        (Blend, nosy, "hidden values"),
        (Blend, sharing, "all visible"),
        (Blend, cornered, "training"),
        (nn.AdaptiveAvgPool2d, unguarded, "nothing visible"),
    ],
)
def test_a_wrong_rule_is_found(target, rule, column, monkeypatch):
    monkeypatch.setitem(RULES, target, Rule(rule, lambda *_: target is not Blend))
    verdicts = check(small_network(), 32)
    assert verdicts["wraps"] is True
    assert isinstance(verdicts[column], str)


def test_right_rules_pass(monkeypatch):
    monkeypatch.setitem(RULES, Blend, Rule(lambda _operation, x: x, lambda *_: False))
    assert check(small_network(), 32) == dict.fromkeys(COLUMNS, True)


def test_what_does_not_wrap_fails_in_every_column():
    verdicts = check(nn.Sequential(nn.Unfold(3), nn.Flatten(), nn.LazyLinear(3)), 32)
    assert all("Unfold" in verdict for verdict in verdicts.values())
