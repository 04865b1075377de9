"""Layer masking on the networks of torchvision and timm; the big ones are checked by `scripts/architectures`."""

import inspect
import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.networks.architectures import build_outline
from tests.lm_modules.masking.architectures import (
    COLUMNS,
    MARK,
    OPTIONS,
    PAGE,
    architectures,
    build,
    by_family,
    check,
    known_architectures,
    section,
    size_of,
)
from tests.lm_modules.masking.networks import draw_images, holes

ONE_BLOCK_A_STAGE = (1, 1, 1, 1)
SMALLER = {"timm/tresnet_m": {"layers": ONE_BLOCK_A_STAGE}}
"""Options that save time here; `scripts/architectures` checks the whole networks."""

CHECKED_HERE = {
    "googlenet": "mean",
    "mobilenet_v3_small": "mirror",
    "shufflenet_v2_x0_5": "mean",
    "timm/deit_tiny_patch16_224": "mean",
    "timm/efficientvit_b0": "mirror",
    "timm/ghostnetv2_100": "mean",
    "timm/mobilevit_xxs": "mean",
    "timm/pvt_v2_b0": "mean",
    "timm/skresnet18": "mean",
    "timm/test_convnext": "mirror",
    "timm/tf_efficientnet_cc_b0_4e": "mean",
    "timm/tresnet_m": "mean",
}
"""Put together in different ways; `scripts/architectures` checks all of the lists, with both paddings."""


@pytest.mark.parametrize(("architecture", "padding"), CHECKED_HERE.items())
def test_network_has_all_six_properties(architecture, padding):
    network = build(architecture, **SMALLER.get(architecture, {}))
    assert check(network, (3, *[size_of(architecture)] * 2), padding) == dict.fromkeys(COLUMNS, True)


KNOWN = known_architectures()
REFUSED = [each for each in KNOWN if each.refused]


def test_the_table_holds_every_classifier_of_torchvision_once():
    functions = inspect.getmembers(torchvision.models, inspect.isfunction)
    classifiers = [name for name, _ in functions if not name.startswith(("get_", "list_"))]
    listed = [each.architecture for each in known_architectures() if each.family == "torchvision"]
    assert sorted(listed) == sorted(classifiers)
    assert sum(each.family == "torchvision" and not each.refused for each in KNOWN) >= 68


def test_the_table_holds_every_family_of_timm_and_each_as_taken_or_as_refused():
    families = {f"timm {family}" for family in timm.list_modules() if timm.list_models(module=family)}
    taken = by_family([each for each in KNOWN if not each.refused]).keys() - {"torchvision"}
    refused = [each.family for each in REFUSED]
    refused = [family for family in refused if family != "torchvision"]
    unknown = families - taken - {*refused}
    assert not unknown, f"architectures.csv does not know timm's families {sorted(unknown)}"
    assert len(taken) >= 43 and taken.isdisjoint(refused) and len({*refused}) == len(refused)
    assert taken | {*refused} == families


@pytest.mark.parametrize("known", REFUSED, ids=lambda known: known.architecture)
def test_a_network_is_refused_for_what_the_table_names(known):
    with pytest.raises(UnsupportedNetworkError, match=re.escape(known.refused)):
        LayerMasking(build_outline(known.architecture, 10, OPTIONS.get(known.architecture, {})))


def test_every_name_belongs_to_its_family():
    for family, architecture, *_ in known_architectures():
        if family != "torchvision":
            assert architecture.removeprefix("timm/") in timm.list_models(module=family.removeprefix("timm "))
    names = [each.architecture for each in known_architectures()]
    assert len(set(names)) == len(names)


def test_the_section_of_the_page_is_the_one_of_the_lists():
    written = PAGE.read_text(encoding="utf-8").partition(MARK)[2].split("\n\n")
    expected = section({name: {"wraps": True} for name in architectures()}).split("\n\n")
    assert written[:1] + written[2:] == expected[:1] + expected[2:]  # the versions stand in the second part
    assert written[1].partition(", with torch ")[0] == expected[1].partition(", with torch ")[0]
    assert written[1].partition("both paddings")[2] == expected[1].partition("both paddings")[2]


ARCHITECTURES = ["timm/test_convnext", "timm/test_efficientnet"]
every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_architecture
@every_padding
def test_a_training_step_does_not_wait_for_the_device(architecture, padding):
    masked = LayerMasking(build(architecture), padding=padding).to("meta").train()
    logits = masked(draw_images().to("meta"), holes().to("meta"))
    nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64, device="meta")).backward()
    assert all(parameter.grad is not None for parameter in masked.parameters())


@every_architecture
@torch.no_grad()
def test_a_pass_in_eval_mode_does_not_wait_for_the_device(architecture):
    masked = LayerMasking(build(architecture)).to("meta").eval()
    assert masked(draw_images().to("meta"), holes().to("meta")).shape == (3, 10)
