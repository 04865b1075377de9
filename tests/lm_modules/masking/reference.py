"""Layer masking of any network, slow and obvious: the network's own `forward` runs on tensors that carry their masks.

torch hands every operation on a `Seen` to the rule of its name here. No code is shared with `lm_modules.masking`, and
the network is not read ahead: aliases, hooks, modes and `no_grad` are Python's and torch's own. Everything is float64,
and differentiated by autograd.
"""

import math
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Axes = tuple[int, ...]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Run:
    """How one network is masked, and how close it came to where a result or a gradient jumps.

    Attributes:
        merge: "intersection" or "union".
        detach_padding: whether filled values carry no gradient.
        padding: "mean", "mirror" or "zeros".
        kink: smallest distance of a visible value to a point where the gradient jumps, such as 0 for ReLU, or of the
            largest value under a max pool to the second.
        pole: smallest magnitude of what is divided by, rooted or logarithmised at a visible position.
        jump: smallest distance of a visible value to a point where the result jumps, as that of a comparison does.
    """

    merge: str = "intersection"
    detach_padding: bool = True
    padding: str = "mean"
    kink: float = math.inf
    pole: float = math.inf
    jump: float = math.inf

    def note(self, name: str, distances: Tensor) -> None:
        """Remember the smallest distance that is not 0: at exactly 0 both sides come from a plateau, such as ReLU's."""
        distances = distances.detach().abs()
        distances = distances if name == "pole" else distances[distances > 0]
        if distances.numel():
            setattr(self, name, min(getattr(self, name), float(distances.min())))


class Seen:
    """Features of which some positions are visible, and some are outside of the image, but known; 0 elsewhere.

    Attributes:
        x: float64, or whole numbers or truths made of them.
        v: (B, *size) bool, for images (B, H, W).
        run: shared by all features of one pass.
        axes: which axes of `x` are images and those of `v`; by default the first one and the last ones.
        f: (B, *size) bool: what the network has put around the image by itself, and what it makes of nothing else.
        branches: what was stacked along axis 0 to make them.
        counts: of how many known positions each value is the mean, in a shape that broadcasts; None for no means.
    """

    def __init__(self, x: Tensor, v: Tensor, run: Run, *, axes: Axes | None = None, f: Tensor | None = None) -> None:
        images, *places = axes or (0, *range(x.ndim - v.ndim + 1, x.ndim))
        order = (0, *(1 + places.index(place) for place in sorted(places)))
        self.v, self.f = v.permute(order), torch.zeros_like(v).permute(order) if f is None else f.permute(order)
        self.run, self.axes = run, (images, *sorted(places))
        assert not (self.v & self.f).any()
        self.branches: Sequence[Seen] | None = None
        self.counts: Tensor | None = None
        self.x = x.masked_fill(~self.spread(self.known, x), 0)

    @property
    def known(self) -> Tensor:
        """(B, *size) bool: where there is a value that nothing hidden has changed."""
        return self.v | self.f

    def spread(self, v: Tensor, x: Tensor | None = None) -> Tensor:
        """(B, *size) in a shape that broadcasts against the features."""
        ndim = (self.x if x is None else x).ndim
        return v.reshape(*v.shape, *[1] * (ndim - v.ndim)).movedim([*range(v.ndim)], self.axes)

    def like(self, x: Tensor) -> "Seen":
        return Seen(x, self.v, self.run, axes=self.axes, f=self.f)

    def made(self, x: Tensor, spread: Callable[[Tensor], Tensor], least: float = 0.5) -> "Seen":
        """Features that each position makes of some others: of numbers (B, 1, *size) `spread` makes their sum.

        Visible where any of these is; outside of the image where all of them are, or where there is none.
        """
        v, image = (spread(each[:, None].double())[:, 0] > least for each in (self.v, ~self.f))
        return Seen(x, v, self.run, f=~image)

    def moved(self, compute: Callable[[Tensor], Tensor]) -> "Seen":
        """After a function that leaves values at their positions; which axes these are is seen in growing numbers."""
        y, axes = compute(self.x), []
        for axis in self.axes:
            shape = [-1 if each == axis else 1 for each in range(self.x.ndim)]
            longer = [max(2, size) if each == axis else size for each, size in enumerate(self.x.shape)]
            numbers = torch.arange(1.0, longer[axis] + 1, dtype=self.x.dtype).reshape(shape).expand(longer)
            try:
                z = compute(numbers)
            except RuntimeError:  # of a function that names the size 1
                z = compute(numbers.narrow(axis, 0, 1))
            grows = [each for each in range(z.ndim) if not torch.equal(z, z.narrow(each, 0, 1).expand_as(z))]
            axes.append(grows[0] if grows else axis)
        if any(y.shape[new] != self.x.shape[old] for old, new in zip(self.axes, axes, strict=True)):
            raise ValueError("nobody sees where an axis of size 1 goes")
        return Seen(y, self.v, self.run, axes=tuple(axes), f=self.f)

    def with_ones(self, v: Tensor) -> Tensor:
        """The features with 1 where they, or a result, are hidden: no function of them is infinite there."""
        return self.x.masked_fill(~self.spread(v & self.known), 1)

    def visible_values(self) -> Tensor:
        """(N, C) of (B, C, *size)."""
        return self.x.movedim(1, -1)[self.known]

    def become(self, other: "Seen") -> "Seen":
        """A change in place: every name of these features sees it; the gradient does not where none is recorded."""
        changed = other.x
        if not torch.is_grad_enabled() and self.x.requires_grad:
            with torch.enable_grad():
                changed = self.x + (changed - self.x).detach()
        self.x, self.v, self.f, self.axes, self.branches = changed, other.v, other.f, other.axes, None
        self.counts = None
        return self

    @property
    def spatial(self) -> Axes:
        return self.axes[1:]

    @classmethod
    def __torch_function__(cls, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What torch does instead of an operation that is called with such features."""
        name, kwargs = getattr(function, "__name__", str(function)), dict(kwargs or {})
        changes = kwargs.pop("inplace", False)
        args = (kwargs.pop("input"), *args) if "input" in kwargs else args
        if name.endswith("_") and not name.endswith("__"):
            name, changes = name.removesuffix("_"), True
            function = getattr(Tensor, name)
        if name not in RULES:
            raise NotImplementedError(f"the reference has no rule for {function}")
        result = RULES[name](function, *args, **kwargs)
        return args[0].become(result) if changes else result

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim", "dtype", "device"):
            return getattr(self.x, name)
        if name.startswith("__"):
            raise AttributeError(name)
        return _method(name).__get__(self)

    def __getitem__(self, place: Any) -> "Seen":
        return slice_of(self, place)


def _method(name: str) -> Callable[..., Any]:
    def call(self: Seen, *args: Any, **kwargs: Any) -> Any:
        return Seen.__torch_function__(getattr(Tensor, name), (), (self, *args), kwargs)

    return call


for _name in ("gt", "ge", "lt", "eq", "and", "or", "invert", "neg"):
    setattr(Seen, f"__{_name}__", _method(f"__{_name}__"))
for _name in ("add", "sub", "mul", "truediv", "pow", "mod"):
    setattr(Seen, f"__{_name}__", _method(f"__{_name}__"))
    setattr(Seen, f"__r{_name}__", _method(f"__r{_name}__"))
    setattr(Seen, f"__i{_name}__", _method(f"{'div' if _name == 'truediv' else _name}_"))


def along(values: Tensor, count: int) -> Tensor:
    """(..., 1, ...) with `count` axes of size 1 behind."""
    return values.reshape(*values.shape, *[1] * count)


def of_axes(name: str, x: Tensor) -> Callable[..., Any]:
    """A function of torch for as many axes of positions as (B, C, *size) has, such as conv2d."""
    return getattr(F, f"{name}{x.ndim - 2}d")


# --- windows -------------------------------------------------------------------------------------------------------


def sum_of_neighbours(x: Tensor) -> Tensor:
    """Over 3 along each axis, of (B, C, *size)."""
    ones = torch.ones(1, 1, *[3] * (x.ndim - 2), dtype=x.dtype)
    return of_axes("conv", x)(x.flatten(0, 1)[:, None], ones, padding=1).reshape(x.shape)


def fill(seen: Seen) -> Tensor:
    """Padding until nothing is left to fill; what is outside of the image stays, and is no neighbour."""
    framed, outside = seen, seen.f[:, None]
    if outside.any():
        seen = Seen(torch.where(outside, 0.0, seen.x), seen.v, seen.run, f=seen.f)
        return torch.where(outside, framed.x, filled(seen))
    return filled(seen)


def filled(seen: Seen) -> Tensor:
    values, known = (seen.x.detach() if seen.run.detach_padding else seen.x), seen.v[:, None]
    if seen.run.padding == "zeros":
        return torch.where(known, seen.x, 0.0)
    if seen.run.padding == "mirror":
        mirrored = torch.stack([mirror(*each) for each in zip(values, seen.v, seen.f, strict=True)])
        return torch.where(known, seen.x, mirrored)
    while True:
        counts = sum_of_neighbours(known.to(values.dtype))
        ring = (counts > 0.5) & ~known & ~seen.f[:, None]
        if not ring.any():
            return torch.where(seen.v[:, None], seen.x, values)
        values = torch.where(ring, sum_of_neighbours(values) / counts.clamp(min=1), values)
        known = known | ring


def mirror(x: Tensor, v: Tensor, f: Tensor) -> Tensor:
    """What is hidden of one image (C, *size): its features mirrored at the nearest visible position."""
    places, hidden = v.nonzero(), (~v & ~f).nonzero()  # both in reading order
    if not len(places):
        return x
    squares = (hidden[:, None] - places).square().sum(dim=2)
    nearest = places[(squares * len(places) + torch.arange(len(places))).argmin(dim=1)]
    across = 2 * nearest - hidden
    inside = ((across >= 0) & (across < torch.tensor(v.shape))).all(dim=1, keepdim=True)
    across = torch.where(inside, across, nearest)
    sources = torch.where(v[tuple(across.T)][:, None], across, nearest)
    filled = x.clone()
    filled[(slice(None), *hidden.T)] = x[(slice(None), *sources.T)]
    return filled


def each_axis(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value) * (axes if len(value) == 1 else 1)


def convolution(
    function: Any, seen: Seen, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Seen:  # fmt: skip
    axes = weight.ndim - 2
    if padding == "same":
        spans = [(size - 1) * step for size, step in zip(weight.shape[2:], each_axis(dilation, axes), strict=True)]
        border = [part for span in spans[::-1] for part in (span // 2, span - span // 2)]
    else:
        border = [side for size in each_axis(0 if padding == "valid" else padding, axes)[::-1] for side in (size, size)]
    y = function(F.pad(fill(seen), border), weight, bias, stride, 0, dilation, groups)
    window = torch.ones(1, 1, *weight.shape[2:], dtype=y.dtype)
    return seen.made(y, lambda numbers: function(F.pad(numbers, border), window, None, stride, 0, dilation))


def transposed_convolution(
    function: Any, seen: Seen, weight: Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Seen:  # fmt: skip
    y = function(fill(seen), weight, bias, stride, padding, output_padding, groups, dilation)
    window = torch.ones(1, 1, *weight.shape[2:], dtype=y.dtype)
    return seen.made(y, lambda numbers: function(numbers, window, None, stride, padding, output_padding, 1, dilation))


def pooled(seen: Seen, y: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Seen:
    pool = of_axes("max_pool", seen.x)
    return seen.made(y, lambda numbers: pool(numbers, kernel, stride or kernel, padding, dilation, ceil_mode))


def holds_map(seen: Seen, kernel: Any, padding: Any, dilation: Any) -> bool:
    """Whether a pool without padding reads the whole map at once, as a global pool does."""
    axes, size = len(seen.spatial), seen.v.shape[1:]
    is_bare = set(each_axis(padding, axes)) == {0} and set(each_axis(dilation, axes)) == {1}
    return is_bare and all(k >= length for k, length in zip(each_axis(kernel, axes), size, strict=True))


def lowest(seen: Seen) -> Tensor:
    """The features with the least number where they are hidden."""
    return torch.where(seen.spread(seen.known), seen.x, -math.inf)


def or_zero(largest: Tensor) -> Tensor:
    return torch.where(largest == -math.inf, 0.0, largest)


def note_ties(seen: Seen, pooled: Tensor, indices: Tensor, pool: Callable[[Tensor], Any], v: Tensor) -> None:
    """A pool whose choice changes when a little is added to its values."""
    for seed in range(2):
        noise = torch.rand(seen.x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        changed = pool(seen.x.detach() + 1e-9 * noise)[1] != indices
        if (changed & (pooled != 0) & v[:, None]).any():
            seen.run.kink = 0.0


def max_pool(
    _function: Any, seen: Seen, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, **_kwargs: Any,
) -> Seen:  # fmt: skip
    def pool(x: Tensor) -> Any:
        settings = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
        return of_axes("max_pool", x)(x, *settings, return_indices=True)

    y, indices = pool(lowest(seen) if holds_map(seen, kernel_size, padding, dilation) else seen.x)
    y = or_zero(y)
    result = pooled(seen, y, kernel_size, stride, padding, dilation, ceil_mode)
    if holds_map(seen, kernel_size, padding, dilation):
        note_largest(seen.run, lowest(seen).flatten(2))
    else:
        note_ties(seen, y, indices, pool, result.v)
    return result


def avg_pool(
    function: Any, seen: Seen, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    *rest: Any, **named: Any,
) -> Seen:  # fmt: skip
    y = function(seen.x, kernel_size, stride or kernel_size, padding, ceil_mode, *rest, **named)
    has_divisor = named.get("divisor_override", rest[1] if len(rest) > 1 else None) is not None
    if holds_map(seen, kernel_size, padding, 1) and not has_divisor:
        known = seen.known.flatten(1)
        y = y * along(known.shape[1] / known.sum(dim=1).clamp(min=1), y.ndim - 1)
    return pooled(seen, y, kernel_size, stride, padding, 1, ceil_mode)


def lp_pool(
    function: Any, seen: Seen, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Seen:
    y = function(seen.x, norm_type, kernel_size, stride, ceil_mode)
    result = pooled(seen, y, kernel_size, stride, 0, 1, ceil_mode)
    seen.run.note("pole", y[result.known[:, None].expand_as(y)])
    return result


def pixel_unshuffle(_function: Any, seen: Seen, factor: int) -> Seen:
    return pooled(seen, F.pixel_unshuffle(seen.x, factor), factor, factor, 0, 1, False)


def pixel_shuffle(_function: Any, seen: Seen, factor: int) -> Seen:
    v, f = (each.repeat_interleave(factor, 1).repeat_interleave(factor, 2) for each in (seen.v, seen.f))
    return Seen(F.pixel_shuffle(seen.x, factor), v, seen.run, f=f)


def interpolate(
    _function: Any, seen: Seen, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: Any = None, **kwargs: Any,
) -> Seen:  # fmt: skip
    settings = (size, scale_factor, mode, align_corners)
    kwargs.pop("antialias", None)
    of_mask = (size, scale_factor, "bilinear" if mode == "bicubic" else mode, align_corners)
    y = F.interpolate(fill(seen), *settings, **kwargs)
    return seen.made(y, lambda numbers: F.interpolate(numbers, *of_mask, **kwargs), 1e-6)


def pad(_function: Any, seen: Seen, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Seen:
    assert not value
    if len(pad) > 2 * len(seen.spatial):
        padded = F.pad(seen.x, pad, mode)
        assert all(padded.shape[axis] == seen.shape[axis] for axis in seen.axes)  # channels alone are padded
        return seen.like(padded)
    pad = (*pad, *(0,) * (2 * len(seen.spatial) - len(pad)))
    return seen.made(F.pad(seen.x, pad, mode), lambda numbers: F.pad(numbers, pad, mode))


# --- pools over everything -----------------------------------------------------------------------------------------


def bins(size: int, count: int) -> list[slice]:
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_pool(function: Any, seen: Seen, output_size: Any, *_: Any, **_kwargs: Any) -> Any:
    averages = "avg" in function.__name__
    size = seen.v.shape[1:]
    wanted = each_axis(output_size, len(size))
    counts = [asked or old for asked, old in zip(wanted, size, strict=True)]
    rows = []
    for place in product(*map(bins, size, counts)):
        x, known = seen.x[(..., *place)].flatten(2), seen.known[(slice(None), *place)].flatten(1)
        if averages:
            rows.append(x.sum(dim=2) / known.sum(dim=1).clamp(min=1)[:, None])
        else:
            x = torch.where(known[:, None], x, -math.inf) if set(wanted) == {1} else x
            rows.append(or_zero(x.max(dim=2).values))
            note_largest(seen.run, x)
    y = torch.stack(rows, dim=2).unflatten(2, counts)
    if set(wanted) == {1}:
        return y
    return seen.made(y, lambda numbers: of_axes("adaptive_max_pool", numbers)(numbers, counts))


def note_largest(run: Run, values: Tensor) -> None:
    """How far apart the two largest of (..., N) are, where they are not 0."""
    if values.shape[-1] > 1:
        first, second = values.detach().topk(2, dim=-1).values.unbind(-1)
        if ((first - second < 1e-9) & (first != 0)).any():
            run.kink = 0.0


def reduction(function: Any, seen: Seen, *args: Any, **kwargs: Any) -> Any:
    """Over positions: a mean or the largest of what is visible, anything else with 0 elsewhere; over channels alone."""
    name = function.__name__
    names = ("p", "dim", "keepdim") if name == "norm" else ("dim", "keepdim")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    dim, keepdim = given["dim"], given.get("keepdim", False)
    axes = {each % seen.x.ndim for each in ([dim] if isinstance(dim, int) else dim)}
    if name in ("sum", "mean") and axes == {0} and seen.branches is not None:
        added = reduce(lambda left, right: residual(torch.add, left, right), seen.branches)
        return added if name == "sum" else added.like(added.x / len(seen.branches))
    if not axes & set(seen.axes):
        result = seen.moved(lambda x: function(x, *args, **kwargs))
        if name == "norm":
            seen.run.note("pole", result.with_ones(seen.known))
        return result
    assert axes <= set(seen.spatial)
    counts = seen.spread(seen.known).double() if seen.counts is None else seen.counts
    over = sorted(axes)
    if name == "amax":
        note_largest(seen.run, lowest(seen).movedim(over, [*range(-len(over), 0)]).flatten(-len(over)))
        y = or_zero(lowest(seen).amax(over, keepdim))
    elif name == "mean":
        y = (seen.x * counts).sum(over, keepdim) / counts.sum(over, keepdim).clamp(min=1)
    else:
        y = function(seen.x, *args, **kwargs)
    if axes == set(seen.spatial):
        return y
    v, image = seen.v, ~seen.f
    for place in sorted((seen.axes.index(axis) for axis in over), reverse=True):
        v, image = v.any(place, keepdim), image.any(place, keepdim)
    kept = [axis for axis in seen.axes if keepdim or axis not in axes]
    moved = tuple(axis if keepdim else axis - sum(each < axis for each in over) for axis in kept)
    result = Seen(y, v, seen.run, axes=moved, f=~image)
    result.counts = counts.sum(over, keepdim) if name == "mean" else None
    return result


def ones_like(_function: Any, seen: Seen) -> Seen:
    """Of an image of which nothing is visible everywhere, for a divisor that is not 0."""
    nothing = along(~seen.known.flatten(1).any(dim=1), seen.v.ndim - 1)
    return Seen(torch.ones_like(seen.x), seen.known | nothing, seen.run, axes=seen.axes)


# --- normalisation -------------------------------------------------------------------------------------------------


def batch_norm_module(module: nn.Module, seen: Seen) -> Seen:
    """With the mean and variance of visible positions of the whole batch, where the module takes those of a batch."""
    if not module.training and module.running_mean is not None:
        return batch_norm(
            None, seen, module.running_mean, module.running_var, module.weight, module.bias, eps=module.eps
        )
    tracks = module.training and module.track_running_stats
    module.num_batches_tracked = module.num_batches_tracked + 1 if tracks else module.num_batches_tracked
    values = seen.visible_values()
    count = len(values)
    if count == 0:
        return seen.like(seen.x)
    mean, variance = values.mean(dim=0), values.var(dim=0, unbiased=False)
    if tracks and count > 1:
        momentum = 1 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
        with torch.no_grad():
            module.running_mean.mul_(1 - momentum).add_(momentum * mean)
            module.running_var.mul_(1 - momentum).add_(momentum * variance * count / (count - 1))
    mean, variance = (along(each, seen.v.ndim - 1) for each in (mean, variance))
    return normalised(seen, mean, variance, module.weight, module.bias, module.eps)


def normalised(seen: Seen, mean: Tensor, variance: Tensor, weight: Any, bias: Any, eps: float) -> Seen:
    """(x - mean) / sqrt(variance + eps), scaled and shifted for each channel of (B, C, *size)."""
    axes = seen.v.ndim - 1
    if bias is None and (variance.detach() < 1e-10).any():
        seen.run.kink = 0.0  # rounding alone decides the sign
    y = (seen.x - mean) / torch.sqrt(variance + eps)
    y = y if weight is None else y * along(weight, axes)
    return seen.like(y if bias is None else y + along(bias, axes))


def batch_norm(
    _function: Any, seen: Seen, mean: Tensor, variance: Tensor, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Seen:  # fmt: skip
    assert not training
    mean, variance = (along(each, seen.v.ndim - 1) for each in (mean, variance))
    return normalised(seen, mean, variance, weight, bias, eps)


def group_norm(
    _function: Any, seen: Seen, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Seen:
    groups = seen.x.unflatten(1, (num_groups, -1))
    over = tuple(range(2, groups.ndim))
    count = along(seen.known.flatten(1).sum(dim=1).clamp(min=1), groups.ndim - 1) * groups.shape[2]
    mean = groups.sum(dim=over, keepdim=True) / count
    deviation = torch.where(seen.known[:, None, None], groups - mean, 0.0)
    variance = deviation.square().sum(dim=over, keepdim=True) / count
    mean, variance = (each.expand_as(groups).flatten(1, 2) for each in (mean, variance))
    return normalised(seen, mean, variance, weight, bias, eps)


def instance_norm(
    _function: Any, seen: Seen, running_mean: Any = None, running_var: Any = None, weight: Any = None, bias: Any = None,
    use_input_stats: bool = True, momentum: float = 0.1, eps: float = 1e-5,
) -> Seen:  # fmt: skip
    assert use_input_stats and running_mean is None
    return group_norm(None, seen, seen.x.shape[1], weight, bias, eps)


# --- several features, position by position, other shapes ---------------------------------------------------------


def met(operands: Sequence[Any]) -> tuple[Seen, Tensor, Tensor]:
    """One of the masked operands, where all of them are known, and where all are outside of the image."""
    masked = [each for each in operands if isinstance(each, Seen)]
    return masked[0], *(reduce(torch.logical_and, [getattr(each, name) for each in masked]) for name in ("known", "f"))


COMPARISONS = ("gt", "ge", "lt", "eq", "__gt__", "__ge__", "__lt__", "__eq__")
KINKS = (
    "rrelu", "softshrink", "hardshrink",
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "hardswish", "hardsigmoid", "hardtanh", "_threshold",
    "softsign", "abs", "clamp",
)  # fmt: skip
POLES = {
    "div": 1, "__truediv__": 1, "__rtruediv__": 0, "__rdiv__": 0, "reciprocal": 0, "pow": 0, "__pow__": 0, "sqrt": 0,
    "rsqrt": 0, "log": 0, "log1p": 0,
}  # fmt: skip
"""Which operand of an operation must not be 0."""
JUMPS: dict[str, Callable[..., Tensor]] = {
    **dict.fromkeys(COMPARISONS, torch.sub),
    **dict.fromkeys(("long", "int"), lambda x: x - x.round()),
    "round": lambda x: x - x.floor() - 0.5,
    "hardshrink": lambda x, most: x.abs() - most,
}
"""How far the operands are from where the result jumps."""


def pointwise(function: Any, *operands: Any, **kwargs: Any) -> Seen:
    """Each position alone, where every masked operand is visible."""
    name, (first, known, f) = function.__name__, met(operands)
    shown = first.spread(known)
    plain = [each.with_ones(known) if isinstance(each, Seen) else each for each in operands]
    if name in JUMPS:
        first.run.note("jump", torch.where(shown, JUMPS[name](*plain), 1.0))
    if name in KINKS:
        shrunk = (-operands[1], operands[1]) if "shrink" in name else ()
        for point in (-3, -1, 0, 1, 3, 6, *shrunk):
            first.run.note("kink", plain[0] - point)
    if name in ("maximum", "minimum"):
        first.run.note("kink", torch.where(shown, plain[0] - plain[1], 1.0))
    if name in POLES and isinstance(plain[POLES[name]], Tensor):
        pole = plain[POLES[name]]
        is_plain = not isinstance(operands[POLES[name]], Seen)
        if is_plain and pole.ndim == first.x.ndim:  # of an image of which nothing is visible: anything
            shown_images = along((known & ~f).flatten(1).any(dim=1), f.ndim - 1)
            pole = torch.where(first.spread(shown_images), pole, 1.0)
        first.run.note("pole", pole)
        plain[POLES[name]] = pole
    return Seen(function(*plain, **kwargs), known & ~f, first.run, axes=first.axes, f=f)


def extreme(function: Any, seen: Seen, *args: Any, **kwargs: Any) -> Any:
    """The larger or smaller of two, or the largest or least channel."""
    if args and not isinstance(args[0], int):
        return pointwise(getattr(torch, f"{function.__name__}imum"), seen, *args)
    dim = kwargs.get("dim", *args[:1])
    first, second = seen.x.topk(2, dim, largest=function.__name__ == "max").values.unbind(dim)
    seen.run.note("kink", first - second)
    values, indices = (
        seen.moved(lambda x, part=part: getattr(function(x, *args, **kwargs), part)) for part in ("values", "indices")
    )
    return torch.return_types.max((values, indices))


def residual(function: Any, left: Any, right: Any, **kwargs: Any) -> Seen:
    """A sum or difference: by the merge rule; a hidden branch counts as 0."""
    first, known, f = met((left, right))
    v = known & ~f
    if isinstance(left, Seen) and isinstance(right, Seen) and first.run.merge == "union":
        v = left.v | right.v
    plain = [each.x if isinstance(each, Seen) else each for each in (left, right)]
    return Seen(function(*plain, **kwargs), v, first.run, axes=first.axes, f=f)


def join(function: Any, branches: Sequence[Seen], dim: int = 0, **kwargs: Any) -> Seen:
    """Concatenation and stacking: visible where any branch is."""
    first, _, f = met(branches)
    axis = kwargs.get("axis", dim)
    if function is not torch.stack and axis % first.ndim in first.spatial:  # side by side
        places = [each if isinstance(each, Seen) else surroundings(each, first) for each in branches]
        v, f = (torch.cat([getattr(each, name) for each in places], axis % first.ndim - 1) for name in ("v", "f"))
        return Seen(torch.cat([each.x for each in places], axis), v, first.run, axes=first.axes, f=f)
    v = reduce(torch.logical_or, [each.v for each in branches])
    joined = branches[0].moved(lambda x: function([x] * len(branches), axis))
    joined = Seen(function([each.x for each in branches], axis), v, joined.run, axes=joined.axes, f=f)
    joined.branches = branches if function is torch.stack and axis == 0 else None
    return joined


def surroundings(x: Tensor, like: Seen) -> Seen:
    """A plain tensor (B, C, *size) that lies beside features (B, C, *size): no place of an image."""
    f = torch.ones_like(x[:, 0], dtype=torch.bool)
    return Seen(x, ~f, like.run, f=f)


def reshaped(function: Any, seen: Seen, *args: Any, **kwargs: Any) -> Any:
    y = function(seen.x.contiguous(), *args, **kwargs)
    return y if y.ndim == 2 else seen.moved(lambda x: function(x.contiguous(), *args, **kwargs))


def permute(_function: Any, seen: Seen, *axes: Any, dims: Any = ()) -> Seen:
    axes = dims or axes
    order = axes[0] if isinstance(axes[0], tuple | list) else axes
    return seen.moved(lambda x: x.permute(*order))


def of_channels(function: Any, seen: Seen, *args: Any, **kwargs: Any) -> Any:
    """Whatever leaves positions where they are."""
    y = function(seen.x, *args, **kwargs)
    if not isinstance(y, tuple | list):
        return seen.moved(lambda x: function(x, *args, **kwargs))
    start, parts, (_, *spatial) = 0, [], seen.axes
    dim = kwargs.get("dim", args[1] if len(args) > 1 else 0) % seen.x.ndim
    for index, part in enumerate(y):
        moved = seen.moved(lambda x, index=index: function(x, *args, **kwargs)[index]) if dim not in spatial else seen
        v, f = seen.v, seen.f
        if dim in spatial:
            v, f = (each.narrow(1 + spatial.index(dim), start, part.shape[dim]) for each in (v, f))
            start += part.shape[dim]
        parts.append(Seen(part, v, seen.run, axes=moved.axes, f=f))
    return tuple(parts)


def slice_of(seen: Seen, place: Any) -> Seen:
    places = list(place) if isinstance(place, tuple) else [place]
    if Ellipsis in places:
        at = places.index(Ellipsis)
        places[at : at + 1] = [slice(None)] * (seen.x.ndim - len(places) + 1)
    kept = [each for each in places if each is not None]
    kept += [slice(None)] * (seen.x.ndim - len(kept))
    places_of_mask = (slice(None), *(kept[axis] for axis in seen.spatial))
    channels = [slice(None) if axis in seen.spatial else each for axis, each in enumerate(kept)]
    x = seen.x[tuple(each if axis in seen.spatial else slice(None) for axis, each in enumerate(kept))]
    rest = iter(channels)
    of_channels = tuple(None if each is None else next(rest) for each in places)
    v, f = seen.v[places_of_mask], seen.f[places_of_mask]
    return Seen(x, v, seen.run, axes=seen.axes, f=f).moved(lambda x: x[of_channels])


def same(_function: Any, seen: Seen, *_args: Any, **_kwargs: Any) -> Seen:
    return seen


def type_as(function: Any, seen: Seen, like: Seen) -> Seen:
    return seen.like(function(seen.x, like.x))


def question(function: Any, seen: Seen, *args: Any) -> Any:
    return function(seen.x, *args)


def normalize(function: Any, seen: Seen, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Seen:
    lengths = seen.x.norm(p, dim, keepdim=True).expand_as(seen.x)  # along an axis of positions, of the visible ones
    seen.run.note("pole", torch.where(seen.spread(seen.known), lengths, 1.0))
    return seen.like(function(seen.x, p, dim, eps, out))


def plain_expanded(function: Any, plain: Tensor, seen: Seen) -> Tensor:
    return function(plain, seen.x)


_POINTWISE = (
    *KINKS, *POLES, "gelu", "silu", "mish", "logsigmoid", "log_sigmoid", "softplus", "sigmoid", "tanh", "neg", "exp",
    "square", "mul", "maximum", "minimum", "local_response_norm", "softmax", "log_softmax", "linear", "layer_norm",
    "lerp", "addcmul", "glu", "sin", "where", "masked_fill", "round", "long", "int", *COMPARISONS,
    "__mul__", "__rmul__", "__rpow__", "__neg__", "__mod__", "__rmod__", "__and__", "__or__", "__invert__",
)  # fmt: skip
RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(_POINTWISE, pointwise),
    **dict.fromkeys(("add", "sub", "__add__", "__radd__", "__sub__", "__rsub__"), residual),
    **dict.fromkeys(("mean", "sum", "amax", "norm"), reduction),
    **dict.fromkeys(("max", "min"), extreme),
    **{
        f"{name}{axes}d": rule
        for axes in (1, 2, 3)
        for name, rule in {
            "conv": convolution, "conv_transpose": transposed_convolution, "max_pool": max_pool, "avg_pool": avg_pool,
            "lp_pool": lp_pool, "adaptive_avg_pool": adaptive_pool, "adaptive_max_pool": adaptive_pool,
        }.items()
    },
    **dict.fromkeys(("cat", "concat", "stack"), join),
    **dict.fromkeys(("view", "reshape", "flatten"), reshaped),
    **dict.fromkeys(("transpose", "swapaxes", "movedim", "moveaxis", "unsqueeze", "unbind"), of_channels),
    **dict.fromkeys(("chunk", "split", "tensor_split", "channel_shuffle"), of_channels),
    "new_zeros": question,
    **dict.fromkeys(("size", "dim", "numel", "stride"), question),
    **dict.fromkeys(("clone", "detach", "dropout", "repeat"), of_channels),
    "to": of_channels, "type_as": type_as, "contiguous": same, "pixel_unshuffle": pixel_unshuffle,
    "pixel_shuffle": pixel_shuffle, "interpolate": interpolate, "pad": pad, "batch_norm": batch_norm,
    "group_norm": group_norm, "instance_norm": instance_norm, "permute": permute, "expand_as": plain_expanded,
    "normalize": normalize, "ones_like": ones_like,
}  # fmt: skip


def masked_output(network: nn.Module, images: Tensor, visible: Tensor, run: Run) -> Any:
    """What the network returns for images of which only `visible` may be seen.

    Args:
        network: float64; its batch norms become those of the reference, for torch's would count a batch in which
            nothing is visible, and running statistics are updated as in training.
        images: (B, C, *size) float64; anything at hidden positions.
        visible: (B, 1, *size) bool.
        run: options, and where the pass notes how close to a jump it came.
    """
    for module in network.modules():
        if isinstance(module, BATCH_NORMS):
            module.forward = types.MethodType(batch_norm_module, module)
    return network(Seen(images, visible[:, 0], run))
