"""Random small networks, as people write them, with images and masks; each is a function of its kind and seed alone."""

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.operations import ALONE, WINDOWED, windowed_along

CLASSES = 3
NORMS = tuple(getattr(nn, f"{name}{axes}d") for name in ("BatchNorm", "InstanceNorm") for axes in (1, 2, 3))
Draw = Callable[["Chance", int], nn.Module]
SIDES = {1: (6, 24), 2: (4, 11), 3: (3, 7)}
"""Smallest and largest side of signals, images and volumes, by the number of axes that their positions have."""
ORDERS = {
    1: [(1, 0, 2), (0, 2, 1)],
    2: [(1, 0, 2, 3), (0, 2, 3, 1), (0, 2, 1, 3), (0, 1, 3, 2), (1, 0, 3, 2)],
    3: [(1, 0, 2, 3, 4), (0, 2, 3, 4, 1), (0, 2, 1, 3, 4), (0, 1, 4, 3, 2), (1, 0, 4, 2, 3)],
}


class Chance(random.Random):
    """Random choices of a network.

    Attributes:
        axes: how many axes its positions have.
    """

    axes = 2

    @classmethod
    def of(cls, seed: str, axes: int) -> "Chance":
        chance = cls(seed)
        chance.axes = axes
        return chance

    def layer(self, name: str, *settings: Any, **named: Any) -> nn.Module:
        """A module of torch for so many axes, such as Conv2d."""
        return getattr(nn, f"{name}{self.axes}d")(*settings, **named)

    @property
    def positions(self) -> tuple[int, ...]:
        """The axes of the positions in (B, C, *size)."""
        return tuple(range(2, 2 + self.axes))

    @property
    def for_channels(self) -> tuple[Any, ...]:
        """An index that makes (..., 1, ...), which stands against positions, of a vector."""
        return (..., *[None] * self.axes)


class Block(Function):
    """A few lines of somebody's forward, with the modules that they call."""

    def __init__(self, text: str, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__(function, *parts)
        self.text = text

    def extra_repr(self) -> str:
        return self.text


class Standardised(nn.Module):
    """Arithmetic with buffers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(channels, 1, 1))
        self.register_buffer("std", 0.5 + torch.rand(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * (1 / self.std)


class Dropped(nn.Module):
    """A branch that training drops, always, and evaluation keeps."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch, self.drop = branch, nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.branch(x), 1.0, self.training) + self.drop(x)


# --- layers -----------------------------------------------------------------------------------------------------------


def operation(chance: Chance, channels: int) -> nn.Module:
    """Any of those that are checked one by one, behind a layer that makes as many channels as it takes."""
    windowed = WINDOWED if chance.axes == 2 else windowed_along(chance.axes)
    table, takes = chance.choice([(ALONE, 6), (windowed, 4), (windowed, 4)])
    name = chance.choice(list(table))
    made = copy.deepcopy(table[name])
    made = made if isinstance(made, nn.Module) else Block(name, made)
    for module in made.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return made if channels == takes else nn.Sequential(chance.layer("Conv", channels, takes, 1), made)


def convolution(chance: Chance, channels: int) -> nn.Module:
    """Of any geometry."""
    kernel = tuple(chance.choice([1, 2, 3, 3, 5]) for _ in chance.positions)
    kernel = kernel if chance.random() < 0.3 else (kernel[0],) * chance.axes
    stride, dilation = chance.choice([1, 1, 1, 2, 3]), chance.choice([1, 1, 1, 2])
    padding: Any = chance.choice([0, 1, 1, 2, 3, (2, 0, 2)[-chance.axes :], "valid"])
    groups = chance.choice([1, 1, 1, 2, channels]) if channels % 2 == 0 else 1
    outputs = channels if groups == channels else chance.choice([4, 8])
    bias = chance.random() < 0.5
    return chance.layer("Conv", channels, outputs, kernel, stride, padding, dilation, groups, bias=bias)


def same_convolution(chance: Chance, channels: int) -> nn.Module:
    """Of stride 1, which keeps the size."""
    reach, dilation, groups = chance.choice([0, 1, 1, 2]), chance.choice([1, 1, 2]), chance.choice([1, 1, channels])
    bias = chance.random() < 0.5
    return chance.layer("Conv", channels, channels, 2 * reach + 1, 1, reach * dilation, dilation, groups, bias=bias)


def norm(chance: Chance, channels: int) -> nn.Module:
    """Batch norm most often."""
    momentum, affine, tracks = chance.choice([0.1, 0.5, None]), chance.random() < 0.8, chance.random() < 0.9
    batch_norm = chance.layer("BatchNorm", channels, momentum=momentum, affine=affine, track_running_stats=tracks)
    others = [nn.GroupNorm(1, channels), chance.layer("InstanceNorm", channels, affine=affine)]
    return chance.choice([batch_norm] * 4 + others)


def padded(chance: Chance, channels: int) -> nn.Module:
    """Zeros, or what a layer makes of nothing else, around the image."""
    sizes = [chance.choice([0, 1, 1, 2]) for _ in range(2 * chance.axes)]
    axis = chance.choice(chance.positions)

    def beside(x: Tensor) -> Tensor:
        zeros = x.new_zeros([1 if each == axis else size for each, size in enumerate(x.shape)])
        return torch.cat([zeros, x] if sizes[0] else [x, zeros], axis)

    return chance.choice(
        [
            Block(f"F.pad(x, {sizes})", lambda x: F.pad(x, sizes)),
            Block(f"zeros beside x along {axis}", beside),
            chance.layer("Conv", channels, channels, 1, padding=chance.choice([1, 2])),
            chance.layer("Conv", channels, channels, 2, padding=3, dilation=chance.choice([1, 2])),
            chance.layer("ConvTranspose", channels, channels, 2, 3, output_padding=1),
        ]
    )


def activation(chance: Chance, channels: int) -> nn.Module:
    changes = chance.random() < 0.5
    kinds = (nn.ReLU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU)
    return chance.choice([*(kind(inplace=changes) for kind in kinds), nn.GELU(), nn.PReLU(channels)])


def chain(chance: Chance, channels: int) -> nn.Module:
    """Layers that keep the size and the channels."""
    layers = chance.choices([same_convolution, same_convolution, norm, activation], k=chance.randint(1, 3))
    return nn.Sequential(*(layer(chance, channels) for layer in layers))


# --- blocks -----------------------------------------------------------------------------------------------------------


def _plus_equals(x: Tensor, branch: nn.Module) -> Tensor:
    y = branch(x)
    y += x
    return y


def residual(chance: Chance, channels: int) -> nn.Module:
    branch, other = nn.Sequential(same_convolution(chance, channels), chain(chance, channels)), chain(chance, channels)
    stride = chance.choice([1, 2])
    strided = [chance.layer("Conv", channels, 8, size, stride, size // 2, bias=False) for size in (3, 1)]
    scale, narrow = chance.layer("Conv", 1, channels, 1, bias=False), chance.layer("Conv", 2 * channels, 4, 1)
    return chance.choice(
        [
            Block("a(x) + x", lambda x, a: a(x) + x, branch),
            Block("y = a(x); y += x", _plus_equals, branch),
            Block("a(x) - b(x)", lambda x, a, b: a(x) - b(x), branch, other),
            Block("torch.add(a(x), x, alpha=0.5)", lambda x, a: torch.add(a(x), x, alpha=0.5), branch),
            Block("strided a(x) + b(x)", lambda x, a, b: a(x) + b(x), *strided),
            Block("x + scale * a(x)", lambda x, a, s: x + s.weight[:, 0] * a(x), branch, scale),
            Block("relu(a(x) + b(x) + x)", lambda x, a, b: F.relu(a(x) + b(x) + x), branch, other),
            Block("conv(cat(a(x), b(x)))", lambda x, a, b, n: n(torch.cat([a(x), b(x)], 1)), branch, other, narrow),
            Block("x * sigmoid(a(x))", lambda x, a: x * torch.sigmoid(a(x)), branch),
        ]
    )


def _statement(text: str, change: Callable[..., Any]) -> Callable[..., Block]:
    """A block whose first line makes y, whose second changes it in place, and whose third returns it."""

    def compute(x: Tensor, *parts: nn.Module) -> Tensor:
        y = parts[0](x)
        change(y, x, *parts[1:])
        return y

    return lambda *parts: Block(text, compute, *parts)


def in_place(chance: Chance, channels: int) -> nn.Module:
    """Changes in place of a layer's fresh result, whose map stays as it is."""
    own, other = same_convolution(chance, channels), chance.layer("Conv", channels, channels, 1)
    name, change = chance.choice(
        [
            ("y.relu_()", lambda y, _x: y.relu_()),
            ("F.relu(y, inplace=True)", lambda y, _x: F.relu(y, inplace=True)),
            ("y.clamp_(min=-0.3)", lambda y, _x: y.clamp_(min=-0.3)),
            ("y.sigmoid_()", lambda y, _x: y.sigmoid_()),
            ("y.mul_(0.5)", lambda y, _x: y.mul_(0.5)),
            ("y.div_(2)", lambda y, _x: y.div_(2)),
            ("F.hardswish(y, True)", lambda y, _x: F.hardswish(y, inplace=True)),
        ]
    )
    ahead = chance.layer("Conv", channels, channels, 1)
    same_map = nn.Sequential(ahead, norm(chance, channels), activation(chance, channels))
    return chance.choice(
        [
            _statement(name, change)(own),
            _statement(name, change)(nn.Sequential(own, norm(chance, channels))),
            _statement("y.add_(a(x))", lambda y, x, a: y.add_(a(x)))(same_map, other),
            _statement("y.mul_(sigmoid(a(x)))", lambda y, x, a: y.mul_(a(x).sigmoid()))(same_map, other),
        ]
    )


def aliases(chance: Chance, channels: int) -> nn.Module:
    """Changes in place that another name sees, or whose branches have different maps."""
    own, branch = same_convolution(chance, channels), chance.layer("Conv", channels, channels, 3, padding=1)

    def kept(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        y = a(x)
        keep = y
        y += b(y)
        return keep * 0.5 + y

    def kept_activation(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        y = a(x)
        keep = y
        F.relu(y, inplace=True)
        return b(keep)

    return chance.choice(
        [
            _statement("y.add_(a(x))", lambda y, x, a: y.add_(a(x)))(own, branch),
            _statement("y.sub_(a(x))", lambda y, x, a: y.sub_(a(x)))(own, branch),
            _statement("y.mul_(a(x))", lambda y, x, a: y.mul_(a(x)))(own, branch),
            Block("keep = y; y += b(y); keep", kept, own, branch),
            Block("keep = y; relu_(y); b(keep)", kept_activation, own, branch),
        ]
    )


def without_gradient(chance: Chance, channels: int) -> nn.Module:
    """Part of a forward that says no_grad."""

    def frozen(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        with torch.no_grad():
            y = a(x)
        return b(x) + y

    return Block("with no_grad", frozen, chain(chance, channels), chain(chance, channels))


def standardised(_chance: Chance, channels: int) -> nn.Module:
    return Standardised(channels)


def dropped(chance: Chance, channels: int) -> nn.Module:
    return Dropped(chain(chance, channels))


def unused(chance: Chance, channels: int) -> nn.Module:
    """A head whose result nobody takes."""

    def compute(x: Tensor, a: nn.Module, head: nn.Module) -> Tensor:
        y = a(x)
        head(y)
        return y

    return Block("head(y), unused", compute, chain(chance, channels), chance.layer("Conv", channels, 2, 1))


def checkpointed(chance: Chance, channels: int) -> nn.Module:
    """A part that a backward pass computes again."""
    reentrant = chance.random() < 0.7

    def compute(x: Any, part: nn.Module) -> Any:
        if isinstance(x, Tensor):
            return checkpoint(part, x, use_reentrant=reentrant)
        with torch.no_grad():  # for running statistics, which count both passes
            part(x)
        return part(x)

    part = nn.Sequential(same_convolution(chance, channels), norm(chance, channels), chain(chance, channels))
    return Block(f"checkpoint(a, x, use_reentrant={reentrant})", compute, part)


def moving_axes(chance: Chance, channels: int) -> nn.Module:
    """Images and positions on any axes."""
    branch, at = same_convolution(chance, channels), chance.randrange(3)
    order = chance.choice(ORDERS[chance.axes])
    back, apart = [order.index(axis) for axis in range(len(order))], chance.for_channels
    behind = tuple(axis + 1 for axis in chance.positions)
    name, compute = chance.choice(
        [
            ("act(x.permute(...))", lambda x, a: F.silu(a(x).permute(order)).permute(back)),
            ("x * x.permute(...).mean(...)", lambda x, a: x + a(x) * _mean_by_axes(x, order)[apart]),
            ("torch.stack([a(x), x], at).sum(at)", lambda x, a: torch.stack([a(x), x], at).sum(at)),
            ("torch.stack([a(x), x]).mean(...)", lambda x, a: x * torch.stack([a(x), x]).mean(behind).sum(0)[apart]),
            ("a(x)[None] * 0.5", lambda x, a: (a(x)[None] * 0.5).sum(0)),
            ("a(x).unsqueeze(at)", lambda x, a: (a(x).unsqueeze(at) - 0.1).sum(at)),
        ]
    )
    return Block(name, compute, branch)


def _mean_by_axes(x: Tensor, order: Sequence[int]) -> Tensor:
    """(B, C), from the order in which the axes are, (B, C, *size) being 0, 1, 2 and so on."""
    mean = x.permute(tuple(order)).mean([order.index(axis) for axis in range(2, x.ndim)])
    return mean.mT if order.index(1) < order.index(0) else mean


def asking(chance: Chance, channels: int) -> nn.Module:
    """What a network makes of the size of its features, in the midst or at the end of a pass, and of which layer."""
    one, other, large = same_convolution(chance, channels), same_convolution(chance, channels), chance.randint(4, 9)
    over, pool = chance.positions, getattr(F, f"avg_pool{chance.axes}d")
    name, compute = chance.choice(
        [
            ("(a if x.shape[2] > n else b)(x)", lambda x, a, b: (a if x.shape[2] > large else b)(x)),
            ("[a(x), b(x)][x.size(3) > n]", lambda x, a, b: [a(x), b(x)][x.size(3) > large]),
            ("a(x) if x.shape[2] > n else x", lambda x, a, _b: a(x) if x.shape[2] > large else x),
            ("x * (x.shape[2] / 10)", lambda x, a, _b: a(x) * (x.shape[2] / 10)),
            ("x / x.numel() ** 0.5", lambda x, a, _b: a(x) / (x.size(2) * x.size(-1)) ** 0.5),
            ("x * x.stride(1)", lambda x, _a, b: b(x) * (x.shape[2] * x.shape[-1] % 3 - 1)),
            ("x[:, :, : x.shape[2] // 2 + 1]", lambda x, a, _b: a(x)[:, :, : x.shape[2] // 2 + 1]),
            ("x.split(3, 2)[0]", lambda x, a, _b: a(x).split(3, 2)[0]),
            ("interpolate(avg_pool(x, 2), x.shape[2:])", lambda x, _a, _b: F.interpolate(pool(x, 2), x.shape[2:])),
            ("x * sum / (h * w)", lambda x, a, _b: x * (a(x).sum(over, True) / (x.shape[2] * x.shape[-1]))),
            (
                "x.tanh() if x.shape[-1] > n else x.sigmoid()",
                lambda x, _a, _b: x.tanh() if x.shape[-1] > large else x.sigmoid(),
            ),
            ("a(x) + 0 * x.shape[2]", lambda x, a, _b: a(x) + 0 * x.shape[2]),
            ("x.view(x.size(0), 2, -1, *x.shape[2:])", lambda x, _a, _b: x.view(x.size(0), 2, -1, *x.shape[2:]).sum(1)),
        ]
    )
    return Block(name, compute, one, other)


LAYERS: tuple[Draw, ...] = (convolution, same_convolution, norm, activation, residual, residual)
BLOCKS: tuple[Draw, ...] = (*LAYERS, *(operation,) * 6, in_place, moving_axes)


# --- whole networks ---------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Blocks, a pool over everything, a linear head; a second one reads an earlier block where there is one."""

    def __init__(self, blocks: Sequence[nn.Module], head: nn.Module, second: tuple[int, nn.Module] | None) -> None:
        super().__init__()
        self.blocks, self.head = nn.ModuleList(blocks), head
        self.at, self.second = second or (-1, None)

    def forward(self, x: Tensor) -> Any:
        further = None
        for index, block in enumerate(self.blocks):
            x = block(x)
            if self.second is not None and index == self.at:
                further = self.second(x)
        return self.head(x) if self.second is None else (self.head(x), further)


def head(chance: Chance, channels: int) -> nn.Module:
    linear, over = nn.Linear(channels, CLASSES), chance.positions
    pool, bins = (chance.layer("AdaptiveAvgPool", each) for each in (1, 2))
    return chance.choice(
        [
            nn.Sequential(pool, nn.Flatten(), linear),
            Block(f"linear(x.mean({over}))", lambda x, a: a(x.mean(over)), linear),
            Block(f"linear(x.amax({over}))", lambda x, a: a(x.amax(over)), linear),
            Block(
                f"linear(x.transpose(0, 1).mean({over}).mT)", lambda x, a: a(x.transpose(0, 1).mean(over).mT), linear
            ),
            nn.Sequential(bins, nn.Flatten(), nn.Linear(2**chance.axes * channels, CLASSES)),
            nn.Sequential(pool, chance.layer("Conv", channels, CLASSES, 1), nn.Flatten()),
        ]
    )


def map_head(chance: Chance, channels: int) -> nn.Module:
    """A map of logits."""
    return chance.layer("Conv", channels, CLASSES, chance.choice([1, 3]), padding=chance.choice([0, 1, 2]))


def asking_head(chance: Chance, channels: int) -> nn.Module:
    """A head that asks for the size after the last masked step."""
    linear, large, over = nn.Linear(channels, CLASSES), chance.randint(4, 9), chance.positions
    name, compute = chance.choice(
        [
            ("sum / (h * w)", lambda x, a: a(x.sum(over) / (x.size(2) * x.size(-1)))),
            ("mean * width ** 0.5", lambda x, a: a(x.mean(over)) * float(x.shape[-1]) ** 0.5),
            ("a sign by height", lambda x, a: a(x.mean(over)) * (1 if x.shape[2] > large else -1)),
            ("mean or maximum", lambda x, a: a([x.mean(over), x.amax(over)][x.shape[2] > large])),
            ("one of two outputs", lambda x, a: [a(x.mean(over)), -a(x.amax(over))][x.shape[-1] > large]),
            ("numel", lambda x, a: a(x.mean(over)) + x.numel() / x.shape[0]),
            ("batch", lambda x, a: a(x.mean(over).view(x.size(0), -1))),
        ]
    )
    return Block(name, compute, linear)


def _size_after(block: nn.Module, *size: int) -> tuple[int, ...] | None:
    """Channels and size of a block's result; None where it cannot take the features, or makes too many."""
    try:
        with torch.no_grad():
            _, *after = block.eval()(torch.rand(2, *size)).shape
    except (RuntimeError, ValueError, IndexError):
        return None
    largest = SIDES[len(size) - 1][1] + 5
    fits = len(after) == len(size) and min(after[1:]) > 1 and max(after) <= max(largest, 16)
    return tuple(after) if fits else None


@dataclass
class Example:
    """A network with a batch.

    Attributes:
        network: float64, in eval mode.
        images: (B, 3, *size) float64.
        visible: (B, 1, *size) bool.
        slope: multiplies logits before they are summed, where gradients are asked for.
    """

    network: Network
    images: Tensor
    visible: Tensor
    slope: Tensor


_MASKS = ("pixels", "pixels", "patches", "patches", "box", "hole", "pixel", "nothing", "everything")


def draw_visible(chance: Chance, batch: int, *size: int) -> Tensor:
    """(B, 1, *size): each image its own kind of mask."""
    noise = torch.rand(batch, 1, *size)
    visible = torch.zeros(batch, 1, *size, dtype=torch.bool)
    for one, own in zip(visible, noise, strict=True):
        kind = chance.choice(_MASKS)
        if kind == "pixels":
            one[:] = own < chance.choice([0.1, 0.5, 0.9])
        elif kind == "patches":
            side = chance.choice([2, 3, 4])
            fine = own < chance.choice([0.3, 0.6])
            for axis, length in enumerate(size, 1):
                fine = fine.index_select(axis, torch.arange(length) // side * side)
            one[:] = fine
        elif kind in ("box", "hole"):
            corner = [chance.randrange(length) for length in size]
            box = [slice(start, start + chance.randint(1, length)) for start, length in zip(corner, size, strict=True)]
            one[(0, *box)] = True
            one[:] = one if kind == "box" else ~one
        elif kind == "pixel":
            one[(0, *(chance.randrange(length) for length in size))] = True
        else:
            one[:] = kind == "everything"
    return visible


def draw_example(seed: str, blocks: Sequence[Draw] = BLOCKS, heads: Sequence[Draw] = (head,), axes: int = 2) -> Example:
    """A network of random blocks, the first always a convolution, with random weights, images and masks.

    Args:
        seed: of everything.
        blocks: to draw from.
        heads: likewise.
        axes: how many the positions have.
    """
    chance = Chance.of(seed, axes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chance.getrandbits(63))
        sides = [chance.randint(*SIDES[axes]) for _ in range(axes)]
        stem = chance.layer("Conv", 3, chance.choice([4, 8]), chance.choice([1, 3, 3, 5]), 1, chance.choice([0, 1, 2]))
        chosen: list[nn.Module] = []
        widths: list[int] = []
        size, wanted = (3, *sides), chance.randint(2, 5)
        while len(chosen) < wanted:
            block = chance.choice(blocks)(chance, size[0]) if chosen or chance.random() < 0.2 else stem
            after = _size_after(block, *size)
            if after is not None:
                chosen, size = [*chosen, block], after
                widths.append(size[0])
        second = None
        if chance.random() < 0.15:
            at = chance.randrange(len(chosen))
            second = at, head(chance, widths[at])
        network = Network(chosen, chance.choice(heads)(chance, widths[-1]), second)
        _randomise(network)
        batch = chance.choice([2, 3])
        images, slope = torch.randn(batch, 3, *sides), torch.randn(CLASSES)
        visible = draw_visible(chance, batch, *sides)
    return Example(network.double().eval(), images.double(), visible, slope.double())


def _randomise(network: nn.Module) -> None:
    """Norms as after a training."""
    for module in network.modules():
        if isinstance(module, (*NORMS, nn.GroupNorm, nn.LayerNorm)):
            if module.weight is not None:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(-0.5, 0.5)
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
