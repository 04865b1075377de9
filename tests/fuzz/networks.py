"""Random small networks, as people write them, with images and masks; each is a function of its kind and seed alone."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 3
Draw = Callable[[random.Random, int], nn.Module]


class Block(nn.Module):
    """A few lines of somebody's forward, with the modules that they call."""

    def __init__(self, text: str, compute: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.text, self.compute, self.parts = text, compute, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Any:
        return self.compute(x, *self.parts)

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


class Given(nn.Module):
    """Batch norm as a function of statistics that are given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean, self.variance = nn.Parameter(torch.rand(channels)), nn.Parameter(0.5 + torch.rand(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance)


class Dropped(nn.Module):
    """A branch that training drops, always, and evaluation keeps."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch, self.drop = branch, nn.Dropout(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.dropout(self.branch(x), 1.0, self.training) + self.drop(x)


# --- layers -----------------------------------------------------------------------------------------------------------


def convolution(chance: random.Random, channels: int) -> nn.Module:
    kernel = (chance.choice([1, 2, 3, 3, 5]), chance.choice([1, 2, 3, 3, 5]))
    kernel = kernel if chance.random() < 0.3 else (kernel[0],) * 2
    stride, dilation = chance.choice([1, 1, 1, 2, 3]), chance.choice([1, 1, 1, 2])
    is_odd = stride == 1 and kernel[0] % 2 == kernel[1] % 2 == 1  # torch warns of "same" with even kernels
    padding: Any = chance.choice([0, 1, 1, 2, 3, (0, 2), "valid"] + ["same"] * is_odd)
    mode = chance.choice(["zeros"] * 5 + ["reflect", "replicate", "circular"])
    groups = chance.choice([1, 1, 1, 2, channels]) if channels % 2 == 0 else 1
    outputs = channels if groups == channels else chance.choice([4, 8])
    return nn.Conv2d(
        channels, outputs, kernel, stride, padding, dilation, groups, bias=chance.random() < 0.5, padding_mode=mode
    )


def same_convolution(chance: random.Random, channels: int) -> nn.Module:
    """Of stride 1, which keeps the size."""
    reach, dilation = chance.choice([0, 1, 1, 2]), chance.choice([1, 1, 2])
    groups = chance.choice([1, 1, channels])
    return nn.Conv2d(
        channels, channels, 2 * reach + 1, 1, reach * dilation, dilation, groups, bias=chance.random() < 0.5
    )


def functional_convolution(chance: random.Random, channels: int) -> nn.Module:
    holder, padding = nn.Conv2d(channels, 4, 3), chance.choice([0, 1, "same"])
    return Block("F.conv2d", lambda x, own: F.conv2d(x, own.weight, own.bias, padding=padding), holder)


def transposed_convolution(chance: random.Random, channels: int) -> nn.Module:
    kernel, stride = chance.choice([1, 2, 3]), chance.choice([1, 2, 3])
    extra, dilation = chance.choice([0, 0, 1]), chance.choice([1, 1, 2])
    groups = chance.choice([1, 2]) if channels % 2 == 0 else 1
    padding = chance.choice([0, 1])
    return nn.ConvTranspose2d(channels, 4, kernel, stride, padding, extra, groups, dilation=dilation)


def batch_norm(chance: random.Random, channels: int) -> nn.Module:
    return nn.BatchNorm2d(
        channels,
        momentum=chance.choice([0.1, 0.1, 0.5, None]),
        affine=chance.random() < 0.8,
        track_running_stats=chance.random() < 0.9,
    )


def norm(chance: random.Random, channels: int) -> nn.Module:
    """Of every kind; batch norm most often."""
    return chance.choice(
        [
            batch_norm(chance, channels),
            batch_norm(chance, channels),
            nn.GroupNorm(chance.choice([1, 2 if channels % 2 == 0 else 1, channels]), channels),
            nn.InstanceNorm2d(channels, affine=chance.random() < 0.7),
            nn.LocalResponseNorm(3),
            Block("F.group_norm", lambda x: F.group_norm(x, 1)),
            Given(channels),
            Block("layer norm", lambda x, own: own(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.LayerNorm(channels)),
        ]
    )


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "x.sigmoid()": lambda x: x.sigmoid(),
    "torch.tanh": torch.tanh,
    "F.gelu": F.gelu,
    "F.hardswish": F.hardswish,
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "x * sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "clamp": lambda x: x.clamp(min=-0.5, max=0.8),
    "abs": torch.abs,
}


def activation(chance: random.Random, channels: int, *, inplace: bool | None = None) -> nn.Module:
    name = chance.choice(list(ACTIVATIONS))
    changes = chance.random() < 0.5 if inplace is None else inplace
    return chance.choice(
        [
            nn.ReLU(changes), nn.ReLU(changes), nn.LeakyReLU(0.1, changes), nn.ReLU6(changes), nn.ELU(1.0, changes),
            nn.SiLU(changes), nn.Hardswish(changes), nn.Hardsigmoid(), nn.Mish(), nn.GELU(), nn.Softplus(), nn.Tanh(),
            nn.PReLU(channels), nn.Softmax2d(), nn.CELU(), nn.SELU(), nn.LogSigmoid(), nn.Softsign(),
            Block(name, ACTIVATIONS[name]), Block(name, ACTIVATIONS[name]),
        ]
    )  # fmt: skip


def pool(chance: random.Random, channels: int) -> nn.Module:
    kernel, stride = chance.choice([2, 3, (2, 3)]), chance.choice([None, 1, 2, 3])
    padding, ceil_mode = chance.choice([0, 0, 1]), chance.random() < 0.4
    divisor = chance.choice([None, None, 3])
    average = (kernel, stride, padding, ceil_mode, chance.random() < 0.5, divisor)
    largest = (kernel, stride, padding, chance.choice([1, 1, 2]))
    size: Any = chance.choice([2, 3, (3, 2), (None, 2)])
    return chance.choice(
        [
            nn.MaxPool2d(*largest, ceil_mode=ceil_mode),
            nn.AvgPool2d(*average),
            Block("F.max_pool2d", lambda x: F.max_pool2d(x, *largest, ceil_mode=ceil_mode)),
            Block("F.avg_pool2d", lambda x: F.avg_pool2d(x, *average)),
            nn.LPPool2d(2, kernel, stride, ceil_mode),
            nn.AdaptiveAvgPool2d(size),
            nn.AdaptiveMaxPool2d(size),
        ]
    )


def frame(chance: random.Random, channels: int) -> nn.Module:
    """Padding that stands apart, with or without an activation ahead of a convolution."""
    sizes = tuple(chance.randrange(3) for _ in range(4))
    padding = chance.choice(
        [
            nn.ZeroPad2d(sizes), nn.ZeroPad2d(2), nn.ConstantPad2d(sizes, 0.0), nn.ReflectionPad2d(sizes),
            nn.ReplicationPad2d(sizes), nn.CircularPad2d(sizes),
            Block("F.pad", lambda x: F.pad(x, sizes)),
            Block("F.pad, cropping", lambda x: F.pad(x, (-1, *sizes[1:]))),
        ]
    )  # fmt: skip
    between = [activation(chance, channels)] if chance.random() < 0.4 else []
    return nn.Sequential(padding, *between, chance.choice([convolution, same_convolution, pool])(chance, channels))


def resampling(chance: random.Random, channels: int) -> nn.Module:
    halves = channels % 4 == 0
    return chance.choice(
        [
            nn.Upsample(scale_factor=2),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=chance.random() < 0.5),
            nn.Upsample(size=(7, 5), mode=chance.choice(["nearest", "bilinear", "nearest-exact"])),
            Block("F.interpolate", lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear")),
            nn.PixelUnshuffle(2),
            nn.PixelShuffle(2) if halves else nn.Identity(),
            Block("x[..., ::2, 1:]", lambda x: x[..., ::2, 1:]),
            Block("x[:, :, 1:-1, :-1]", lambda x: x[:, :, 1:-1, :-1]),
        ]
    )


# --- blocks -----------------------------------------------------------------------------------------------------------


def chain(chance: random.Random, channels: int) -> nn.Module:
    """Layers that keep the size and the channels."""
    layers = chance.choices([same_convolution, same_convolution, norm, activation], k=chance.randint(1, 3))
    return nn.Sequential(*(layer(chance, channels) for layer in layers))


def _plus_equals(x: Tensor, branch: nn.Module) -> Tensor:
    y = branch(x)
    y += x
    return y


def residual(chance: random.Random, channels: int) -> nn.Module:
    branch, other = chain(chance, channels), chain(chance, channels)
    branch = nn.Sequential(same_convolution(chance, channels), branch)
    stride = chance.choice([1, 2])
    strided = nn.Conv2d(channels, 8, 3, stride, 1, bias=False), nn.Conv2d(channels, 8, 1, stride, bias=False)
    scale = nn.Conv2d(1, channels, 1, bias=False)
    return chance.choice(
        [
            Block("a(x) + x", lambda x, a: a(x) + x, branch),
            Block("x + a(x)", lambda x, a: x + a(x), branch),
            Block("y = a(x); y += x", _plus_equals, branch),
            Block("a(x) + b(x)", lambda x, a, b: a(x) + b(x), branch, other),
            Block("a(x) - b(x)", lambda x, a, b: a(x) - b(x), branch, other),
            Block("torch.add(a(x), x, alpha=0.5)", lambda x, a: torch.add(a(x), x, alpha=0.5), branch),
            Block("a(x).add(x)", lambda x, a: a(x).add(x), branch),
            Block("strided a(x) + b(x)", lambda x, a, b: a(x) + b(x), *strided),
            Block("x + scale * a(x)", lambda x, a, s: x + s.weight[:, 0] * a(x), branch, scale),
            Block("relu(a(x) + b(x) + x)", lambda x, a, b: F.relu(a(x) + b(x) + x), branch, other),
        ]
    )


def concatenation(chance: random.Random, channels: int) -> nn.Module:
    first, second = chain(chance, channels), chain(chance, channels)
    narrow, half = nn.Conv2d(2 * channels, 4, 1), channels // 2
    parts = [
        Block("conv(cat(a(x), b(x)))", lambda x, a, b, n: n(torch.cat([a(x), b(x)], 1)), first, second, narrow),
        Block("conv(cat(x, a(x)))", lambda x, a, n: n(torch.cat((x, a(x)), dim=1)), first, narrow),
        Block("stack(a(x), b(x)).sum(1)", lambda x, a, b: torch.stack([a(x), b(x)], dim=1).sum(1), first, second),
    ]
    if channels % 2 == 0:
        own = nn.Sequential(same_convolution(chance, half), chain(chance, half))  # no change in place of a view

        def shuffled(x: Tensor, a: nn.Module) -> Tensor:
            kept, changed = x.chunk(2, dim=1)
            y = torch.cat((kept, a(changed)), dim=1)
            b, c, h, w = y.size()
            return y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)

        parts += [
            Block("chunk, a, cat, shuffle", shuffled, own),
            Block("cat(x[:, :half], a(x[:, half:]))", lambda x, a: torch.cat([x[:, :half], a(x[:, half:])], 1), own),
            nn.ChannelShuffle(2),
        ]
    return chance.choice(parts)


def gate(chance: random.Random, channels: int) -> nn.Module:
    one, two = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
    local = nn.Conv2d(channels, channels, 3, padding=1)
    down, up = nn.Linear(channels, 4), nn.Linear(4, channels)

    def squeezed(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        pooled = x.mean((2, 3))
        return x * b(F.relu(a(pooled))).sigmoid()[:, :, None, None]

    return chance.choice(
        [
            Block("x * sigmoid(conv(x))", lambda x, a: x * torch.sigmoid(a(x)), local),
            Block(
                "squeeze and excitation",
                lambda x, a, b: x * b(F.relu(a(F.adaptive_avg_pool2d(x, 1)))).sigmoid(), one, two,
            ),
            Block("x * b(a(x.mean)), hard", lambda x, a, b: x * F.hardsigmoid(b(a(x.mean((2, 3), True)))), one, two),
            Block("x * linear(x.mean((2, 3)))", squeezed, down, up),
            Block("x * sigmoid(x.mean(1))", lambda x: x * x.mean(1, keepdim=True).sigmoid()),
            Block("x * sigmoid(x.amax(1))", lambda x, a: x * a(x).amax(dim=1, keepdim=True).sigmoid(), local),
            Block("maximum(x, a(x))", lambda x, a: torch.maximum(x, a(x)), local),
        ]
    )  # fmt: skip


def convnext(chance: random.Random, channels: int) -> nn.Module:
    parts = (
        nn.Conv2d(channels, channels, chance.choice([3, 5]), padding="same", groups=channels), nn.LayerNorm(channels),
        nn.Linear(channels, 8), nn.Linear(8, channels),
    )  # fmt: skip

    def compute(x: Tensor, depthwise: nn.Module, norm: nn.Module, up: nn.Module, down: nn.Module) -> Tensor:
        y = norm(depthwise(x).permute(0, 2, 3, 1))
        return x + down(F.gelu(up(y))).permute(0, 3, 1, 2)

    def with_response_norm(x: Tensor, depthwise: nn.Module, norm: nn.Module, up: nn.Module, down: nn.Module) -> Tensor:
        y = F.gelu(up(norm(depthwise(x).permute(0, 2, 3, 1))))
        size = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = y + y * (size / (size.mean(dim=-1, keepdim=True) + 1e-2))
        return x + down(y).permute(0, 3, 1, 2)

    return Block("ConvNeXt", chance.choice([compute, with_response_norm]), *parts)


ARITHMETIC: dict[str, Callable[[Tensor], Tensor]] = {
    "x / x.norm(1)": lambda x: x / x.norm(dim=1, keepdim=True),
    "x / sqrt(x.square().mean(1))": lambda x: x / x.square().mean(1, keepdim=True).sqrt(),
    "x * rsqrt(x.square().mean(1))": lambda x: x * x.square().mean(1, keepdim=True).rsqrt(),
    "x / x.abs().sum(1)": lambda x: x / x.abs().sum(dim=1, keepdim=True),
    "log(x * x + 0.1)": lambda x: (x * x + 0.1).log(),
    "log1p(|x|)": lambda x: torch.log1p(x.abs()),
    "sqrt(|x| + 0.1)": lambda x: (x.abs() + 0.1) ** 0.5,
    "exp(-x * x)": lambda x: torch.exp(-(x * x)),
    "1 / (x * x + 0.2)": lambda x: 1 / (x * x + 0.2),
    "reciprocal(2 + tanh(x))": lambda x: (2 + x.tanh()).reciprocal(),
    "x ** 2": lambda x: x**2,
    "2 ** tanh(x)": lambda x: 2 ** x.tanh(),
    "x / norm of the map": lambda x: x / x.norm(dim=(2, 3), keepdim=True),
    "(x - x.mean((2, 3)))": lambda x: x - x.mean((2, 3), keepdim=True),
    "3 - 2 * x": lambda x: 3 - 2 * x,
}


def arithmetic(chance: random.Random, channels: int) -> nn.Module:
    name = chance.choice(list(ARITHMETIC))
    return Block(name, ARITHMETIC[name])


def _statement(text: str, change: Callable[..., Any]) -> Callable[..., Block]:
    """A block whose first line makes y, whose second changes it in place, and whose third returns it."""

    def compute(x: Tensor, *parts: nn.Module) -> Tensor:
        y = parts[0](x)
        change(y, x, *parts[1:])
        return y

    return lambda *parts: Block(text, compute, *parts)


def in_place(chance: random.Random, channels: int) -> nn.Module:
    """Changes in place of a layer's fresh result, whose map stays as it is."""
    own, other = same_convolution(chance, channels), nn.Conv2d(channels, channels, 1)
    name, change = chance.choice(
        [
            ("y.relu_()", lambda y, _x: y.relu_()),
            ("F.relu(y, inplace=True)", lambda y, _x: F.relu(y, inplace=True)),
            ("y.clamp_(min=-0.3)", lambda y, _x: y.clamp_(min=-0.3)),
            ("y.sigmoid_()", lambda y, _x: y.sigmoid_()),
            ("y.mul_(0.5)", lambda y, _x: y.mul_(0.5)),
            ("y.add_(1)", lambda y, _x: y.add_(1)),
            ("y.div_(2)", lambda y, _x: y.div_(2)),
            ("F.hardswish(y, True)", lambda y, _x: F.hardswish(y, inplace=True)),
        ]
    )
    same_map = nn.Sequential(nn.Conv2d(channels, channels, 1), chain_of_points(chance, channels))
    return chance.choice(
        [
            _statement(name, change)(own),
            _statement(name, change)(nn.Sequential(own, norm(chance, channels))),
            _statement("y.add_(a(x))", lambda y, x, a: y.add_(a(x)))(same_map, other),
            _statement("y.mul_(sigmoid(a(x)))", lambda y, x, a: y.mul_(a(x).sigmoid()))(same_map, other),
        ]
    )


def chain_of_points(chance: random.Random, channels: int) -> nn.Module:
    """Layers that keep the map."""
    return nn.Sequential(norm(chance, channels), activation(chance, channels))


def aliases(chance: random.Random, channels: int) -> nn.Module:
    """Changes in place that another name sees, or whose branches have different maps."""
    own, branch = same_convolution(chance, channels), nn.Conv2d(channels, channels, 3, padding=1)

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


def without_gradient(chance: random.Random, channels: int) -> nn.Module:
    """Part of a forward that says no_grad."""

    def frozen(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        with torch.no_grad():
            y = a(x)
        return b(x) + y

    return Block("with no_grad", frozen, chain(chance, channels), chain(chance, channels))


def standardised(_chance: random.Random, channels: int) -> nn.Module:
    return Standardised(channels)


def dropped(chance: random.Random, channels: int) -> nn.Module:
    return Dropped(chain(chance, channels))


def unused(chance: random.Random, channels: int) -> nn.Module:
    """A head whose result nobody takes."""

    def compute(x: Tensor, a: nn.Module, head: nn.Module) -> Tensor:
        y = a(x)
        head(y)
        return y

    return Block("head(y), unused", compute, chain(chance, channels), nn.Conv2d(channels, 2, 1))


LAYERS: tuple[Draw, ...] = (
    convolution, convolution, same_convolution, norm, norm, activation, activation, pool, residual, residual,
)  # fmt: skip
BLOCKS: tuple[Draw, ...] = (
    *LAYERS, functional_convolution, transposed_convolution, frame, resampling, concatenation, gate, convnext,
    arithmetic, in_place,
)  # fmt: skip


def rows_block(chance: random.Random, channels: int) -> nn.Module:
    """What the row engine computes: convolutions, batch norm, activations, sums."""

    def plain(stride: int = 1, kernel: int = 3, outputs: int = channels) -> nn.Module:
        layers = [nn.Conv2d(channels, outputs, kernel, stride, kernel // 2, bias=chance.random() < 0.5)]
        layers += [nn.BatchNorm2d(outputs)] if chance.random() < 0.7 else []
        return nn.Sequential(*layers, *([nn.ReLU(chance.random() < 0.5)] if chance.random() < 0.7 else []))

    stride, outputs = chance.choice([1, 2]), chance.choice([4, 8])
    window = nn.Conv2d(
        channels, outputs, chance.choice([1, 2, 3, 5]), chance.choice([1, 2]), chance.choice([0, 1, 2, 3]),
        chance.choice([1, 1, 2]),
    )  # fmt: skip
    return chance.choice(
        [
            plain(chance.choice([1, 2]), chance.choice([1, 3, 5]), outputs),
            window,
            Block("a(x) + x", lambda x, a: a(x) + x, nn.Sequential(plain(), plain())),
            Block("relu(a(x) + b(x))", lambda x, a, b, r: r(a(x) + b(x)), plain(stride, 3, outputs),
                  plain(stride, 1, outputs), nn.ReLU(inplace=True)),
            Block("y = a(x); y += x", _plus_equals, plain()),
        ]
    )  # fmt: skip


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


def head(chance: random.Random, channels: int, *, averages: bool = False) -> nn.Module:
    linear = nn.Linear(channels, CLASSES)
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
    if averages:
        return average
    return chance.choice(
        [
            average,
            average,
            Block("linear(x.mean((2, 3)))", lambda x, a: a(x.mean((2, 3))), linear),
            Block("linear(x.amax((2, 3)))", lambda x, a: a(x.amax((2, 3))), linear),
            Block("linear(x.sum((2, 3)))", lambda x, a: a(x.sum((2, 3))) * 0.1, linear),
            nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), linear),
            nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES)),
            Block("linear(pool(x).view)", lambda x, a: a(F.adaptive_avg_pool2d(x, 1).view(x.size(0), -1)), linear),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, CLASSES, 1), nn.Flatten()),
        ]
    )


def _size_after(block: nn.Module, *size: int) -> tuple[int, int, int] | None:
    """Channels, height and width of a block's result; None where it cannot take the features, or makes too many."""
    try:
        with torch.no_grad():
            _, channels, height, width = block.eval()(torch.rand(2, *size)).shape
    except (RuntimeError, ValueError):
        return None
    return (channels, height, width) if min(height, width) > 0 and max(channels, height, width) <= 16 else None


@dataclass
class Example:
    """A network with a batch.

    Attributes:
        network: float64, in eval mode.
        images: (B, 3, H, W) float64.
        visible: (B, 1, H, W) bool.
        slope: multiplies logits before they are summed, where gradients are asked for.
    """

    network: Network
    images: Tensor
    visible: Tensor
    slope: Tensor


_MASKS = ("pixels", "pixels", "patches", "patches", "box", "hole", "pixel", "nothing", "everything")


def draw_visible(chance: random.Random, batch: int, height: int, width: int) -> Tensor:
    """(B, 1, H, W): each image its own kind of mask."""
    noise = torch.rand(batch, 1, height, width)
    visible = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    for one, own in zip(visible, noise, strict=True):
        kind = chance.choice(_MASKS)
        if kind == "pixels":
            one[:] = own < chance.choice([0.1, 0.5, 0.9])
        elif kind == "patches":
            side = chance.choice([2, 3, 4])
            coarse = own[:, ::side, ::side] < chance.choice([0.3, 0.6])
            one[:] = coarse.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]
        elif kind in ("box", "hole"):
            top, left = chance.randrange(height), chance.randrange(width)
            one[:, top : top + chance.randint(1, height), left : left + chance.randint(1, width)] = True
            one[:] = one if kind == "box" else ~one
        elif kind == "pixel":
            one[:, chance.randrange(height), chance.randrange(width)] = True
        else:
            one[:] = kind == "everything"
    return visible


def draw_example(seed: str, blocks: Sequence[Draw] = BLOCKS, *, averages: bool = False, least: int = 2) -> Example:
    """A network of random blocks, the first always a convolution, with random weights, images and masks.

    Args:
        seed: of everything.
        blocks: to draw from.
        averages: whether the head is global average pooling and a linear layer.
        least: number of blocks.
    """
    chance = random.Random(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chance.getrandbits(63))
        height, width = chance.randint(4, 11), chance.randint(4, 11)
        stem = nn.Conv2d(3, chance.choice([4, 8]), chance.choice([1, 3, 3, 5]), 1, chance.choice([0, 1, 2]))
        chosen: list[nn.Module] = []
        widths: list[int] = []
        size, wanted = (3, height, width), chance.randint(least, 5)
        while len(chosen) < wanted:
            block = chance.choice(blocks)(chance, size[0]) if chosen or chance.random() < 0.2 else stem
            after = _size_after(block, *size)
            if after is not None:
                chosen, size = [*chosen, block], after
                widths.append(size[0])
        second = None
        if not averages and chance.random() < 0.15:
            at = chance.randrange(len(chosen))
            second = at, head(chance, widths[at])
        network = Network(chosen, head(chance, widths[-1], averages=averages), second)
        _randomise(network)
        batch = chance.choice([2, 3])
        images, slope = torch.randn(batch, 3, height, width), torch.randn(CLASSES)
        visible = draw_visible(chance, batch, height, width)
    return Example(network.double().eval(), images.double(), visible, slope.double())


def _randomise(network: nn.Module) -> None:
    """Norms as after a training."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.InstanceNorm2d | nn.LayerNorm):
            if module.weight is not None:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.uniform_(-0.5, 0.5)
            if getattr(module, "running_mean", None) is not None:
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 1.5)
