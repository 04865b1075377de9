"""Running a program as the plain network would be run: with the hooks of modules, and in segments for less memory.

Hooks see, and change, what they would in the plain network.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.checkpoint import checkpoint

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.functional import hide
from maskrobust.lm_modules.masking.masked import Masked, ZeroPadded
from maskrobust.lm_modules.masking.program import Program, Step, Value, fill_in
from maskrobust.lm_modules.masking.rules.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.state import HOOKS, is_hooked, twin, without_hooks
from maskrobust.lm_modules.masking.tracing import Call

Observe = Callable[[Step, Any], None]
Watch = Callable[[str, Any], None]


def run_with_hooks(
    program: Program, network: nn.Module, images: Masked, observe: Observe | None = None, watch: Watch | None = None
) -> Any:
    """Compute the network's output for masked images, calling every module that has hooks with these.

    Forward hooks, forward pre-hooks and backward hooks see tensors in the structure that the module takes and returns:
    features with 0 at hidden positions. What they return in their place is computed with; the maps stay.

    Args:
        program: read with `separates_calls`.
        network: whose program it is.
        images: masked images.
        observe: called with each step and its result.
        watch: called with the path and the result of each module that is called.

    Raises:
        UnsupportedNetworkError: a hook returns what a masked pass cannot compute with.
    """
    run = _Run(program, network, observe, watch)
    values: dict[str, Any] = {program.input_name: images}
    return run.call(program.call, values)


class _Run:
    def __init__(self, program: Program, network: nn.Module, observe: Observe | None, watch: Watch | None) -> None:
        self.program, self.network = program, network
        self.observe, self.watch = observe, watch

    def call(self, call: Call, values: dict[str, Any]) -> Any:
        """Make one call of a module, and return its result."""
        module = self.network.get_submodule(call.path)
        if is_hooked(module):
            self._call_hooked(module, call, values)
        else:
            self._run_within(call, values)
        result = fill_in(call.result, values)
        if self.watch is not None:
            self.watch(call.path, result)
        return result

    def _call_hooked(self, module: nn.Module, call: Call, values: dict[str, Any]) -> None:
        def forward(*args: Any, **kwargs: Any) -> Any:
            self._bind((call.args, call.kwargs), (args, kwargs), values, call.path)
            self._run_within(call, values)
            return as_tensors(fill_in(call.result, values))

        hooks = {name: _with_module(vars(module)[name], module) for name in HOOKS}
        args, kwargs = as_tensors(fill_in((call.args, call.kwargs), values))
        result = twin(without_hooks(module, forward=forward), **hooks)(*args, **kwargs)
        self._bind(call.result, result, values, call.path)

    def _run_within(self, call: Call, values: dict[str, Any]) -> None:
        at = call.start
        for each in call.calls:
            self._run_steps(at, each.start, values)
            self.call(each, values)
            at = each.end
        self._run_steps(at, call.end, values)

    def _run_steps(self, start: int, end: int, values: dict[str, Any]) -> None:
        for step in self.program.steps[start:end]:
            operation = step.operation(self.network)
            if isinstance(operation, nn.Module) and is_hooked(operation):
                operation = without_hooks(operation)
            values[step.name] = step.run(self.network, values, operation=operation)
            if self.observe is not None:
                self.observe(step, values[step.name])

    def _bind(self, structure: Any, given: Any, values: dict[str, Any], path: str) -> None:
        """Take what a hook may have changed for the values that it stands for."""
        if isinstance(structure, Value):
            try:
                values[structure.name] = _as_masked(given, values[structure.name])
            except NotImplementedError as error:
                raise UnsupportedNetworkError(
                    f"a hook of layer '{path}' of {type(self.network).__name__} returns what layer masking cannot "
                    f"compute with: {error}"
                ) from error
            return
        pairs = _pairs(structure, given)
        if pairs is None and not (given is structure or (not isinstance(given, Tensor) and given == structure)):
            raise UnsupportedNetworkError(
                f"a hook of layer '{path}' of {type(self.network).__name__} returns {type(given).__name__} in place of "
                f"{structure!r}, but under layer masking hooks may change tensors alone."
            )
        for part, value in pairs or ():
            self._bind(part, value, values, path)


def refuse_hooks_when_compiled(network: nn.Module) -> None:
    """Compiled, only those hooks are called that compute a convolution's or a linear layer's weight.

    Raises:
        InputError: a module has another hook; the message names it.
    """
    for path, module in network.named_modules():
        zero_padded = getattr(module, "padding_mode", "zeros") == "zeros"
        computes_weight = zero_padded and isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
        for name in HOOKS:
            for hook in vars(module)[name].values():
                if not (computes_weight and type(hook).__module__.startswith("torch.nn.utils.")):
                    raise InputError(
                        f"layer '{path}' of {type(network).__name__} has a hook, which torch.compile would leave out "
                        "under layer masking; remove it, or do not compile."
                    )


def _with_module(hooks: Mapping[int, Any], module: nn.Module) -> dict[int, Any]:
    """The same hooks, called with the module in place of its twin."""

    def call(hook: Callable[..., Any], _twin: nn.Module, *rest: Any) -> Any:
        return hook(module, *rest)

    return {key: partial(call, hook) for key, hook in hooks.items()}


def as_tensors(value: Any) -> Any:
    """Features as hooks and callers see them, 0 at hidden positions, however deep in tuples, lists and dictionaries.

    In memory of their own: later layers change hidden positions where they lie.
    """
    return tree_map_only(Masked, lambda each: hide(each.features, each.positions), value)


def _as_masked(given: Any, before: Any) -> Any:
    """What hooks have made of a value, with its map."""
    if isinstance(before, Masked):
        if not isinstance(given, Tensor):
            raise NotImplementedError(f"{type(given).__name__} in place of a tensor.")
        features = given.clone()
        if not isinstance(before, ZeroPadded) or before.inside is None:
            return before.with_features(features)
        left, right, top, bottom = before.padding
        height, width = features.shape[-2:]
        inside = features[..., top : height - bottom, left : width - right].clone()
        return replace(before, features=features, inside=before.inside.with_features(inside))
    pairs = _pairs(before, given)
    if pairs is None or not any(isinstance(part, Masked) for part, _ in pairs):
        return given
    return type(before)(_as_masked(value, part) for part, value in pairs)


def _pairs(first: Any, second: Any) -> list[tuple[Any, Any]] | None:
    """Items of two tuples, lists or dictionaries that have equally many; None for anything else."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [(first[key], second[key]) for key in first]
    both = isinstance(first, tuple | list) and isinstance(second, tuple | list)
    return [*zip(first, second, strict=True)] if both and len(first) == len(second) else None


def run_in_segments(program: Program, network: nn.Module, images: Masked, segments: int) -> Any:
    """Compute a program in parts whose intermediate results are computed again in the backward pass.

    Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv 1604.06174. Every part begins at a
    convolution; running statistics are updated by the first pass alone.

    Args:
        program: of the network in training mode.
        network: whose program it is.
        images: masked images.
        segments: number of parts, at least 1; fewer where the network has fewer convolutions.

    Returns:
        What the network returns.
    """
    values: dict[str, Any] = {program.input_name: images}
    starts = [0, *_starts(program, network, segments), len(program.steps)]
    for start, end in pairwise(starts):

        def segment(before: dict[str, Any], start: int = start, end: int = end) -> dict[str, Any]:
            after = dict(before)
            if start == 0:  # a layer may write into the images
                after[program.input_name] = images.with_features(images.features.clone())
            program.run_steps(network, after, start, end)
            return after

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), _kept_statistics(network)

        values = checkpoint(segment, values, use_reentrant=False, context_fn=contexts)
    return program.output_of(values)


def _starts(program: Program, network: nn.Module, segments: int) -> list[int]:
    """First steps of all parts but the first, about equally many convolutions apart.

    No part may write into what an earlier one has made: computed again, it would start from changed values.
    """
    made = {step.name: index for index, step in enumerate(program.steps)}
    written = [(made.get(step.writes, 0), index) for index, step in enumerate(program.steps) if step.writes is not None]
    possible = [
        index
        for index, step in enumerate(program.steps)
        if step.rule is not None
        and isinstance(step.operation(network), nn.Conv2d)
        and not any(before < index <= after for before, after in written)
    ]
    parts = min(segments, len(possible))
    return [possible[part * len(possible) // parts] for part in range(1, parts)]


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms normalise as in training; their running statistics, and other buffers, are restored afterwards."""
    buffers = [*network.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.data.copy_(value)  # not a change that autograd has to know of
