"""What a plan refuses, before anything is asked."""

import pytest

from maskrobust.lm_modules.reliance.plan import ReliancePlan


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"hidden_fractions": (1.5,)}, "got 1.5"),
        ({"curve_fractions": (-0.1,)}, "got -0.1"),
        ({"transfer_fraction": 2.0}, "got 2.0"),
        ({"sampled_share": 0.0}, "got 0"),
        ({"patch_size": 0}, "got 0"),
        ({"curve_families": ("felzenszwalb",)}, "got 'felzenszwalb'"),
        ({"curve_families": ("slic",), "curve_orders": ()}, "got none"),
        ({"curve_orders": ("alphabetical",)}, "got 'alphabetical'"),
        ({"transfer_families": ("stripes",)}, "got 'stripes'"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_do(options, given):
    with pytest.raises(ValueError, match=rf"{given}; .*\.$"):
        ReliancePlan(**options)


def test_lists_of_a_configuration_file_become_tuples():
    assert ReliancePlan(hidden_fractions=[0.3], curve_families=["slic"]) == ReliancePlan(  # type: ignore[arg-type]
        hidden_fractions=(0.3,), curve_families=("slic",)
    )


def test_what_is_named_twice_is_asked_once():
    twice = ReliancePlan(hidden_fractions=(0.5, 0.3, 0.5), transfer_families=("patches", "patches"))
    assert twice == ReliancePlan(hidden_fractions=(0.5, 0.3), transfer_families=("patches",))
