"""Convolutions whose new visible positions are dropped again, and which therefore need half of the padding only.

A k x k convolution makes positions visible that are up to (k - 1) / 2 away from visible ones, and k - 1 rings of
padding make all of these exact. Where everything that reads them works position by position up to a sum that intersects
the branches, as at the end of a residual block, only positions that were visible before are kept: (k - 1) / 2 rings
suffice, and what is kept is the same to the last bit.
"""

from collections import defaultdict
from collections.abc import Mapping

from torch import nn

from maskrobust.lm_modules.masking.masked import MaskingOptions, Window
from maskrobust.lm_modules.masking.program import Program, Step


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
        window = _window(step, network)
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
    return _window(step, network) == Window((1, 1)) or (step.rule.is_local and not normalises_batch)


def _window(step: Step, network: nn.Module) -> Window | None:
    operation = step.operation(network)
    if step.rule is None or step.rule.rows is None or not isinstance(operation, nn.Conv2d):
        return None
    return step.rule.rows.window(operation)


def _lies_within(one: str, other: str, grown: Mapping[str, str]) -> bool:
    """Whether a map is another, or the other was grown from it."""
    while other != one and other in grown:
        other = grown[other]
    return other == one
