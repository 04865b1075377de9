"""Networks by name."""

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.networks.architectures import SmallResNet, build_network


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("small_resnet", "SmallResNet"),
        ("resnet18", "ResNet"),
        ("mobilenet_v2", "MobileNetV2"),
        ("timm/resnet10t", "ResNet"),
    ],
)
def test_a_name_gives_a_network_with_that_many_classes(architecture, kind):
    with torch.device("meta"):
        network = build_network(architecture, 7)
    assert type(network).__name__ == kind
    assert network(torch.zeros(2, 3, 64, 64, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    ("architecture", "options", "channels"),
    [
        ("small_resnet", {"width": 24, "in_chans": 1}, 24),
        ("resnet18", {"width_per_group": 64}, 64),
        ("timm/resnet10t", {"stem_width": 16}, 32),
    ],
)
def test_options_reach_the_constructor(architecture, options, channels):
    with torch.device("meta"):
        network = build_network(architecture, 3, options)
    assert network.bn1.num_features == channels


@pytest.mark.parametrize(
    ("architecture", "num_classes", "options", "named"),
    [
        ("resnet5O", 10, None, ["'resnet5O'", "choose one, such as", "resnet50"]),
        ("smallresnet", 10, None, ["'smallresnet'", "small_resnet"]),
        ("timm/resnet10", 10, None, ["'timm/resnet10'", "timm/resnet10t"]),
        ("completely different", 10, None, ["'completely different'", "small_resnet", "timm/NAME"]),
        ("small_resnet", 1, None, ["num_classes", "got 1"]),
        ("small_resnet", 10, {"depth": 3}, ["small_resnet", "depth"]),
        ("resnet18", 10, {"depth": 3}, ["resnet18", "depth"]),
        ("timm/resnet10t", 10, {"depthness": 3}, ["timm/resnet10t", "depthness"]),
    ],
)
def test_a_refusal_is_one_sentence_that_names_what_was_given(architecture, num_classes, options, named):
    with pytest.raises(ValueError, match=r"architecture|num_classes") as refusal:
        build_network(architecture, num_classes, options)
    message = str(refusal.value)
    assert all(name in message for name in named), message
    assert message.endswith((".", "?")) and ". " not in message and "\n" not in message


def test_the_small_resnet_has_three_stages_at_strides_two_four_and_eight():
    network = SmallResNet(4, width=16, blocks=2)
    sizes = {}
    for name in ("conv1", "layer1", "layer2", "layer3"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: sizes.update({name: tuple(output.shape[1:])})
        )
    assert network(torch.zeros(1, 3, 32, 48)).shape == (1, 4)
    assert sizes == {"conv1": (16, 16, 24), "layer1": (16, 16, 24), "layer2": (32, 8, 12), "layer3": (64, 4, 6)}
    assert [len(network.get_submodule(f"layer{i}")) for i in (1, 2, 3)] == [2, 2, 2]
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 1 + 12 + 2


def test_a_small_resnet_refuses_widths_at_which_torch_corrupts_memory():
    with pytest.raises(ValueError, match=r"^width must be at least 16, got 8; give a larger number\.$"):
        SmallResNet(4, width=8)
