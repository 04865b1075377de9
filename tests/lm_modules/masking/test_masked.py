"""Masked features and the plan of a network, and each operation by itself."""

import copy
import itertools
import math

import pytest
import torch
from timm.layers import BatchNormAct2d, DropPath
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.pool2d_same import MaxPool2dSame
from timm.layers.space_to_depth import SpaceToDepth
from timm.models.vgg import ConvMlp
from torch import nn
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking, Masked, VisibleMap
from maskrobust.lm_modules.masking.functional import hide
from maskrobust.lm_modules.masking.layer_masking import PlanRow
from maskrobust.lm_modules.masking.morphology import PADDINGS
from maskrobust.lm_modules.masking.visible_map import MaskingOptions, Window
from maskrobust.lm_modules.networks.architectures import SmallResNet
from tests.conftest import refused
from tests.lm_modules.masking.cases import (
    OPTIONS,
    Function,
    assert_as_reference,
    assert_close,
    draw_features,
    draw_visible,
)
from tests.lm_modules.masking.networks import draw_images, randomise
from tests.lm_modules.masking.operations import ALONE, SINGULAR, WINDOWED

GEOMETRIES = [
    Window((kernel, kernel), (stride, stride), (left, right, left, right), (dilation, dilation))
    for kernel in (1, 2, 3)
    for stride in (1, 2)
    for dilation in (1, 2)
    for left in range(3)
    for right in range(3)
    if left + right + 6 > dilation * (kernel - 1)
]
UNION = MaskingOptions(merge="union")
SAME = Window.of(2, 3, 1, 1)


@pytest.mark.parametrize("options", [MaskingOptions(), UNION], ids=["intersection", "union"])
def test_merging_a_branch_with_its_input_is_right_for_every_window(options):
    combine = torch.logical_and if options.merge == "intersection" else torch.logical_or
    shared = 0
    for geometry in GEOMETRIES:
        start = VisibleMap(draw_visible(6, 6), options)
        middle = start.window(SAME)
        end = middle.window(geometry)
        if end.positions.shape != start.positions.shape:
            continue
        for first, second in [(start, end), (end, start), (end, middle), (start, start)]:
            merged = first.merge(second)
            assert torch.equal(merged.positions, combine(first.positions, second.positions))
            assert torch.equal(first.merge(second, intersection=False).positions, first.positions | second.positions)
            assert torch.equal(first.merge(second, intersection=True).positions, first.positions & second.positions)
            shared += merged is first or merged is second
    assert shared > len(GEOMETRIES) / 4


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_a_mask_that_never_changes_is_planned_no_more_than_twice(monkeypatch, padding):
    planned: list[int] = []
    true_plan = PADDINGS[padding]
    monkeypatch.setitem(PADDINGS, padding, lambda *args: planned.append(1) or true_plan(*args))
    network = LayerMasking(SmallResNet(3, width=16), padding=padding).eval()
    images, visible = draw_features(2, 3, 32, 32).float(), draw_visible(32, 32)[:2]
    with torch.inference_mode():
        first, _ = network(images, visible), network(images, visible)
        planned.clear()
        assert torch.equal(network(images, visible.clone()), first) and not planned
    network(images, visible).sum().backward()
    assert planned
    visible.copy_(visible.flip(3))  # in place, and as many pixels as before
    fresh = LayerMasking(network.network, padding=padding)
    assert torch.equal(network(images, visible), fresh(images, visible))
    assert torch.equal(copy.deepcopy(network)(images, visible), fresh(images, visible))


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_a_pass_is_planned_ahead_as_the_last_one_of_its_kind_was_and_else_when_it_asks(monkeypatch, padding):
    events: list[str] = []
    true_plan = PADDINGS[padding]
    monkeypatch.setitem(PADDINGS, padding, lambda *args: events.append("plan") or true_plan(*args))
    network = SmallResNet(3, width=16).eval()
    masked = LayerMasking(network, padding=padding)
    layers = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    for layer in layers:
        layer.register_forward_hook(lambda *_: events.append("layer"))
    images, visible = draw_features(3, 3, 32, 32).float(), draw_visible(32, 32)

    def events_of_equal_passes(mask):
        fresh = LayerMasking(network, padding=padding)(images, mask)
        events.clear()
        assert torch.equal(masked(images, mask), fresh)
        return "".join(each[0] for each in events)

    assert "lp" in events_of_equal_passes(visible[[0, 3, 5]])  # nothing is visible in one image
    ahead = events_of_equal_passes(visible[[1, 3, 5]])
    assert ahead == "p" * ahead.count("p") + "l" * len(layers) and ahead.count("p") > 2
    wide = [each for each in layers if each.kernel_size == (3, 3)][-1]
    wide.dilation = wide.padding = (2, 2)  # now it asks for more rings than any pass before
    assert "lp" in events_of_equal_passes(visible[[0, 3, 5]])
    assert "lp" not in events_of_equal_passes(visible[[2, 3, 4]])
    assert events_of_equal_passes(torch.ones_like(visible[:3])) == "l" * len(layers)  # which asks for nothing


@pytest.mark.parametrize("shape", [(6, 4, 5, 6), (5, 4, 5, 7), (6, 5, 7, 4), (6, 7)])
def test_features_that_are_no_map_of_the_positions_are_refused(shape):
    with refused(NotImplementedError, str(shape), "5 x 7 positions"):
        Masked(torch.zeros(shape), VisibleMap(draw_visible(5, 7), MaskingOptions()))


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


class Tiny(nn.Module):
    """A window of three, a pool, a block with a shortcut, and a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.trunk = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, 2))
        self.block = nn.Conv2d(2, 2, 2, padding="same")
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2, 3)

    def forward(self, x):
        x = self.trunk(self.conv(x))
        first, second = (x + self.block(x)).chunk(2, 1)
        return self.fc(self.pool(torch.cat([first, second], 1)).flatten(1))


EXPECTED = [
    # The pixel at (4, 4) is seen from rows 3-5 and columns 3-5: 9 of 48 positions, in one image of two.
    PlanRow("conv", "conv2d", "convolution", (8, 6), 2, 9 / 96),
    PlanRow("trunk.0", "relu", "pointwise", (8, 6), 0, 9 / 96),
    # Rows 3-5 lie in pooled rows 1-2, columns 3-5 in 1-2: 4 of 12 positions.
    PlanRow("trunk.1", "max_pool2d", "max_pool", (4, 3), 0, 4 / 24),
    # An even window reads one position to the right and below: rows 0-2, columns 0-2.
    PlanRow("block", "conv2d", "convolution", (4, 3), 1, 9 / 24),
    # Visible in both branches: rows 1-2, columns 1-2.
    PlanRow("", "add", "residual", (4, 3), 0, 4 / 24),
    PlanRow("", "chunk", "split", (4, 3), 0, 4 / 24),
    PlanRow("", "chunk", "split", (4, 3), 0, 4 / 24),
    PlanRow("", "cat", "concatenate", (4, 3), 0, 4 / 24),
    PlanRow("pool", "adaptive_avg_pool2d", "adaptive_average_pool", None, 0, None),
]


def test_the_plan_is_the_one_worked_out_by_hand():
    visible = torch.zeros(2, 1, 8, 6, dtype=torch.bool)
    visible[0, 0, 4, 4] = True
    plan = LayerMasking(Tiny()).plan(torch.zeros(2, 1, 8, 6), visible)
    assert plan == [row._replace(visible_fraction=pytest.approx(row.visible_fraction, abs=1e-6)) for row in EXPECTED]


@torch.no_grad()
def test_the_plan_says_where_masking_ends_in_a_sum():
    ends = {
        "mean": lambda x: x.mean((2, 3)), "amax": lambda x: x.amax((2, 3)), "sum": lambda x: x.sum((2, 3)) / 63,
        "einsum": lambda x: torch.einsum("bchw->bc", x), "flatten": lambda x: x.flatten(1),
        "matmul": lambda x: torch.matmul(x.flatten(2), torch.ones(63, 1)),
    }  # fmt: skip
    for name, end in ends.items():
        masked = LayerMasking(Function(lambda x, own, end=end: end(own(x)), nn.Conv2d(3, 4, 1)))
        plan = masked.plan(torch.zeros(1, 3, 9, 7), torch.ones(1, 1, 9, 7, dtype=torch.bool))
        ended = [row for row in plan if row.size is None]
        assert [row.is_sum for row in ended] == [name in ("sum", "einsum", "matmul")], name
        assert ("masking ends in a sum" in " ".join(str(plan).split())) == ended[0].is_sum


def as_network(operation):
    """With the operation as a part, so that a module has its own rule."""
    return nn.Sequential(operation if isinstance(operation, nn.Module) else Function(operation))


@pytest.mark.parametrize("name", ALONE | SINGULAR)
def test_an_operation_of_positions_alone_computes_the_visible_ones_and_keeps_the_map(name):
    module, visible = copy.deepcopy(as_network((ALONE | SINGULAR)[name])).double(), draw_visible(5, 7)
    plain = draw_features(6, 6, 5, 7).requires_grad_()
    expected = torch.where(visible, module(plain), 0)
    given = torch.where(visible, plain.detach(), torch.nan).requires_grad_()
    output = LayerMasking(module)(given, visible)
    assert_close(output, expected, 1e-12)
    expected.square().sum().backward()
    output.square().sum().backward()
    assert_close(given.grad, torch.where(visible, plain.grad, 0), 1e-9)
    assert torch.equal(LayerMasking(module).coverage(visible, channels=6) == 1, visible)


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("can_inspect", [True, False])
def test_in_training_nothing_is_infinite_where_all_that_is_hidden_is_zero(name, can_inspect, monkeypatch):
    monkeypatch.setattr("maskrobust.lm_modules.masking.visible_map.can_inspect", lambda _: can_inspect)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    parts = nn.Conv2d(3, 4, 3, padding=1, bias=False), as_network(SINGULAR[name]), nn.BatchNorm2d(4)
    network = nn.Sequential(*parts, nn.Conv2d(4, 4, 3, padding=1), *head)
    visible = torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[0, :, :3, :3] = visible[1] = True
    images = draw_images(3, 9).requires_grad_()
    logits = LayerMasking(network)(images, visible)
    logits.square().sum().backward()
    tensors = [logits, images.grad, *network.buffers(), *(parameter.grad for parameter in network.parameters())]
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert (images.grad[~visible.expand_as(images)] == 0).all()


def test_what_each_image_is_divided_by_may_be_zero_where_nothing_is_visible():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), Function(lambda x: x / x.norm(dim=(2, 3), keepdim=True)), nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    images, visible = draw_images(3, 9).requires_grad_(), torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[:2, :, 2:6, 2:6] = True
    alone = LayerMasking(copy.deepcopy(network))(images[:2], visible[:2])
    logits = LayerMasking(network)(images, visible)
    torch.testing.assert_close(logits[:2], alone)
    logits.sum().backward()
    gradients = (parameter.grad for parameter in network.parameters())
    assert all(tensor.isfinite().all() for tensor in [logits, images.grad, *network.buffers(), *gradients])


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.Dropout2d(0.5), StochasticDepth(0.5, "row"), DropPath(0.5)])
def test_dropout_scales_or_drops_in_training_alone(module):
    features, visible = 1.5 + draw_features(6, 8, 5, 6), draw_visible(5, 6)
    network = as_network(module)
    assert torch.equal(LayerMasking(network.eval())(features, visible), torch.where(visible, features, 0))
    torch.manual_seed(0)
    ratio = (LayerMasking(network.train())(features, visible) / features)[visible.expand_as(features)]
    assert set(ratio.unique().round(decimals=6).tolist()) == {0.0, 2.0}


def test_features_may_be_cast():
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    for cast, dtype in [("float", torch.float32), ("half", torch.float16), ("bfloat16", torch.bfloat16)]:
        output = LayerMasking(as_network(lambda x, name=cast: getattr(x, name)()))(features, visible)
        assert torch.equal(output, torch.where(visible, features, 0).to(dtype))


def test_the_most_likely_class_of_a_hidden_position_is_0():
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    network = LayerMasking(as_network(lambda x: x.argmax(dim=1)))
    assert torch.equal(network(features, visible), torch.where(visible[:, 0], features.argmax(dim=1), 0))


TAKEN = {
    "the last of a row": (lambda x: x[..., -1], lambda x: x[..., -1]),
    "one place": (lambda x: x[:, :, 1, None, -2], lambda x: x[:, :, 1, -2, None]),
    "one place of some channels": (lambda x: x[:, 1:, 2][..., 0], lambda x: x[:, 1:, 2, 0]),
    "a squeezed axis": (lambda x: x[:, :, 1:2].squeeze(2), lambda x: x[:, :, 1]),
    "squeezed axes": (lambda x: x[:, :1, 1:2, 2:3].squeeze((1, -1)).squeeze(-1), lambda x: x[:, 0, 1, 2]),
}


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_positions_may_be_taken_from_a_map_and_are_0_where_they_are_hidden(name, layout):
    features, visible = draw_features(6, 4, 5, 7), draw_visible(5, 7)
    taken, expected = TAKEN[name]
    around = (lambda x: x.permute(0, 2, 3, 1).cos().permute(0, 3, 1, 2)) if layout == "channels last" else torch.cos
    network = LayerMasking(as_network(lambda x: taken(around(x))))
    given = torch.where(visible, features, torch.nan)
    assert_close(network(given, visible), expected(torch.where(visible, features.cos(), 0)), 0)


@pytest.mark.parametrize("least", [False, True])
def test_a_maximum_over_positions_is_of_visible_ones_and_says_where(least):
    features, visible = draw_features(6, 4, 5, 7) + (-9 if not least else 9), draw_visible(5, 7)
    function = torch.min if least else torch.max
    masked = LayerMasking(as_network(lambda x: [*function(x, 2), function(function(x, 2)[0], 2).values]))
    values, places, of_all = masked(torch.where(visible, features, torch.nan), visible)
    shown = torch.where(visible, features, math.inf if least else -math.inf)
    expected, where = function(shown, 2)
    any_visible = visible.any(2)
    assert torch.equal(values, torch.where(any_visible, expected, 0))
    assert torch.equal(places, torch.where(any_visible, where, 0))
    largest = shown.amin((2, 3)) if least else shown.amax((2, 3))
    assert torch.equal(of_all, torch.where(visible.any((2, 3)), largest, 0))
    assert torch.equal(
        of_all, LayerMasking(as_network(lambda x: getattr(x, "amin" if least else "amax")((2, 3))))(features, visible)
    )


def test_what_is_hidden_or_beyond_keeps_the_order_of_memory():
    features, visible = draw_features(6, 4, 5, 7).to(memory_format=torch.channels_last), draw_visible(5, 7)
    within = VisibleMap.within(torch.full((6, 2), 4), (5, 7), MaskingOptions(), None, visible.device)
    x = Masked(features, VisibleMap(visible, MaskingOptions()))
    for kept in (hide(features, visible), x.with_hidden_one(), within.cut(features)):
        assert kept.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_what_a_convolution_has_padded_stays_so_for_its_backward_pass(padding):
    """Whatever else takes the features later: the order of two branches changes no gradient."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm, self.is_norm_first = nn.BatchNorm2d(4), False

        def forward(self, images):
            x = self.stem(images)
            first, last = (self.norm, self.conv) if self.is_norm_first else (self.conv, self.norm)
            return first(x) + last(x)

    network, gradients = Branches().double(), []
    images, visible = draw_features(2, 3, 9, 8), draw_visible(9, 8)[:2]
    for network.is_norm_first in (False, True):
        loss = LayerMasking(network, padding=padding).train()(images, visible).square().sum()
        gradients.append(torch.autograd.grad(loss, [*network.parameters()]))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_the_gradient_of_padded_features_stays_what_it_is_for_others_who_hold_it():
    features, visible = draw_features(6, 4, 5, 7).requires_grad_(), draw_visible(5, 7)
    features = features.to(memory_format=torch.channels_last)
    padded = Masked(features, VisibleMap(visible, MaskingOptions())).with_neighbour_padding(2)
    other = torch.zeros_like(features).requires_grad_()
    (other + padded).square().sum().backward()
    assert torch.equal(other.grad, 2 * padded)


# --- neighbours, branches, and everything -----------------------------------------------------------------------------

SIZE = (9, 8)


@pytest.mark.parametrize("name", WINDOWED)
def test_an_operation_computes_what_the_reference_does_with_all_options(name):
    module = copy.deepcopy(as_network(WINDOWED[name]))
    for number, parameter in enumerate(module.parameters()):
        parameter.data = 0.5 + draw_features(1, 1, 1, parameter.numel(), seed=number).reshape(parameter.shape)
    images, visible = draw_features(6, 4, *SIZE), draw_visible(*SIZE)
    normalises = any(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in module.modules())
    for options, training in itertools.product(OPTIONS, (False, True)):
        if normalises or training == bool(options):  # the mode changes nothing else, alone
            assert_as_reference(module, images, visible, training=training, **options)


def test_a_plain_branch_is_known_everywhere_and_shows_no_position():
    plain, features, visible = draw_features(6, 2, 7, 6, seed=1), draw_features(6, 4, 7, 6), draw_visible(7, 6)
    output = LayerMasking(as_network(lambda x: torch.cat([x, plain], dim=1)))(features, visible)
    assert torch.equal(output, torch.where(visible, torch.cat([features, plain], dim=1), 0))


def alike(*, size=SIZE, training=False, **networks):
    """Under a mask these compute the same."""
    images, visible = draw_features(6, 4, *size), draw_visible(*size)
    masked = [LayerMasking(as_network(network).double().train(training)) for network in networks.values()]
    torch.testing.assert_close(*(each(images, visible) for each in masked))


@pytest.mark.parametrize("training", [False, True])
def test_timms_layers_are_what_they_are_made_of(training):
    norm, head = randomise(BatchNormAct2d(4, act_layer=nn.SiLU)), ConvMlp(4, 6, 3)
    alike(training=training, one=norm, other=nn.Sequential(randomise(nn.BatchNorm2d(4)), nn.SiLU()))
    alike(one=head, other=nn.Sequential(head.fc1, nn.ReLU(), head.fc2, nn.ReLU()))
    alike(size=(9, 9), one=MaxPool2dSame(3, 2), other=nn.MaxPool2d(3, 2, 1))
    alike(one=nn.Sequential(nn.AvgPool2d(4), head), other=nn.Sequential(nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(3), head))
    sliced = Function(lambda x: torch.cat([x[:, :, row::4, column::4] for row in range(4) for column in range(4)], 1))
    alike(size=(8, 12), one=SpaceToDepth(4), other=sliced)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": "same"}, {"groups": 2, "padding": "valid"}], ids=str)
def test_a_conditional_convolution_has_each_images_own_kernel(geometry):
    conv = CondConv2d(4, 6, 3, num_experts=3, bias=True, **geometry)
    images, visible = draw_features(6, 4, *SIZE).float(), draw_visible(*SIZE)
    routes = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    output = LayerMasking(Function(lambda x, own: own(x, routes), conv))(images, visible)
    for image in range(6):
        one = slice(image, image + 1)
        alone = LayerMasking(Function(lambda x, own, one=one: own(x, routes[one]), conv))(images[one], visible[one])
        torch.testing.assert_close(output[one], alone)


def test_the_gradient_of_one_image_is_that_in_a_larger_batch():
    norm = randomise(nn.BatchNorm2d(3)).double().eval()
    masked, (images, visible) = (
        LayerMasking(nn.Sequential(norm, nn.AdaptiveAvgPool2d(1))),
        (draw_features(2, 3, 4, 5), draw_visible(4, 5)[:2]),
    )
    images.requires_grad_()
    weights = torch.arange(3.0)[:, None, None]
    (together,) = torch.autograd.grad((masked(images, visible) * weights).sum(), images)
    (alone,) = torch.autograd.grad((masked(images[:1], visible[:1]) * weights).sum(), images)
    torch.testing.assert_close(alone[0], together[0])
