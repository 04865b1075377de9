"""Inputs and comparisons that the tests of layer masking share."""

import copy
import math
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.reference import Run, Seen, masked_output

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 3e-2}
MEMORY_FORMATS = [torch.contiguous_format, torch.channels_last]
OPTIONS: tuple[dict[str, Any], ...] = ({}, {"merge": "union", "padding": "mirror", "detach_padding": False})
"""The defaults of layer masking, and the other value of each."""


class Function(nn.Module):
    """Any function as a module, with the modules that it calls."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.parts)


def draw_visible(*size: int) -> Tensor:
    """(6, 1, *size): sparse, half, dense, nothing, everything, one corner pixel."""
    generator = torch.Generator().manual_seed(reduce(lambda seed, length: seed * 100 + length, size))
    noise = torch.rand(6, 1, *size, generator=generator)
    visible = noise < torch.tensor([0.1, 0.5, 0.9, 0.0, 2.0, 0.0]).reshape(-1, *[1] * (len(size) + 1))
    visible[(5, 0, -1, *[0] * (len(size) - 1))] = True
    return visible


def draw_features(batch: int, channels: int, *size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Uniform in [-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, channels, *size, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def assert_close(given: Tensor, expected: Tensor, tolerance: float, what: str = "it") -> None:
    """Largest difference at most `tolerance` x max(1, largest expected magnitude)."""
    given, expected = given.detach().double(), expected.detach().double()
    assert given.shape == expected.shape, f"{what} has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    scale = max(1.0, float(expected.abs().max()))
    difference = float((given - expected).abs().max())
    assert difference <= tolerance * scale, f"{what} differs by {difference:.1e} of {scale:.1e}"


def tensors_of(output: Any) -> list[Tensor]:
    """All that a network returns, whatever the structure."""

    def parts(output: Any) -> Iterator[Tensor]:
        if isinstance(output, Tensor | Seen):
            yield output if isinstance(output, Tensor) else output.x
        elif output is not None:
            for part in output.values() if isinstance(output, dict) else output:
                yield from parts(part)

    return list(parts(output))


def assert_as_reference(
    network: nn.Module, images: Tensor, visible: Tensor, *, training: bool = False, **options: Any
) -> None:
    """Outputs, gradients at images and parameters, and buffers are those of the reference, in float64.

    Args:
        network: whose every operation the reference knows; left as it is.
        images: (B, C, H, W); hidden pixels are NaN for layer masking.
        visible: (B, 1, H, W) bool.
        training: mode of the network.
        options: of `LayerMasking`.
    """
    own, other = (copy.deepcopy(network).double().train(training) for _ in range(2))
    images = images.double()
    plain = images.clone().requires_grad_()
    run = Run(**{name: value for name, value in options.items() if name in ("merge", "detach_padding", "padding")})
    expected = masked_output(own, plain, visible, run)
    given = torch.where(visible, images, math.nan).requires_grad_()
    masked = LayerMasking(other, **options)
    output = masked(given, visible)
    for one, wanted in zip(tensors_of(output), tensors_of(expected), strict=True):
        assert_close(one, wanted, 1e-8, "the output")
    if isinstance(expected, Seen):
        coverage = masked.coverage(visible, channels=images.shape[1])[:, 0]
        assert torch.equal(coverage > 0, expected.known), "other positions are visible"
        assert (coverage[expected.f] == 1).all(), "what surrounds the image is not covered"
    for each in (output, expected):
        sum(part.square().sum() for part in tensors_of(each)).backward()
    assert_close(given.grad, plain.grad, 1e-6, "the gradient at the images")
    assert (given.grad[~visible.expand_as(given)] == 0).all(), "hidden pixels have a gradient"
    for (name, one), two in zip(other.named_parameters(), own.parameters(), strict=True):
        if two.grad is not None:
            assert_close(one.grad, two.grad, 1e-6, f"the gradient at {name}")
    for name, buffer in own.named_buffers():
        assert_close(other.get_buffer(name), buffer, 1e-8, f"buffer {name}")
