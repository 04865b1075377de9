"""Checks of numbers: which ends belong to an interval, and what is told of a number outside of it."""

import math

import pytest

from maskrobust.errors import InputError, check_within


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1]", [0, 0.5, 1], [-0.1, 1.1, math.nan, math.inf]),
        ("(0, 1)", [0.1, 0.9], [0, 1, math.nan]),
        ("[0, 1)", [0, 0.9], [1, -1]),
        ("(0, inf)", [1e-9, 1e9], [0, math.inf, -1]),
    ],
)
def test_a_number_outside_of_its_interval_is_named_with_the_interval(interval, inside, outside):
    check_within(interval, "share", *inside)
    for each in outside:
        with pytest.raises(InputError) as refused:
            check_within(interval, "share", *inside, each)
        assert str(refused.value) == f"share must lie in {interval}, got {each}; give such a number."
