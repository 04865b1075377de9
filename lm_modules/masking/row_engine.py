"""Masked inference whose cost follows the visible area: features as rows, one for each position that is needed.

A hidden position need not be computed. From some layer on, features are kept as a matrix with one row for each visible
position: a 1x1 convolution is a matrix product over rows, a larger one gathers the rows under its window first, and
hidden positions beside visible ones get rows of their own, filled by neighbour padding. Under the intersection rule a
residual sum drops what the convolutions of its branch have made visible, so these positions are left out ahead of the
convolution that would compute them, and one ring of padding suffices for a 3x3 kernel.

Rows pay where little is visible: gathering costs memory traffic that a dense convolution does not have. The engine is
chosen for each batch by the share of the dense multiplications that rows would do.

Dense features need half of the padding only ahead of such a convolution (`find_dropped`): a k x k convolution makes
positions visible that are up to (k - 1) / 2 away from visible ones, and k - 1 rings of padding make all of these exact.
Where everything that reads them works position by position up to a sum that intersects the branches, as at the end of a
residual block, only positions that were visible before are kept: (k - 1) / 2 rings suffice, and what is kept is the
same to the last bit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, MaskingOptions, VisibleMap, Window
from maskrobust.lm_modules.masking.morphology import to_rows
from maskrobust.lm_modules.masking.program import Folding, Program, Step
from maskrobust.lm_modules.masking.row_features import Rows, WindowCache
from maskrobust.lm_modules.masking.rules.convolution import pad, padding_module
from maskrobust.lm_modules.masking.rules.table import RowKernel

LARGEST_SHARE = 0.5
"""Rows are taken where they do at most this share of the dense multiplications; measured with `scripts/bench`."""


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
    if last is None or not _pools(program.steps[last], network):
        return None
    framed = (pad, padding_module)  # zeros of a frame would be taken for hidden positions
    readable = {step.name for step in program.steps if step.rule is not None and step.rule.apply not in framed}
    readable.add(program.input_name)
    start, end = last, last + 1
    while start > 0 and _can_take_rows(program.steps[start - 1], network, readable):
        start -= 1
    steps = program.steps[start:end]
    made = {step.name for step in steps}
    read = {name for step in steps for name in step.reads} - made
    has_convolutions = sum(isinstance(step.operation(network), nn.Conv2d) for step in steps) > 1
    later = {name for step in program.steps[end:] for name in step.reads} & made - {steps[-1].name}
    if len(read) != 1 or not has_convolutions or later:
        return None
    return RowSuffix(start, read.pop(), end)


class RowPlan(NamedTuple):
    """Which positions the steps of a suffix see, and which of them are computed; a function of the mask alone.

    Attributes:
        visible: the map of each result by name, the entry's too.
        held: the positions of each result that some later step needs.
        share: multiplications by weights that rows do, over those of dense features.
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
        visible[step.name] = first.merge(others[0]) if others else first.window(_window(step, network))
    held = {steps[-1].name: visible[steps[-1].name]}
    for step in reversed(steps):
        for name in step.reads:
            kept = held.setdefault(step.name, visible[step.name])  # nothing may read it, as of an auxiliary head
            wanted = kept if _window(step, network) == Window((1, 1)) else visible[name]
            held[name] = wanted if held.get(name, wanted) is wanted else visible[name]
    return RowPlan(visible, held, _share(steps, network, held))


def run_suffix(
    program: Program,
    network: nn.Module,
    suffix: RowSuffix,
    plan: RowPlan,
    entry: Masked,
    folded: Mapping[str, Folding] | None = None,
) -> Tensor:
    """The pooled features (B, C, 1, 1), computed on rows.

    Args:
        program: of the network in eval mode.
        network: whose program it is.
        suffix: from `find_row_suffix`.
        plan: from `plan_suffix` for the entry's map.
        entry: (B, C, H, W) features at the suffix's entry.
        folded: batch norms to be folded into convolutions; see `program.find_folded`.
    """
    done = set()
    held, windows = plan.held[suffix.entry], WindowCache()
    values = {
        suffix.entry: Rows(to_rows(entry.features).index_select(0, held.row_indices), entry.visible, held, windows)
    }
    for step in program.steps[suffix.start : suffix.end]:
        outputs, single = plan.held[step.name], _window(step, network) == Window((1, 1))
        operands = [values[name].at(outputs) if single else values[name] for name in step.reads]
        operation, folding = step.operation(network), folded.get(step.name) if folded else None
        if folding is not None:
            convolution = folding.fold(operation, folding.step.operation(network), operands[0].values.dtype)
            if convolution is not None:
                operation = convolution
                done.add(folding.step.name)
        result = operands[0].values if step.name in done else _kernel(step).apply(operation, outputs, *operands)
        values[step.name] = Rows(result, plan.visible[step.name], outputs, windows)
        for name in step.last_uses:
            values.pop(name, None)
    return result


def _kernel(step: Step) -> RowKernel:
    assert step.rule is not None
    assert step.rule.rows is not None
    return step.rule.rows


def _window(step: Step, network: nn.Module) -> Window:
    return _kernel(step).window(step.operation(network))


def _pools(step: Step, network: nn.Module) -> bool:
    """Whether rows compute a step that ends masking."""
    return _has_kernel(step, network) and isinstance(step.operation(network), nn.AdaptiveAvgPool2d)


def _can_take_rows(step: Step, network: nn.Module, readable: Set[str]) -> bool:
    """Whether rows compute a step from masked features alone."""
    takes_features_alone = step.takes_results_alone and set(step.reads) <= readable
    if step.modes is not None or not takes_features_alone or len(step.reads) != len(step.args):
        return False
    return _has_kernel(step, network) and not _pools(step, network)


def _has_kernel(step: Step, network: nn.Module) -> bool:
    return step.rule is not None and step.rule.rows is not None and step.rule.rows.accepts(step.operation(network))


def _share(steps: Sequence[Step], network: nn.Module, held: Mapping[str, VisibleMap]) -> float:
    done, dense = 0, 0
    for step in steps:
        weights = getattr(step.operation(network), "weight", None)
        if isinstance(weights, Tensor):
            done += weights.numel() * len(held[step.name].row_indices)
            dense += weights.numel() * held[step.name].positions.numel()
    return done / max(1, dense)


def find_dropped(program: Program, network: nn.Module, options: MaskingOptions) -> frozenset[str]:
    """Names of the convolutions that need half of the padding; none where sums unite their branches.

    Args:
        program: of the network in eval mode.
        network: whose program it is.
        options: how the network is masked.
    """
    if options.merge != "intersection":
        return frozenset()
    maps = {program.input_name: program.input_name}  # of each result, by the name of the first result that has it
    grown: dict[str, str] = {}  # maps that convolutions of stride 1 make, and those that they are made from
    readers: dict[str, list[Step]] = defaultdict(list)
    for step in program.steps:
        operands = [maps[name] for name in step.reads if name in maps]
        for name in step.reads:
            readers[name].append(step)
        if step.rule is None or not operands:
            continue
        maps[step.name] = step.name
        window = _convolution_window(step, network)
        if _is_local(step, network):
            within = (one for one in operands if all(_lies_within(one, other, grown) for other in operands))
            maps[step.name] = next(within, step.name)
        elif window is not None and window.is_centred and window.stride == (1, 1):
            grown[step.name] = operands[0]

    def is_dropped(name: str, kept: str) -> bool:
        """Whether all that is made of a result keeps at most the positions of the map `kept`."""
        return name not in program.returned and all(
            _is_local(step, network) and (_lies_within(maps[step.name], kept, grown) or is_dropped(step.name, kept))
            for step in readers[name]
        )

    return frozenset(name for name, kept in grown.items() if is_dropped(name, kept))


def _is_local(step: Step, network: nn.Module) -> bool:
    """Whether each position of a result follows from that position of the operands alone."""
    if step.rule is None:
        return False
    normalises_batch = getattr(step.operation(network), "running_mean", True) is None
    return _convolution_window(step, network) == Window((1, 1)) or (step.rule.is_local and not normalises_batch)


def _convolution_window(step: Step, network: nn.Module) -> Window | None:
    """The window of a convolution that rows could compute; None for everything else."""
    is_known = step.rule is not None and step.rule.rows is not None
    return _window(step, network) if is_known and isinstance(step.operation(network), nn.Conv2d) else None


def _lies_within(one: str, other: str, grown: Mapping[str, str]) -> bool:
    """Whether a map is another, or the other was grown from it."""
    while other != one and other in grown:
        other = grown[other]
    return other == one
