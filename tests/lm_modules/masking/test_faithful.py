"""A masked pass does what the network's owner would expect of the network itself, whatever happened since wrapping."""

import copy
import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import build, draw_images, holes

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

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.stem(x)))


def calling(function: Callable[[Tensor], Tensor]) -> Classifier:
    return Classifier(Function(function))


class Normalised(nn.Module):
    """Divides by a buffer, a plain attribute and a tensor that is made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("std", torch.full((CHANNELS, 1, 1), 2.0))
        self.scale = torch.full((1,), 3.0)

    def forward(self, x: Tensor) -> Tensor:
        channels = torch.arange(1, CHANNELS + 1, device=x.device, dtype=x.dtype)
        return x * (1 / self.std) / self.scale.to(x.dtype) * channels.view(-1, 1, 1)


@torch.no_grad()
def test_what_forward_computes_from_tensors_is_computed_in_each_pass() -> None:
    network = Classifier(Normalised())
    masked = LayerMasking(network)
    reference = LayerMasking(Classifier(Function(lambda x: x * torch.arange(1.0, 9.0)[:, None, None] / 6)))
    assert_close(masked(IMAGES, VISIBLE), reference(IMAGES, VISIBLE))
    network.load_state_dict({**network.state_dict(), "layers.0.std": torch.full((CHANNELS, 1, 1), 8.0)})
    network.layers[0].scale = torch.full((1,), 6.0)
    reference.network.layers[0].function = lambda x: x * torch.arange(1.0, 9.0)[:, None, None] / 48
    expected = reference(IMAGES, VISIBLE)
    assert_close(masked(IMAGES, VISIBLE), expected)
    assert_close(network.double() and masked(IMAGES.double(), VISIBLE), expected.double(), rtol=1e-4, atol=1e-5)
    assert_close(network.bfloat16() and masked(IMAGES.bfloat16(), VISIBLE), expected.bfloat16(), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_random_numbers_of_forward_are_drawn_in_each_pass() -> None:
    network = calling(lambda x: x)
    quiet = LayerMasking(copy.deepcopy(network))(IMAGES, VISIBLE)
    network.head.append(Function(lambda logits: logits + torch.randn(2)))
    masked = LayerMasking(network)
    torch.manual_seed(0)
    drawn = masked(IMAGES, VISIBLE), masked(IMAGES, VISIBLE)
    torch.manual_seed(0)
    for logits in drawn:
        assert_close(logits, quiet + torch.randn(2))


class Counting(nn.Module):
    """Sets an attribute in forward."""

    def forward(self, x: Tensor) -> Tensor:
        self.last = F.relu(x)
        return self.last


def test_wrapping_leaves_nothing_on_the_network() -> None:
    network = Classifier(Normalised(), Function(lambda x: x + torch.ones(1) + torch.tensor(2.0)))
    before = {path: set(vars(module)) for path, module in network.named_modules()}
    LayerMasking(network)(IMAGES, VISIBLE)
    assert {path: set(vars(module)) for path, module in network.named_modules()} == before
    network = Classifier(Counting())
    with pytest.raises(UnsupportedNetworkError, match=r"sets the attribute 'last' of layer 'layers\.0'"):
        LayerMasking(network)
    assert "last" not in vars(network.layers[0])


class Part(nn.Module):
    """Drops units and whole branches, as its mode and its numbers say."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.path = nn.Conv2d(CHANNELS, CHANNELS, 1), StochasticDepth(0.5, "row")
        self.p, self.settings = 0.5, [1.0]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.path(F.dropout(self.conv(x), self.p, self.training)) * self.settings[0]


@torch.no_grad()
def test_each_module_is_in_its_own_mode() -> None:
    network = Classifier(Part(), Part())
    masked = LayerMasking(network).train()
    network.layers.eval()
    assert torch.equal(masked(IMAGES, VISIBLE), masked(IMAGES, VISIBLE))
    network.layers[1].train()
    assert not torch.equal(masked(IMAGES, VISIBLE), masked(IMAGES, VISIBLE))


@torch.no_grad()
def test_settings_and_children_that_change_after_wrapping_take_effect() -> None:
    network = Classifier(Part())
    masked = LayerMasking(network)

    def assert_up_to_date() -> None:
        assert_close(masked(IMAGES, VISIBLE), LayerMasking(copy.deepcopy(network))(IMAGES, VISIBLE), rtol=0, atol=0)

    before = masked(IMAGES, VISIBLE)
    network.layers[0].settings[0] = 3.0
    assert_up_to_date()
    assert not torch.equal(masked(IMAGES, VISIBLE), before)
    network.layers[0].path = Function(lambda x: x.abs())
    assert_up_to_date()
    network.layers.append(nn.Conv2d(CHANNELS, CHANNELS, 3))
    assert_up_to_date()
    network.layers[0].forward = lambda x: x * 2
    assert_up_to_date()
    network.train()
    network.layers[0].p = 0.0
    before = masked(IMAGES, VISIBLE)
    assert torch.equal(masked(IMAGES, VISIBLE), before)


@pytest.mark.parametrize("name", ["mT", "data", "T", "real", "grad"])
def test_an_attribute_that_is_a_tensor_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=rf"at layer 'layers\.0' of Classifier, .* attribute '{name}'"):
        LayerMasking(calling(lambda x: getattr(x, name) + 0))


def grow(x: Tensor) -> Tensor:
    """Visible one position farther."""
    return F.max_pool2d(x, 3, 1, 1)


def statement(x: Tensor) -> Tensor:
    y = grow(x)
    y.add_(x)
    y.mul_(2)
    return F.relu(y)


def augmented(x: Tensor) -> Tensor:
    y = grow(x)
    keep = y
    y += x
    return F.relu(keep + y)


@pytest.mark.parametrize("change", [statement, augmented])
@torch.no_grad()
def test_a_tensor_that_is_changed_in_place_stands_for_the_result(change: Callable[[Tensor], Tensor]) -> None:
    expected = LayerMasking(calling(lambda x: F.relu((grow(x) + x) * 2)))
    masked = LayerMasking(calling(change))
    assert_close(masked.network(IMAGES), expected.network(IMAGES))
    assert_close(masked(IMAGES, VISIBLE), expected(IMAGES, VISIBLE))


class InPlace(nn.Module):
    """Activates what another name still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = grow(x)
        y += x
        keep = y
        self.relu(y)
        F.relu6(y, inplace=True)
        batch = number = x.shape[0]
        number += 1  # no tensor: `batch` keeps its value
        return keep.reshape(batch, CHANNELS, x.shape[2], x.shape[3])


@torch.no_grad()
def test_modules_and_functions_in_place_change_every_name_of_a_tensor_and_no_number() -> None:
    expected = LayerMasking(calling(lambda x: F.relu6(grow(x) + x)))
    masked = LayerMasking(Classifier(InPlace()))
    assert_close(masked(IMAGES, VISIBLE), expected(IMAGES, VISIBLE))


def through_a_view(x: Tensor) -> Tensor:
    y = grow(x)
    y.view(y.shape).add_(1)
    return y


def through_a_part(x: Tensor) -> Tensor:
    first, _ = x.chunk(2, 1)
    first += 1
    return x


def before_a_view(x: Tensor) -> Tensor:
    y = grow(x)
    part = y[:, :4]
    y *= 2
    return torch.cat([part, part], 1)


@pytest.mark.parametrize("change", [through_a_view, through_a_part, before_a_view])
def test_a_tensor_that_is_changed_through_another_is_refused_by_name(change: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedNetworkError, match=r"'\w+' is used after '\w+' has changed"):
        LayerMasking(calling(change))


@torch.no_grad()
def test_parts_of_a_tensor_may_be_changed_one_by_one() -> None:
    def one_by_one(x: Tensor) -> Tensor:
        first, second = grow(x).chunk(2, 1)
        first += 1
        second *= 2
        return torch.cat([first, second], 1)

    def at_once(x: Tensor) -> Tensor:
        first, second = grow(x).chunk(2, 1)
        return torch.cat([first + 1, second * 2], 1)

    masked, expected = LayerMasking(calling(one_by_one)), LayerMasking(calling(at_once))
    assert torch.equal(masked(IMAGES, VISIBLE), expected(IMAGES, VISIBLE))


class Frozen(nn.Module):
    """A part without gradients beside one with them, both of the same features."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.free = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            kept = F.max_pool2d(self.frozen(x), 3, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            free = self.free(x)
        return free.to(x.dtype) + kept


@pytest.mark.parametrize("checkpoint_segments", [0, 2])
def test_a_block_without_gradients_has_none_and_autocast_holds_where_it_is_set(checkpoint_segments: int) -> None:
    network = Classifier(Frozen()).to(memory_format=torch.channels_last).train()
    twin = copy.deepcopy(network)
    LayerMasking(network, checkpoint_segments=checkpoint_segments)(IMAGES, VISIBLE).square().sum().backward()
    assert network.layers[0].frozen.weight.grad is None
    assert network.layers[0].free.weight.grad is not None
    twin.layers[0].frozen.requires_grad_(False)
    twin.layers[0].forward = lambda x, own=twin.layers[0]: (
        own.free(x).to(torch.float32) + F.max_pool2d(own.frozen(x.detach()), 3, 1, 1)
    )
    LayerMasking(twin)(IMAGES, VISIBLE).square().sum().backward()
    error = (network.stem.weight.grad - twin.stem.weight.grad).norm() / twin.stem.weight.grad.norm()
    assert 0 < error < 0.02  # bfloat16 in one of them


class Auxiliary(nn.Module):
    """A head whose result nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(2))
        self.auxiliary = nn.Sequential(nn.Conv2d(CHANNELS, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x))
        self.auxiliary(x)
        return x


@torch.no_grad()
def test_a_module_whose_result_is_unused_runs() -> None:
    network = Classifier(Auxiliary())
    rows, dense = (LayerMasking(network, engine=engine) for engine in ("rows", "dense"))
    assert_close(rows(IMAGES, VISIBLE), dense(IMAGES, VISIBLE))
    dense.train()(IMAGES, VISIBLE)
    assert network.layers[0].auxiliary[1].running_mean.ne(0).all()


class RunsAThread(nn.Module):
    """While it is read, another thread runs a module."""

    def __init__(self, other: LayerMasking) -> None:
        super().__init__()
        self.run = lambda: [other(IMAGES), other(IMAGES, VISIBLE)]
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        def run() -> None:
            self.outputs.extend(self.run())

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return x


def test_other_threads_run_modules_while_a_network_is_read() -> None:
    other = LayerMasking(build("small_resnet"))
    layer = RunsAThread(other)
    LayerMasking(Classifier(layer))
    assert_close(layer.outputs, [*layer.run(), *layer.run()], rtol=0, atol=0)


def test_two_threads_may_wrap_at_once() -> None:
    start, found = threading.Barrier(2), []

    def wrap() -> None:
        network = build("small_resnet")
        start.wait()
        found.append([LayerMasking(network).read().program.steps[0].layer for _ in range(5)])

    threads = [threading.Thread(target=wrap) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["conv1"] * 5] * 2
