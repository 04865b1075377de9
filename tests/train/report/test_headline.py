"""What the head of an evaluation says, and that it says no more than the intervals do."""

import pytest

from maskrobust.train.report.headline import findings_of, headline
from maskrobust.train.report.networks import networks_of_reliance
from tests.train.report.conftest import figure, undefined_figure


def make_reliance(shares, differences=None):
    """Used shares by checkpoint and method; differences from the first as (value, half width) by checkpoint."""
    first, *others = shares
    return {
        "checkpoints": {
            path: {method: {"used_share": share} for method, share in by_method.items()}
            for path, by_method in shares.items()
        },
        "compared_with": first,
        "differences": {
            path: {
                method: {"used_share": figure(*(differences or {}).get(path, (0.0, 1.0)))} for method in shares[path]
            }
            for path in others
        },
    }


def said(reliance):
    networks = networks_of_reliance(reliance)
    findings = findings_of(networks, reliance)
    return headline(networks, findings), [finding.words for finding in findings]


def test_intervals_that_do_not_overlap_name_the_least_and_the_most():
    head, (words,) = said(
        make_reliance({"a": {"black": figure(0.3)}, "b": {"black": figure(-0.02)}, "c": {"black": figure(0.15)}})
    )
    assert head == "b relies least on outlines."
    assert words == (
        "b lies nearest to zero, with a used share of −0.02 [−0.06, 0.02]; a farthest from it, with 0.30 [0.26, 0.34]. "
        "Each can be told apart from all others."
    )


def test_overlapping_intervals_are_told_apart_by_their_paired_difference_alone():
    shares = {"a": {"black": figure(0.30)}, "b": {"black": figure(0.27)}}
    told = said(make_reliance(shares, {"b": (-0.03, 0.02)}))
    not_told = said(make_reliance(shares, {"b": (-0.03, 0.04)}))
    assert told[0] == "b relies least on outlines." and told[1][0].endswith("Each can be told apart from all others.")
    assert not_told[0] == "Which checkpoint relies least on outlines cannot be told from these figures."
    assert not_told[1][0].endswith("They cannot be told apart.")


@pytest.mark.parametrize("sign", [1, -1])
def test_reliance_is_a_magnitude(sign):
    head, _ = said(make_reliance({"a": {"black": figure(-0.3 * sign)}, "b": {"black": figure(0.1 * sign)}}))
    assert head == "b relies least on outlines."


def test_a_difference_across_zero_tells_nothing_about_magnitudes():
    shares = {"a": {"black": figure(0.05, 0.04)}, "b": {"black": figure(-0.05, 0.04)}}
    assert "cannot be told" in said(make_reliance(shares, {"b": (-0.1, 0.05)}))[0]


def test_two_that_are_close_leave_the_least_open_but_not_the_most():
    shares = {"a": {"black": figure(0.3)}, "b": {"black": figure(0.1)}, "c": {"black": figure(0.11)}}
    head, (words,) = said(make_reliance(shares))
    assert head == "a relies most on outlines; which relies least cannot be told."
    assert words.endswith("b cannot be told apart from c.")


def test_three_that_are_close_are_not_told_apart():
    _, (words,) = said(make_reliance({name: {"black": figure(0.1)} for name in "abc"}))
    assert words.endswith("Neither can be told apart from any other.")


def test_methods_that_agree_are_named_together_and_others_are_named():
    apart = {"a": {"black": figure(0.3), "mean": figure(0.3)}, "b": {"black": figure(0.1), "mean": figure(0.1)}}
    assert said(make_reliance(apart))[0] == "b relies least on outlines, under every masking method."
    apart["a"]["mean"] = figure(0.1)
    assert said(make_reliance(apart))[0] == "b relies least on outlines under black fill."
    apart["a"]["mean"] = figure(0.01, 0.005)
    assert said(make_reliance(apart))[0] == "Which checkpoint relies least on outlines depends on the masking method."


def test_one_checkpoint_is_held_against_zero():
    shares = {"black": figure(0.3), "mean": figure(-0.2), "layer_masking": figure(0.01)}
    assert said(make_reliance({"x": shares}))[0] == "x relies on outlines under black fill and mean colour fill."
    assert "cannot be shown" in said(make_reliance({"x": {"black": figure(0.01)}}))[0]
    assert "undefined" in said(make_reliance({"x": {"black": undefined_figure()}}))[0]


def test_undefined_shares_settle_nothing():
    head, (words,) = said(make_reliance({"a": {"black": undefined_figure()}, "b": {"black": figure(0.1)}}))
    assert "cannot be told" in head and words == "a: used share undefined; b: used share 0.10 [0.06, 0.14]."
