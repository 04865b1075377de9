"""Activation checkpointing: less memory in training for one more forward pass."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from maskrobust.lm_modules.masking.masked import Masked
from maskrobust.lm_modules.masking.program import Program


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
