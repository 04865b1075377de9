"""What is said of an evaluation: results that are known, and every sentence on each of them."""

from dataclasses import replace

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.measures.shape import TWO_CLASSES
from maskrobust.train.report.headline import BLIND, LITTLE, decisions, said
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.grid import grid_lines
from tests.train.report.evaluations import evaluated
from tests.train.report.pages import squeezed

PAINT, SKIP = "mean", "layer_masking"
A, B = {PAINT: (0.62, 0.26, 0.52), SKIP: (0.26, 0.25, 0.53)}, {PAINT: (0.63, 0.25, 0.45), SKIP: (0.24, 0.24, 0.51)}
NONE = {PAINT: (0.26, 0.26, 0.5), SKIP: (0.25, 0.25, 0.5)}
ALIKE = [("b", "a", PAINT, 0.03, 0.05), ("b", "a", SKIP, -0.01, 0.06)]
WAYS = [("a", SKIP, PAINT, -0.46, 0.08), ("b", SKIP, PAINT, -0.5, 0.08)]
ONLY = "Only this way of hiding was tested; others can give other answers."
SUSPECTS = (
    "If a network at chance should be better, check its mean and standard deviation (--preprocess), which output each "
    "class is (--classes), and whether outputs that are no class of the data win (--answers present)."
)


def of_choices(percent):
    return f"(of two classes, that of the hole's shape is preferred in {percent}; 50%: blind)"


def added(points, beside=", and nothing that is shown under layer masking"):
    how = "accuracy behind outlines minus behind circles"
    return f"Outline or surroundings add {points} points under mean colour fill{beside} ({how})."


def alike(points, therefore=""):
    what = f"shape choices may differ by up to {points} points"
    return f"Hidden in the same way, the networks are not shown to rely differently ({what}){therefore}."


BOTH = f"read outlines under mean colour fill {of_choices('68 and 69%')}, hardly under layer masking (50 and 50%)."
HARDLY = f"hardly reads outlines under mean colour fill {of_choices('50%')} and layer masking (50%)."
KNOWN = {
    "all at chance": (
        evaluated({"a": NONE, "b": NONE}, lost=("a", "b")),
        ["Both networks are at chance with nothing hidden (26 and 26%), so nothing is said of holes.", SUSPECTS],
    ),
    "one of three at chance": (
        evaluated({"a": A, "b": NONE, "c": B}, lost=("b",), compared=[("c", "a", PAINT, 0.01, 0.1)]),
        [
            f"a and c {BOTH}",
            added("36 and 38"),
            alike("11.0"),
            "b is at chance with nothing hidden (26%), so nothing is said of holes.",
            SUSPECTS,
        ],
    ),
    "one network reads": (
        evaluated({"a": A}, ways=WAYS[:1]),
        [
            f"a reads outlines under mean colour fill {of_choices('68%')}, hardly under layer masking (50%).",
            added(36),
            "a relies more on outlines under mean colour fill than under layer masking.",
        ],
    ),
    "two trainings are alike under each way of hiding": (
        evaluated({"a": A, "b": B}, compared=ALIKE, ways=WAYS),
        [
            f"Both networks {BOTH}",
            added("36 and 38"),
            alike("8.0", ": the way of hiding makes the difference"),
        ],
    ),
    "training makes a difference, and so does the way of hiding": (
        evaluated({"a": A, "b": {**B, PAINT: (0.5, 0.25, 0.5)}}, compared=[("b", "a", PAINT, -0.15, 0.05)], ways=WAYS),
        [
            f"Both networks {BOTH.replace('69%', '62%')}",
            added("36 and 25"),
            "Under mean colour fill, b relies less on outlines than a (62% against 68% preferred).",
            "Both networks rely more on outlines under mean colour fill than under layer masking.",
        ],
    ),
    "one class for all": (
        evaluated({"a": {PAINT: (0.25, 0.25, 0.26), SKIP: NONE[SKIP]}}, one=[("a", PAINT)]),
        [f"a hardly reads outlines under layer masking {of_choices('50%')}, one answer to all under mean colour fill."],
    ),
    "no object masks": (
        evaluated({"a": {"black": (0.3, 0.2, 0.24), **A}}, shapes=False, hidden=0.8),
        [
            "a is right in 24% under black fill, 52% under mean colour fill and 53% under layer masking, with 80% of "
            "the patches hidden.",
            "Nothing was asked behind outlines: that needs object masks.",
        ],
    ),
    "five networks": (
        evaluated(
            {"v0": A, "v1": B, "v2": A, "v3": NONE, "v4": B},
            compared=[
                ("v3", "v0", PAINT, -0.4, 0.1),
                ("v3", "v2", PAINT, -0.41, 0.1),
                ("v4", "v3", PAINT, 0.43, 0.1),
                ("v1", "v0", PAINT, 0.03, 0.1),
            ],
        ),
        [
            f"4 of 5 networks {BOTH.replace('68 and', '68 to').replace('50 and 50%', '50%')}",
            f"v3 {HARDLY}",
            "Under mean colour fill, v3 relies less on outlines than v0 (50% against 68% preferred).",
            "Under mean colour fill, v4 relies more on outlines than v3 (69% against 50% preferred).",
        ],
    ),
    "few images": (
        evaluated({"a": {PAINT: (0.4, 0.3, 0.5), SKIP: (0.25, 0.28, 0.5)}}, images=40),
        [
            f"a is not shown to read outlines under mean colour fill {of_choices('55%')[:-1]}; may be 45% to 65%) and "
            "layer masking (48%; may be 38% to 59%).",
        ],
    ),
    "outlines mislead": (
        evaluated({"a": {PAINT: (0.15, 0.27, 0.5), SKIP: NONE[SKIP]}}),
        [
            f"a is misled by outlines under mean colour fill {of_choices('44%')}, hardly under layer masking (50%).",
            added(-12),
        ],
    ),
    "a little": (
        evaluated({"a": {PAINT: (0.35, 0.26, 0.5)}}),
        [
            f"a reads outlines at least a little under mean colour fill {of_choices('54%')}.",
            added(9, beside=""),
            ONLY,
        ],
    ),
    "many classes": (
        evaluated({"a": {PAINT: (0.04, 0.01, 0.3), SKIP: (0.01, 0.01, 0.4)}}, num_classes=1000, chance=0.01),
        [f"a {HARDLY.replace('50%;', '52%;', 1)}", added(3)],
    ),
    "two classes": (
        evaluated({"a": A}, undefined=TWO_CLASSES),
        [
            "a is right in 52% under mean colour fill and 53% under layer masking, with half of the patches hidden.",
            added(36),
            TWO_CLASSES,
        ],
    ),
    "a rim of colour beside the object": (
        evaluated({"a": A}, choices={("a", PAINT): 0.5, ("a", SKIP): 0.49}),
        [f"a {HARDLY.replace('(50%).', '(49%).')}", added(36)],
    ),
    "several pictures of an object": (
        evaluated({"a": NONE}, names_objects=False),
        [
            f"a {HARDLY}",
            "Every picture counts as an object of its own; if several show one, name objects, or intervals "
            "are too short.",
        ],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_of_a_known_result_this_is_said_and_nothing_else(name):
    results, expected = KNOWN[name]
    assert [squeezed(sentence).replace("\u00a0", " ") for sentence in said(results)] == expected


def test_what_a_quick_look_leaves_out_is_said():
    assert "Quick look." in said(evaluated({"a": A}, settings={"left_out": ["quick look"], "names_objects": True}))[1:]


def test_few_of_many_networks_that_read_nothing_are_said_to_read_something():
    """Nine words on networks that do nothing: that any of them says something is as rare as promised."""
    rng = np.random.default_rng(0)
    grid = {name: dict.fromkeys(("black", PAINT, SKIP), (0.25, 0.25, 0.5)) for name in "abc"}
    plain = evaluated(grid)
    wrong = 0
    for _ in range(300):
        rows = [
            replace(row, value=row.value + move, low=row.low + move, high=row.high + move)
            if row.measure == "shape_choice"
            else row
            for row in plain.rows
            for move in [rng.normal() * ((row.high or 0.0) - (row.low or 0.0)) / (2 * 1.96)]
        ]
        found = decisions(Results("reliance", plain.content, rows)).values()
        wrong += any(each.state in ("reads", "some", "misled") for each in found)
    assert wrong <= 300 * 0.09  # 5 % is meant; binomially, 27 of 300 are exceeded in 2 of 1,000 trials


def test_a_word_says_little_only_where_the_interval_for_all_lies_within_what_is_little():
    for name, (results, _) in KNOWN.items():
        for found in decisions(results).values():
            assert (found.state == "hardly") <= (BLIND - LITTLE < found.low <= found.high < BLIND + LITTLE), name
            assert (found.state in ("reads", "some")) <= (found.low > BLIND), name


def test_the_grid_has_a_line_for_each_network_under_each_way_of_hiding_with_its_word():
    results = replace(KNOWN["one of three at chance"][0])
    lines, *_ = grid_lines(Results("reliance", {**results.content, "own_methods": {"c": SKIP}}, results.rows))
    words = {method: [(line.network.title, line.word) for line in found] for method, found in lines.items()}
    assert words == {
        PAINT: [("a", "reads"), ("b", "at chance"), ("c", "reads")],
        SKIP: [("a", "hardly"), ("b", "at chance"), ("c", "hardly")],
    }
    assert [line.trained for found in lines.values() for line in found] == [False] * 5 + [True]
    assert [bool(line.choices) for line in lines[PAINT]] == [True, False, True]
    assert lines[PAINT][0].outline.value == 0.62 and lines[SKIP][2].half.value == 0.51
