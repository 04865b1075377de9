"""Evaluations and claims with known outcomes, as result tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.results import MEANINGLESS, Results
from maskrobust.train.report.sections.claim import CONCLUSIONS

CHANCE = 0.25


def read_results(name: Literal["claim", "reliance"], written: Mapping[str, Any]) -> Results:
    """What `Results.as_json` has written."""
    return Results(name, written, [Row(**row) for row in written["rows"]])


Right = tuple[float, float, float]
"""Accuracy behind outlines, behind circles, and with half of the patches hidden."""


def _rate(network: str, method: str, measure: str, value: float, images: int, **others: Any) -> Row:
    """An accuracy with its 95 % interval (Wilson)."""
    z = 1.96
    middle, half = value + z * z / (2 * images), z * math.sqrt(value * (1 - value) / images + (z / (2 * images)) ** 2)
    low, high = (middle - half) / (1 + z * z / images), (middle + half) / (1 + z * z / images)
    return Row(network, method, measure, value, low, high, images, 0, **others)


def evaluated(
    networks: dict[str, dict[str, Right]],
    *,
    clean: float = 0.7,
    images: int = 1000,
    one: Sequence[tuple[str, str]] = (),
    lost: Sequence[str] = (),
    shapes: bool = True,
    choices: Mapping[tuple[str, str], float] = {},
    undefined: str = "",
    names_objects: bool = True,
    compared: Sequence[tuple[str, str, str, float, float]] = (),
    ways: Sequence[tuple[str, str, str, float, float]] = (),
    hidden: float = 0.5,
    **content: Any,
) -> Results:
    """An evaluation of networks by masking method, in which chance is 25 %.

    Args:
        networks: for each network and method what it gets right.
        clean: accuracy with nothing hidden.
        images: how many images there are.
        one: networks and methods with one answer to nearly all holes.
        lost: networks at chance.
        shapes: whether images have object masks.
        choices: shape choices of networks and methods, where they are not 1/2 and half of the leak.
        undefined: why there are no shape choices; empty where there are.
        names_objects: whether the data say which object a picture shows.
        compared: (network, other, method, difference of |shape choices - 1/2|, half of its interval).
        ways: (network, method, other method, difference, half).
        hidden: fraction of the patches that is hidden.
        content: what else its file says.
    """
    rows = []
    for name, by_method in networks.items():
        poor = MEANINGLESS + "its accuracy is no better than chance" if name in lost else ""
        for method, (outline, circle, half) in by_method.items():
            rows.append(_rate(name, method, "clean_accuracy", 0.26 if poor else clean, images, reading=poor))
            rows.append(_rate(name, method, "retention", half, images, parameters={"hidden_fraction": hidden}))
            if shapes:
                rows.append(_rate(name, method, "silhouette_accuracy", outline, images))
                rows.append(_rate(name, method, "circle_accuracy", circle, images))
                leak, answers = outline - circle, 0.99 if (name, method) in one else 0.5
                error = 1.96 * math.sqrt(0.75 * (outline * (1 - outline) + circle * (1 - circle)) / images)
                rows.append(Row(name, method, "silhouette_leak", leak, leak - error, leak + error, images, 0))
                rows.append(Row(name, method, "commonest_answer", answers, None, None, images, 0))
                value, error = choices.get((name, method), 0.5 + leak / 2), 0.28 * 1.98 / math.sqrt(images)
                ends = (None,) * 3 if undefined else (value, value - error, value + error)
                about = {"undefined_because": undefined or None, "degrees": images - 1.0, "reading": poor}
                rows.append(Row(name, method, "shape_choice", *ends, images, 0, **about))
    pairs = [(name, method, other, "", *ends) for name, other, method, *ends in compared]
    pairs += [(name, method, name, other, *ends) for name, method, other, *ends in ways]
    for name, method, other, other_method, value, half in pairs:
        reading = "relies more" if value > half else "relies less" if value < -half else "no evidence of a difference"
        ends, about = (value, value - half, value + half), {"compared_with": other, "compared_method": other_method}
        rows.append(Row(name, method, "reliance", *ends, images, 0, reading=reading, **about))
    whole = {
        "networks": list(networks),
        "methods": list(next(iter(networks.values()))),
        "own_methods": {},
        "chance": CHANCE,
        "num_classes": 4,
        "settings": {"left_out": [], "names_objects": names_objects},
    }
    return Results("reliance", whole | content, rows)


def claimed(
    outcomes: tuple[str, str],
    numbers: dict[str, dict[str, tuple[float, float]]],
    *,
    shown: str = "",
    hidden: float = 0.5,
    asked: tuple[str, ...] | None = None,
) -> Results:
    """A claim of arms that are trained on black holes, but for "masked", the layer-masking arm.

    `numbers`: accuracy with a fraction `hidden`, and shape choices, by arm and masking method; `shown`: of black fill,
    while other fills rely more; `asked`: the arms that the first claim asks about, all by default.
    """
    rows = []
    for arm, by_method in numbers.items():
        for method, (kept, choices) in by_method.items():
            for fraction, value in ((hidden, kept), (0.25, 0.01)):
                parameters = {"hidden_fraction": fraction}
                rows.append(Row(arm, method, "retention", value, None, None, 9, 0, parameters=parameters))
            rows.append(Row(arm, method, "shape_choice", choices, None, None, 9, 0))
            if arm != "masked" and method != "layer_masking":
                reading = shown if method == "black" else "relies more"
                rows.append(Row(arm, method, "reliance", 0.1, 0.0, 0.2, 9, 0, compared_with="masked", reading=reading))
    content = {
        "arms": {
            arm: {"title": arm, "method": method, "augmentation_only": arm != "masked"}
            for arm in numbers
            for method in ["layer_masking" if arm == "masked" else "black"]
        },
        "methods": ["black", "inpainting", "layer_masking"],
        "rule": {"layer_masking_arm": "masked", "baseline": "patches"},
        "verdicts": [{"case": case, "outcome": outcome} for case, outcome in zip(CONCLUSIONS, outcomes, strict=True)],
        "asked": [*numbers] if asked is None else [*asked],
        "hidden_fraction": hidden,
    }
    return Results("claim", content, rows)
