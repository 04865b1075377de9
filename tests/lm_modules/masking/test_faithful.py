"""A masked pass does what the network's owner would expect of the network itself, whatever happened since wrapping."""

import copy
import io
import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError
from maskrobust.lm_modules.masking.layer_masking import modules_of
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise

IMAGES, VISIBLE = draw_images(size=32), holes(32)
CHANNELS = 8


class Classifier(nn.Module):
    """A stem, some layers, and a head."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, CHANNELS, 3, 2, 1)
            self.layers = nn.Sequential(*layers)
            self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 2))
        self.eval()

    def forward(self, x):
        return self.head(self.layers(self.stem(x)))


def calling(function):
    return Classifier(Function(function))


class Counting(nn.Module):
    """Sets an attribute in forward, and changes a list and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.shapes = []

    def forward(self, x):
        self.calls += 1
        self.shapes.append(x.shape)
        self.last = F.relu(x)
        return self.last


@torch.no_grad()
def test_what_forward_sets_is_set_by_a_pass_and_not_by_wrapping():
    network = Classifier(layer := Counting())
    random_state, numpy_state, own_state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    masked = LayerMasking(network)
    assert torch.equal(torch.get_rng_state(), random_state) and random.getstate() == own_state
    assert (np.random.get_state()[1] == numpy_state).all()
    assert "last" not in vars(layer) and layer.calls == 0 and layer.shapes == []
    masked(IMAGES, VISIBLE)
    expected = masked.output_of("layers.0", IMAGES, VISIBLE)
    assert layer.calls == 2 and layer.shapes == [(3, CHANNELS, 16, 16)] * 2
    # A masked tensor is a plain one with 0 at hidden positions for whoever asks after the pass.
    assert_close(layer.last + 0, expected.as_plain())
    assert type(layer.last + 0) is Tensor and type(copy.deepcopy(network).layers[0].last) is Tensor


def grow(x):
    """Visible one position farther."""
    return F.max_pool2d(x, 3, 1, 1)


def through_a_view(x):
    y = grow(x)
    y.view(y.shape).add_(1)
    return y


def through_a_part(x):
    first, _ = x.chunk(2, 1)
    first += 1
    return x


def before_a_view(x):
    y = grow(x)
    part = y[:, :4]
    y *= 2
    return torch.cat([part, part], 1)


def within_a_frame(x):
    y = torch.einsum("bchw,cd->bdhw", x, torch.ones(CHANNELS, CHANNELS))
    framed = F.pad(y, (1, 1, 1, 1))
    y *= 2
    return F.avg_pool2d(framed, 3, 1)


@pytest.mark.parametrize("change", [through_a_view, through_a_part, before_a_view, within_a_frame])
def test_a_tensor_that_is_changed_through_another_is_refused_by_name(change):
    with pytest.raises(UnsupportedNetworkError, match=r"at layer .* in place through another name, such as a view"):
        LayerMasking(calling(change))


@pytest.mark.parametrize("merge", ["intersection", "union"])
@pytest.mark.parametrize("reduce", [torch.sum, torch.mean])
def test_a_stack_holds_its_branches_as_they_were_when_it_was_made(merge, reduce):
    def in_place(x):
        y = grow(x)
        stacked = torch.stack([x, y])
        x *= 3
        y += 1
        return reduce(stacked, 0)

    networks = calling(in_place), calling(lambda x: reduce(torch.stack([x, grow(x)]), 0))
    found, expected = (LayerMasking(each, merge=merge)(IMAGES, VISIBLE) for each in networks)
    assert_close(found, expected)


class Frozen(nn.Module):
    """A part without gradients beside one with them, both of the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.free = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))

    def forward(self, x):
        with torch.no_grad():
            kept = F.max_pool2d(self.frozen(x), 3, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            free = self.free(x)
        return free.to(x.dtype) + kept


def test_a_block_without_gradients_has_none_and_autocast_holds_where_it_is_set():
    network = Classifier(Frozen()).to(memory_format=torch.channels_last).train()
    twin = copy.deepcopy(network)
    LayerMasking(network)(IMAGES, VISIBLE).square().sum().backward()
    assert network.layers[0].frozen.weight.grad is None
    assert network.layers[0].free.weight.grad is not None
    twin.layers[0].frozen.requires_grad_(False)
    twin.layers[0].forward = lambda x, own=twin.layers[0]: (
        own.free(x).to(torch.float32) + F.max_pool2d(own.frozen(x.detach()), 3, 1, 1)
    )
    LayerMasking(twin)(IMAGES, VISIBLE).square().sum().backward()
    error = (network.stem.weight.grad - twin.stem.weight.grad).norm() / twin.stem.weight.grad.norm()
    assert 0 < error < 0.02  # bfloat16 in one of them


class RunsAThread(nn.Module):
    """While it is read, another thread runs a module."""

    def __init__(self, other: LayerMasking, keep) -> None:
        super().__init__()
        self.run = lambda: [other(IMAGES), other(IMAGES, VISIBLE)]
        self.keep = keep

    def forward(self, x):
        def run():
            self.keep(self.run())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return x


def test_other_threads_run_modules_while_a_network_is_read():
    other = LayerMasking(build("small_resnet"))
    outputs: list[Tensor] = []
    layer = RunsAThread(other, outputs.extend)
    LayerMasking(Classifier(layer))
    assert_close(outputs, [*layer.run(), *layer.run()], rtol=0, atol=0)


def test_each_pass_sees_every_module_once_as_it_is_then():
    shared = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))
    network = nn.Sequential(shared, nn.ModuleDict({"a": shared, "b": nn.Identity()}), shared[1])
    network.none = None
    for _ in range(2):
        expected = [*network.modules()]
        assert len(modules_of(network)) == len(expected) and {*modules_of(network)} == {*expected}
        network[1]["b"] = nn.Sequential(network[1]["b"], nn.Sigmoid())


def test_wrapping_leaves_parameters_and_modes_as_they_are():
    network = build("small_resnet").train()
    network.layer1.eval()
    network.fc.weight.requires_grad_(False)
    modes = {name: module.training for name, module in network.named_modules()}
    parameters = list(network.parameters())
    masked = LayerMasking(network)
    assert masked.network is network and masked.training and not LayerMasking(build("small_resnet")).training
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert all(kept is given for kept, given in zip(masked.parameters(), parameters, strict=True))
    assert not network.fc.weight.requires_grad


@torch.no_grad()
def test_the_output_of_any_module_can_be_asked_for():
    network = build("basic_resnet")
    masked, everything = LayerMasking(network), torch.ones_like(VISIBLE)
    for layer in ("conv1", "layer1", "layer2.0", "layer2.0.downsample", "layer4", "avgpool", "fc"):
        outputs = []
        with network.get_submodule(layer).register_forward_hook(lambda _m, _i, out, kept=outputs: kept.append(out)):
            network(IMAGES)
        output = masked.output_of(layer, IMAGES, everything)
        features = output.features if isinstance(output, Masked) else output
        assert_close(features, outputs[-1], rtol=1e-4, atol=1e-5)
    assert_close(masked.output_of("fc", IMAGES, VISIBLE), masked(IMAGES, VISIBLE), rtol=1e-5, atol=1e-5)
    reused = Classifier(nn.Sequential(conv := nn.Conv2d(CHANNELS, CHANNELS, 1), nn.ReLU(), conv))
    last = reused.layers(reused.stem(IMAGES))
    assert_close(LayerMasking(reused).output_of("layers.0.0", IMAGES, everything).features, last)
    with pytest.raises(ValueError, match="got 'layer9'; name another"):
        masked.output_of("layer9", IMAGES, VISIBLE)


# --- state ------------------------------------------------------------------------------------------------------------


class Trunk(nn.Module):
    """Its part is called like the wrapper's, and holds the same names as the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.add_module("0", nn.Conv2d(4, 4, 3, 1, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x):
        return self.head(self.get_submodule("0")(self.network(x)))


def assert_equal(first, second):
    assert list(first) == list(second)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_state_dict_is_the_networks_and_loads_both_ways_inside_other_modules_too():
    network, other = Trunk(), randomise(Trunk(), seed=1)
    assert_equal(LayerMasking(network).state_dict(), network.state_dict())
    plain, wrapped = Trunk(), LayerMasking(Trunk())
    plain.load_state_dict(LayerMasking(other).state_dict())
    wrapped.load_state_dict(other.state_dict())
    assert_equal(plain.state_dict(), other.state_dict())
    assert_equal(wrapped.state_dict(), other.state_dict())
    first, second = (nn.ModuleDict({"before": nn.Linear(2, 2), "masked": LayerMasking(Trunk())}) for _ in range(2))
    assert list(first.state_dict()) == [f"before.{name}" for name in ("weight", "bias")] + [
        f"masked.{name}" for name in network.state_dict()
    ]
    second.load_state_dict(first.state_dict())
    assert_equal(second.state_dict(), first.state_dict())


@torch.no_grad()
def test_copies_and_files_of_a_wrapper_compute_the_same_and_are_independent():
    masked, file = LayerMasking(build("small_resnet"), merge="union"), io.BytesIO()
    before, twin = masked(IMAGES, VISIBLE), copy.deepcopy(masked)
    torch.save(masked, file)
    file.seek(0)
    for each in (twin, torch.load(file, weights_only=False)):
        assert torch.equal(each(IMAGES, VISIBLE), before)
        for parameter in each.parameters():
            parameter.zero_()
        assert not each(IMAGES, VISIBLE).any()
    assert torch.equal(masked(IMAGES, VISIBLE), before)
