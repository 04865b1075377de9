"""Inputs and comparisons that the tests of layer masking share."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskrobust.lm_modules.masking import Masked, VisibleMap
from maskrobust.lm_modules.masking.masked import MaskingOptions
from maskrobust.lm_modules.masking.program import read_program
from tests.lm_modules.masking import reference

SIZES = [(1, 1), (1, 7), (5, 8), (9, 4)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 3e-2}
MEMORY_FORMATS = [torch.contiguous_format, torch.channels_last]
UNION = MaskingOptions(merge="union")
DIFFERENTIABLE = MaskingOptions(detach_padding=False)
GARBAGE = 7.0


class Function(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def draw_visible(height: int, width: int) -> Tensor:
    """(6, 1, H, W): sparse, half, dense, nothing, everything, one corner pixel."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    noise = torch.rand(6, 1, height, width, generator=generator)
    visible = noise < torch.tensor([0.1, 0.5, 0.9, 0.0, 2.0, 0.0])[:, None, None, None]
    visible[5, 0, -1, 0] = True
    return visible


def draw_features(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Tensor:
    """Uniform in [-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def masked(features: Tensor, visible: Tensor, options: MaskingOptions | None = None) -> Masked:
    """Masked features with garbage at hidden positions."""
    garbled = torch.where(visible, features.detach(), GARBAGE).requires_grad_(features.requires_grad)
    return Masked(garbled, VisibleMap(visible, options or MaskingOptions()))


def masked_forward(module: nn.Module, x: Masked, *, training: bool = False) -> Masked:
    """What layer masking makes of a module, read as a part of a network."""
    network = nn.Sequential(module, nn.Flatten()).train(training)
    program = read_program(network, training=training)
    values = {program.input_name: x}
    program.run_steps(network, values, 0, len(program.steps) - 1)
    return values[program.steps[-1].reads[0]]


def masked_output(network: nn.Module, x: Masked) -> Tensor:
    """The output of a whole network in eval mode, for masked features with garbage in them."""
    return read_program(network.eval(), training=False).run(network, x)


def exact(tensor: Tensor) -> NDArray[np.float64]:
    """The same numbers for the reference."""
    return tensor.detach().double().numpy()


def assert_close(given: Tensor, expected: NDArray[np.float64] | Tensor, tolerance: float) -> None:
    """Largest difference at most `tolerance` x max(1, largest expected magnitude)."""
    given, expected = given.detach().double(), torch.as_tensor(expected).detach().double()
    assert given.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    assert float((given - expected).abs().max()) <= tolerance * scale


def assert_agrees(result: Masked, expected: tuple[NDArray[np.float64], NDArray[np.bool_]]) -> None:
    """The reference's map of visible positions, and its features there."""
    features, seen = expected
    np.testing.assert_array_equal(result.visible.positions[:, 0].numpy(), seen)
    assert result.features.isfinite().all()
    assert_close(torch.where(result.positions, result.features, 0), reference.hide(features, seen), 1e-9)


def assert_differentiable(module: nn.Module, channels: int, size: tuple[int, int] = (5, 6)) -> None:
    """Gradients of what is visible are those of finite differences, which are 0 at hidden positions."""
    visible = draw_visible(*size)[[1, 5]]
    x = masked(draw_features(2, channels, *size).requires_grad_(), visible, DIFFERENTIABLE)

    def shown(features: Tensor) -> Tensor:
        result = masked_forward(module, Masked(features, x.visible))
        return torch.where(result.positions, result.features, 0)

    assert torch.autograd.gradcheck(shown, x.features, atol=1e-5, fast_mode=True)


def assert_fillings_carry_no_gradient(module: nn.Module, channels: int, size: tuple[int, int] = (7, 6)) -> None:
    """Gradients are those of the plain module on features whose hidden positions hold constants: the fillings."""
    visible = draw_visible(*size)
    x = masked(draw_features(6, channels, *size).requires_grad_(), visible)
    result = masked_forward(module, x)
    torch.where(result.positions, result.features, 0).square().sum().backward()
    filled, _ = reference.neighbour_padding(exact(x.features), visible[:, 0].numpy(), rings=sum(size))
    filled = torch.from_numpy(filled).requires_grad_()
    torch.where(result.positions, module(filled), 0).square().sum().backward()
    assert_close(x.features.grad, torch.where(visible, filled.grad, 0), 1e-9)
    assert (x.features.grad[~visible.expand_as(x.features)] == 0).all()
