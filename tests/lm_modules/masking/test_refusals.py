"""The table of rules: what has none or cannot be masked is refused, in which words, and that the remedy works."""

import pytest
import torch
from timm.layers import Attention2d, DropPath
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth, stochastic_depth

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError, masking_rule
from maskrobust.lm_modules.masking.rules.pointwise import elementwise
from maskrobust.lm_modules.masking.rules.table import RULES, find_rule
from tests.conftest import assert_one_sentence
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import draw_images, holes

pytestmark = pytest.mark.usefixtures("registries")


class Roll(nn.Module):
    """An operation of one's own that moves positions."""

    def forward(self, x):
        return x.roll(1, 2)


class Doubled(nn.ReLU):
    """Not the operation that its base class is."""

    def forward(self, x):
        return torch.special.expit(super().forward(x))


class TwoInputs(nn.Module):
    """Wants more than images."""

    def forward(self, images, scale):
        return F.relu(images) + scale


class Branching(nn.Module):
    """Python that depends on the data."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) if images.sum() > 0 else images.amax(dim=(2, 3))


class Asserting(nn.Module):
    """Python that no stand-in for a tensor passes."""

    def forward(self, images):
        if not isinstance(images, Tensor):
            raise AssertionError("only\nreal tensors.")
        return images.mean(dim=(2, 3))


class Attends(nn.Module):
    """Self-attention by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(16, 48, 1)

    def forward(self, x):
        query, key, value = self.qkv(x).chunk(3, dim=1)
        return query * key.softmax(1) + value


def classifier(*layers):
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), *layers)
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def calling(function):
    return lambda: classifier(Function(function))


def of_layers(*layers):
    return lambda: classifier(*layers)


AT_WRAPPING = [
    # network, what the message names
    (calling(lambda x: x.roll(1, 2)), ["roll", "'0.1'", 'masking_rule("roll")', "Sequential"]),
    (of_layers(nn.Sequential(nn.ReLU(), nn.Softmin(1))), ["Softmin", "'0.1.1'", "masking_rule(torch.nn.Softmin)"]),
    (of_layers(Doubled()), ["torch.special.expit", "'0.1'", "masking_rule(torch.special.expit)"]),
    (calling(lambda x: F.interpolate(x, (8, 8), mode="bicubic")), ["interpolates", "bicubic", "'0.1'", "masking_rule"]),
    (of_layers(nn.Upsample(scale_factor=2, mode="bicubic")), ["interpolates", "bicubic", "'0.1'", "masking_rule"]),
    (
        calling(lambda x: F.interpolate(x, (8, 8), mode="bilinear", antialias=True)),
        ["interpolates", "antialias=True", "'0.1'", "masking_rule"],
    ),
    (of_layers(nn.ConstantPad2d(1, 1.0)), ["pads", "constant 1.0", "'0.1'", "masking_rule"]),
    (calling(lambda x: F.pad(x, (1, 1, 1, 1), value=1.0)), ["pads", "constant 1.0", "'0.1'", "masking_rule"]),
    (of_layers(nn.MaxPool2d(2, return_indices=True)), ["MaxPool2d", "return_indices", "'0.1'", "masking_rule"]),
    (of_layers(nn.LayerNorm((16, 32, 32))), ["layer norm", "(16, 32, 32)", "'0.1'", "group norm"]),
    (calling(lambda x: F.layer_norm(x, (16, 32, 32))), ["layer norm", "(16, 32, 32)", "'0.1'", "group norm"]),
    (
        calling(lambda x: F.batch_norm(x, None, None, training=True)),
        ["F.batch_norm", "training=True", "'0.1'", "nn.BatchNorm2d"],
    ),
    (
        of_layers(nn.InstanceNorm2d(16, track_running_stats=True)),
        ["instance norm", "track_running_stats", "'0.1'", "masking_rule"],
    ),
    (calling(lambda x: x.flatten(2)), ["tokens", "transformer", "'0.1'", "masking_rule"]),
    (of_layers(nn.Flatten(2)), ["tokens", "transformer", "'0.1'", "masking_rule"]),
    (of_layers(nn.Softmax(dim=2)), ["over the channels only, got axis 2", "'0.1'"]),
    (calling(lambda x: x.softmax(-2)), ["over the channels only, got axis -2", "'0.1'"]),
    (of_layers(Attends()), ["attends", "'0.1'", "Attends", "drop hidden tokens"]),
    (of_layers(nn.Sequential(Attention2d(16))), ["attends", "'0.1.0'", "Attention2d", "drop hidden tokens"]),
    (calling(lambda x: torch.stack([x, x])), ["axis 0 to sum them", "'0.1'", "masking_rule"]),
    (calling(lambda x: x.mean()), ["axes None", "'0.1'"]),
    (calling(lambda x: x.sum((1, 2, 3))), ["axes (1, 2, 3)", "'0.1'"]),
    (calling(lambda x: x.view(x.shape[0], x.shape[1], -1)), ["sequence of tokens", "'0.1'"]),
    (TwoInputs, ["TwoInputs", "scale", "images alone"]),
    (Branching, ["Branching", "control flow", "masking_rule"]),
    (Asserting, ["Asserting", "only real tensors", "masking_rule"]),
]
AT_THE_FIRST_FORWARD = [
    (of_layers(nn.LayerNorm(16)), ["layer norm", "'0.1'", "permute"]),
    (of_layers(nn.Linear(16, 16)), ["linear layer", "'0.1'", "permute"]),
    (calling(lambda x: x.mean(3)), ["reduces", "axes [3]", "'0.1'", "rule of its own"]),
    (calling(lambda x: x[:, :, 0]), ["index", "'0.1'", "masking_rule"]),
    (calling(lambda x: x.transpose(2, 3)), ["transposes", "'0.1'", "masking_rule"]),
    (calling(lambda x: x.permute(2, 0, 1, 3)), ["permutes", "'0.1'", "masking_rule"]),
    (calling(lambda x: F.pad(x, (0, 0, 0, 0, 8, 8))), ["pads", "'0.1'", "rule of its own"]),
    (calling(lambda x: torch.cat([x, x], 3)), ["concatenates", "axis 3", "'0.1'", "masking_rule"]),
    (calling(lambda x: torch.cat([x, x], 0)), ["axis 0", "'0.1'", "masking_rule"]),
    (calling(lambda x: torch.stack([x, torch.ones(3, 16, 16, 16)], 1)), ["masked features", "'0.1'"]),
    (calling(lambda x: x + x.permute(0, 2, 3, 1)), ["order of axes", "'0.1'"]),
    (calling(lambda x: x.view(-1, 1, 16, 16)), ["sequence of tokens", "'0.1'"]),
    (calling(lambda x: x.permute(1, 2, 3, 0)), ["got (1, 2, 3, 0)", "rule of its own"]),
    (calling(lambda x: torch.cat(x.chunk(4, dim=2), 1)), ["splits channels only", "got axis 2", "rule of its own"]),
    (calling(lambda x: torch.cat(x.split(1, dim=0), 1)), ["splits channels only", "rule of its own"]),
    (calling(lambda x: x[0]), ["keeps all images", "rule of its own"]),
    (calling(lambda x: x.unsqueeze(0)), ["positions of the mask", "rule of its own"]),
]


def refuse(act, named):
    """In one sentence that holds these words."""
    with pytest.raises(UnsupportedNetworkError) as refusal:
        act()
    assert_one_sentence(refusal, *named)


@pytest.mark.parametrize(("make", "named"), AT_WRAPPING, ids=[" ".join(named[:2]) for _, named in AT_WRAPPING])
def test_what_cannot_be_masked_is_refused_when_wrapped_in_one_sentence(make, named):
    refuse(lambda: LayerMasking(make()), named)


@pytest.mark.parametrize(
    ("make", "named"), AT_THE_FIRST_FORWARD, ids=[" ".join(named[:2]) for _, named in AT_THE_FIRST_FORWARD]
)
def test_what_depends_on_shapes_is_refused_at_the_first_forward_in_one_sentence(make, named):
    masked = LayerMasking(make().eval())
    refuse(lambda: masked(draw_images(size=32), holes(32)), named)


def roll(_operation, x, *_args):
    visible = x.visible.derive("roll", lambda positions: positions.roll(1, 2))
    return Masked(x.with_hidden_zero().roll(1, 2), visible)


@pytest.mark.parametrize(("target", "layer"), [("roll", Function(lambda x: x.roll(1, 2))), (Roll, Roll())])
def test_one_decorated_function_makes_a_network_supported(target, layer):
    network, images, visible = classifier(layer, nn.Conv2d(16, 16, 3, padding=1)).eval(), draw_images(), holes()
    with pytest.raises(UnsupportedNetworkError, match="roll"):
        LayerMasking(network)
    masking_rule(target)(roll)
    masked = LayerMasking(network)
    logits = masked(torch.where(visible, images, torch.nan), visible)
    assert logits.isfinite().all() and torch.equal(logits, masked(images, visible))
    assert torch.equal(masked(images, torch.ones_like(visible)), network(images))
    rolled = LayerMasking(classifier(nn.Conv2d(16, 16, 3, padding=1)).eval())
    weights = dict(network.state_dict())
    rolled.network.load_state_dict({name: weights[name.replace("0.1.", "0.2.")] for name in rolled.state_dict()})
    assert not torch.equal(logits, rolled(images, visible))


def test_a_rule_of_ones_own_mends_a_refusal_of_a_known_operation():
    network = classifier(nn.InstanceNorm2d(16, track_running_stats=True)).eval()
    with pytest.raises(UnsupportedNetworkError):
        LayerMasking(network)

    @masking_rule(nn.InstanceNorm2d)
    def by_running_statistics(operation: nn.InstanceNorm2d, x: Masked) -> Masked:
        return x.with_features(operation(x.features))

    assert LayerMasking(network)(draw_images(), holes()).isfinite().all()


def test_a_subclass_takes_the_rule_of_the_class_whose_forward_it_keeps():
    class Renamed(nn.ReLU6):
        pass

    class Doubled(nn.BatchNorm2d):
        def forward(self, x):
            return 2 * super().forward(x)

    assert find_rule(Renamed) is find_rule(nn.ReLU6)
    assert find_rule(Doubled) is None
    assert find_rule(nn.Bilinear) is None and find_rule("no_such_method") is None


def test_the_latest_rule_and_the_nearest_class_win():
    class Own(nn.ReLU):
        pass

    @masking_rule(Own, "own_method", ends_masking=True)
    def own(operation, x):
        return operation(x.features)

    assert find_rule(Own).apply is find_rule("own_method").apply is own
    assert find_rule(nn.ReLU).apply is elementwise
    assert find_rule(Own).ends_masking(Own())
    masking_rule(Own)(elementwise)
    assert find_rule(Own).apply is elementwise
    assert not find_rule(Own).ends_masking(Own())


def test_a_check_refuses_an_operation_when_the_network_is_wrapped():
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    def check_factor(operation, _x):
        if operation.factor == 0:
            raise NotImplementedError("the factor must not be 0; choose another.")

    masking_rule(Scaled, check=check_factor)(elementwise)

    def network(factor):
        return nn.Sequential(Scaled(factor), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    LayerMasking(network(2.0))
    with pytest.raises(UnsupportedNetworkError, match="at layer '0' of Sequential, the factor must not be 0"):
        LayerMasking(network(0.0))


@pytest.mark.parametrize(
    ("layer", "target"), [(StochasticDepth(0.5, "row"), stochastic_depth), (DropPath(0.5), DropPath)]
)
def test_a_table_that_is_put_back_to_what_it_was_gets_the_rules_of_other_libraries_again(layer, target):
    network = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    LayerMasking(network)
    del RULES[target]
    LayerMasking(network)
    assert find_rule(target).apply is elementwise

    @masking_rule(target)
    def own(operation, x, *_args):
        return x

    LayerMasking(network)
    assert find_rule(target).apply is own
