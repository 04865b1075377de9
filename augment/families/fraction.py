"""The hidden fraction of a mask."""

from collections.abc import Sequence

from torch import Tensor

from maskrobust.augment.random import uniform
from maskrobust.errors import InputError


def check_hidden_fraction(hidden_fraction: tuple[float, float]) -> None:
    """Refuse a range that is not 0 <= low <= high <= 1.

    Raises:
        InputError: naming the range given.
    """
    is_range = isinstance(hidden_fraction, Sequence) and len(hidden_fraction) == 2
    if not is_range or not 0.0 <= hidden_fraction[0] <= hidden_fraction[1] <= 1.0:
        raise InputError(
            f"hidden_fraction must be a range 0 <= low <= high <= 1, got {hidden_fraction}; give two numbers."
        )


def grown(hidden_fraction: tuple[float, float], growth: float) -> tuple[float, float]:
    """A range of hidden fractions whose upper end is still growing: (low, low + (high - low) growth).

    Args:
        hidden_fraction: (low, high) when it has grown.
        growth: from 0; from 1 on the whole range.
    """
    low, high = hidden_fraction
    return (low, high) if growth >= 1 else (low, low + (high - low) * growth)


def draw_hidden_fraction(keys: Tensor, hidden_fraction: tuple[float, float]) -> Tensor:
    """Draw each sample's hidden fraction, uniform over the range.

    Args:
        keys: (B,) int64 keys.
        hidden_fraction: (low, high) within [0, 1]; equal bounds fix the fraction.

    Returns:
        (B,) float32 in [low, high].

    Raises:
        InputError: the range is not 0 <= low <= high <= 1.
    """
    check_hidden_fraction(hidden_fraction)
    low, high = hidden_fraction
    return low + (high - low) * uniform(keys)
