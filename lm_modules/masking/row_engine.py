"""Masked inference whose cost follows the visible area: features as rows, one for each position that is needed.

A hidden position need not be computed. From some layer on, features are kept as a matrix with one row for each visible
position: a 1x1 convolution is a matrix product over rows, a larger one gathers the rows under its window first, and
hidden positions beside visible ones get rows of their own, filled by neighbour padding. Under the intersection rule a
residual sum drops what the convolutions of its branch have made visible, so these positions are left out ahead of the
convolution that would compute them, and one ring of padding suffices for a 3x3 kernel.

Rows pay where little is visible: gathering costs memory traffic that a dense convolution does not have. The engine is
chosen for each batch by the share of the dense multiplications that rows would do.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, MaskingOptions, VisibleMap, Window
from maskrobust.lm_modules.masking.program import Program, Step
from maskrobust.lm_modules.masking.rows import gather_rows
from maskrobust.lm_modules.masking.rules.convolution import convolution, convolution_window, pad, padding_module
from maskrobust.lm_modules.masking.rules.merging import residual
from maskrobust.lm_modules.masking.rules.normalisation import batch_norm
from maskrobust.lm_modules.masking.rules.pointwise import ACTIVATIONS, DROPOUT, elementwise
from maskrobust.lm_modules.masking.rules.pooling import adaptive_pool

LARGEST_SHARE = 0.5
"""Rows are taken where they do at most this share of the dense multiplications; measured with `scripts/bench`."""

POINTWISE = (*ACTIVATIONS, *DROPOUT, nn.Identity)
"""Operations that compute a row from that row alone, whatever its length."""


class Rows(NamedTuple):
    """Features at some positions.

    Attributes:
        values: (N, C), one row for each position of `held`, in its order.
        visible: all visible positions.
        held: the positions that have a row: `visible`, or fewer where no later step needs the rest.
    """

    values: Tensor
    visible: VisibleMap
    held: VisibleMap


@dataclass(frozen=True)
class RowSuffix:
    """The end of a program that can run on rows.

    Attributes:
        start: index of its first step.
        entry: name of the one earlier result that it reads.
        end: index after its last step on masked features; global pooling.
    """

    start: int
    entry: str
    end: int


def find_row_suffix(program: Program, network: nn.Module, options: MaskingOptions) -> RowSuffix | None:
    """The longest run of steps up to global pooling that rows can compute; None where there is none.

    It reads one earlier result only, and merges by intersection.
    """
    if options.merge != "intersection":
        return None
    last = max((index for index, step in enumerate(program.steps) if step.rule is not None), default=None)
    if last is None or not _is_global_average(program.steps[last], network):
        return None
    readable = {step.name for step in program.steps if step.rule not in (None, pad, padding_module)}
    readable.add(program.input_name)
    start, end = last, last + 1
    while start > 0 and _can_take_rows(program.steps[start - 1], network, readable):
        start -= 1
    steps = program.steps[start:end]
    made = {step.name for step in steps}
    read = {name for step in steps for name in step.reads} - made
    has_convolutions = sum(step.rule is convolution for step in steps) > 1
    later = {name for step in program.steps[end:] for name in step.reads} & made - {steps[-1].name}
    if len(read) != 1 or not has_convolutions or later:
        return None
    return RowSuffix(start, read.pop(), end)


class RowPlan(NamedTuple):
    """Which positions the steps of a suffix see, and which of them are computed; a function of the mask alone.

    Attributes:
        visible: the map of each result by name, the entry's too.
        held: the positions of each result that some later step needs.
        share: multiplications that rows do in convolutions, over those of dense features.
    """

    visible: Mapping[str, VisibleMap]
    held: Mapping[str, VisibleMap]
    share: float


def plan_suffix(program: Program, network: nn.Module, suffix: RowSuffix, entry: VisibleMap) -> RowPlan:
    """Propagate the mask through a suffix, then ask backwards from the pool what has to be computed."""
    steps = program.steps[suffix.start : suffix.end]
    visible = {suffix.entry: entry}
    for step in steps:
        first, *others = (visible[name] for name in step.reads)
        if step.rule is convolution:
            visible[step.name] = first.window(convolution_window(step.operation(network)))
        else:
            visible[step.name] = first.merge(others[0]) if others else first
    held = {steps[-1].name: visible[steps[-1].name]}
    for step in reversed(steps):
        keeps_positions = step.rule is not convolution or _is_matrix_product(step.operation(network))
        for name in step.reads:
            wanted = held[step.name] if keeps_positions else visible[name]
            held[name] = wanted if held.get(name, wanted) is wanted else visible[name]
    return RowPlan(visible, held, _share(steps, network, held))


def run_suffix(program: Program, network: nn.Module, suffix: RowSuffix, plan: RowPlan, entry: Masked) -> Tensor:
    """The pooled features (B, C, 1, 1), computed on rows.

    Args:
        program: of the network in eval mode.
        network: whose program it is.
        suffix: from `find_row_suffix`.
        plan: from `plan_suffix` for the entry's map.
        entry: (B, C, H, W) features at the suffix's entry.
    """
    held = plan.held[suffix.entry]
    values = {suffix.entry: Rows(gather_rows(entry.features, held.row_indices), entry.visible, held)}
    windows: dict[Any, WindowRows] = {}
    for step in program.steps[suffix.start : suffix.end - 1]:
        operands = [_restricted(values[name], plan.held[step.name], step) for name in step.reads]
        operation = step.operation(network)
        if step.rule is convolution:
            result = _convolve(operation, operands[0], plan.held[step.name], windows)
        elif step.rule is batch_norm:
            result = _normalise(operation, operands[0].values)
        else:
            result = operation(*(operand.values for operand in operands))
        values[step.name] = Rows(result, plan.visible[step.name], plan.held[step.name])
        for name in step.last_uses:
            values.pop(name, None)
    (pooled,) = program.steps[suffix.end - 1].reads
    return _pool(values[pooled])


class WindowRows(NamedTuple):
    """Where a convolution finds its inputs among rows.

    Attributes:
        rings: for each ring of padding, the rows (M, 9) of its neighbours among those before it, and their weights.
        inputs: (N x kernel positions,) rows under the window of each output; the last row holds zeros.
    """

    rings: Sequence[tuple[Tensor, Tensor]]
    inputs: Tensor


def find_window_rows(held: VisibleMap, outputs: VisibleMap, window: Window) -> WindowRows:
    """Rows under the window of each output.

    Args:
        held: positions of the input, in the order of their rows; all its visible ones.
        outputs: positions of the output that are computed.
        window: of the convolution.
    """
    batch, _, height, width = held.positions.shape
    row_of = torch.full((batch * height * width,), -1, device=held.positions.device)
    count = len(held.row_indices)
    row_of[held.row_indices] = torch.arange(count, device=row_of.device)
    rings = []
    for ring in held.ring_rows(_rings(held, outputs, window)):
        rings.append((row_of[ring.neighbours], ring.weights))
        row_of[ring.rows] = torch.arange(count, count + len(ring.rows), device=row_of.device)
        count += len(ring.rows)
    row_of[row_of < 0] = count
    framed = F.pad(row_of.reshape(batch, height, width), window.padding, value=count)
    rows, columns = outputs.positions.shape[2:]
    place = outputs.row_indices
    image, row, column = place // (rows * columns), place // columns % rows, place % columns
    corner = (image * framed.shape[1] + row * window.stride[0]) * framed.shape[2] + column * window.stride[1]
    down, across = (torch.arange(size, device=place.device) for size in window.kernel_size)
    offsets = down[:, None] * window.dilation[0] * framed.shape[2] + across * window.dilation[1]
    return WindowRows(rings, framed.flatten()[corner[:, None] + offsets.flatten()].flatten())


def _rings(held: VisibleMap, outputs: VisibleMap, window: Window) -> int:
    """Half as many where the centre of every window is visible."""
    centred = all(
        2 * before == (size - 1) * step == 2 * after
        for before, after, size, step in zip(
            window.padding[2::-2], window.padding[3::-2], window.kernel_size, window.dilation, strict=True
        )
    )
    at_centre = held.window(Window((1, 1), window.stride))
    return window.rings // 2 if centred and outputs is at_centre else window.rings


def _convolve(operation: nn.Conv2d, x: Rows, outputs: VisibleMap, windows: dict[Any, WindowRows]) -> Tensor:
    if _is_matrix_product(operation):
        return F.linear(x.values, operation.weight[:, :, 0, 0], operation.bias)
    window = convolution_window(operation)
    key = (id(x.held), id(outputs), window)
    if key not in windows:
        windows[key] = find_window_rows(x.held, outputs, window)
    found = windows[key]
    values = x.values
    source = values.detach() if x.held.options.detach_padding else values
    for neighbours, weights in found.rings:
        ring = F.embedding_bag(neighbours, source, per_sample_weights=weights.to(source.dtype), mode="sum")
        values, source = torch.cat([values, ring]), torch.cat([source, ring])
    values = torch.cat([values, values.new_zeros(1, values.shape[1])])
    weight = operation.weight.permute(0, 2, 3, 1).reshape(operation.out_channels, -1)
    gathered = values.index_select(0, found.inputs).reshape(len(outputs.row_indices), weight.shape[1])
    return F.linear(gathered, weight, operation.bias)


def _normalise(operation: nn.BatchNorm2d, values: Tensor) -> Tensor:
    return F.batch_norm(
        values,
        operation.running_mean,
        operation.running_var,
        operation.weight,
        operation.bias,
        False,
        0.0,
        operation.eps,
    )


def _restricted(x: Rows, positions: VisibleMap, step: Step) -> Rows:
    """The rows at fewer positions, where a sum or the like keeps fewer than this operand has."""
    if step.rule is convolution or x.held is positions:
        return x
    wanted = positions.positions.flatten()[x.held.row_indices]
    return Rows(x.values[wanted], x.visible, positions)


def _pool(x: Rows) -> Tensor:
    """Mean over each image's rows, 0 where it has none."""
    counts = x.held.positions.sum(dim=(1, 2, 3))
    precision = torch.promote_types(x.values.dtype, torch.float32)
    sums = torch.segment_reduce(x.values.to(precision), "sum", lengths=counts, axis=0, unsafe=True, initial=0.0)
    return (sums / counts.clamp(min=1)[:, None]).to(x.values.dtype)[:, :, None, None]


def _is_global_average(step: Step, network: nn.Module) -> bool:
    return step.rule is adaptive_pool and isinstance(step.operation(network), nn.AdaptiveAvgPool2d)


def _can_take_rows(step: Step, network: nn.Module, readable: Set[str]) -> bool:
    """Whether rows compute a step from masked features alone; zeros of a frame would be taken for hidden positions."""
    if step.rule is None or step.kwargs or len(step.reads) != len(step.args) or not set(step.reads) <= readable:
        return False
    operation = step.operation(network)
    if step.rule is convolution:
        return type(operation) is nn.Conv2d and operation.groups == 1 and operation.padding_mode == "zeros"
    if step.rule is batch_norm:
        return type(operation) is nn.BatchNorm2d and operation.running_mean is not None
    if step.rule is elementwise:
        return type(operation) in POINTWISE or operation in POINTWISE
    return step.rule is residual


def _is_matrix_product(operation: Any) -> bool:
    return convolution_window(operation) == Window((1, 1))


def _share(steps: Sequence[Step], network: nn.Module, held: Mapping[str, VisibleMap]) -> float:
    done, dense = 0, 0
    for step in steps:
        if step.rule is convolution:
            weights = step.operation(network).weight.numel()
            done += weights * len(held[step.name].row_indices)
            dense += weights * held[step.name].positions.numel()
    return done / max(1, dense)
