"""Evaluations and claims with known outcomes, as result tables."""

from typing import Any

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.results import MEANINGLESS, Results
from maskrobust.train.report.wording import CONCLUSIONS

Numbers = dict[str, Any]
"""Of a network under a masking method: silhouette, circle, half, nearest, share with its interval, pull, commonest."""

_MEASURES = {
    "silhouette": "silhouette_accuracy",
    "circle": "circle_accuracy",
    "half": "retention",
    "nearest": "nearest",
    "pull": "outline_pull",
}


def evaluated(
    networks: dict[str, dict[str, Numbers]],
    clean: dict[str, float | None],
    *,
    own: dict[str, str] | None = None,
    chance: float | None = 0.25,
    at_chance: dict[str, str] | None = None,
) -> Results:
    """An evaluation of networks, by masking method; `clean` is their accuracy with nothing hidden."""
    rows = []

    def add(network: str, method: str, measure: str, value: Any, **others: Any) -> None:
        value, low, high = (
            value if isinstance(value, tuple) else (value, value and value - 0.02, value and value + 0.02)
        )
        rows.append(Row(network, method, measure, value, low, high, 400, 0, **others))

    half: Numbers = {"hidden_fraction": 0.5}
    for network, by_method in networks.items():
        reason = (at_chance or {}).get(network, "")
        nothing = MEANINGLESS + reason if reason else ""
        add(network, "", "commonest_class", 0.3, parameters={"class": "intact", "hidden_fraction": 0.0})
        for method, numbers in by_method.items():
            add(network, method, "clean_accuracy", clean[network], reading=nothing)
            for name, measure in _MEASURES.items():
                if name in numbers:
                    reading = "pulled" if name == "pull" and numbers[name][1] > 0 else ""
                    parameters = half if name in ("half", "nearest") else {}
                    add(network, method, measure, numbers[name], parameters=parameters, reading=reading)
            if "share" in numbers:
                _, low, high = numbers["share"]
                reading = "relies on outlines" if low is not None and not low <= 0 <= high else "no evidence"
                add(network, method, "used_share", numbers["share"], reading=nothing or reading)
            fraction, name = numbers.get("commonest", (0.3, "intact"))
            add(network, method, "commonest_class", fraction, parameters={"class": name, **half})
    content = {
        "networks": list(networks),
        "methods": list(next(iter(networks.values()))),
        "own_methods": own or {},
        "chance": chance,
        "compared_with": next(iter(networks)),
        "settings": {"labels": "none" if chance is None else "of the data", "probe": "training split", "left_out": []},
    }
    return Results("reliance", content, rows)


def claimed(
    outcomes: tuple[str, str], numbers: dict[str, dict[str, tuple[float, float]]], *, shown: str = ""
) -> Results:
    """A claim of arms that are trained on black holes, but for "masked", the layer-masking arm.

    `numbers`: accuracy with half hidden, and used share, by arm and masking method; `shown`: of black fill, while other
    fills rely more.
    """
    rows = []
    for arm, by_method in numbers.items():
        for method, (kept, share) in by_method.items():
            rows.append(Row(arm, method, "retention", kept, None, None, 9, 0, parameters={"hidden_fraction": 0.5}))
            rows.append(Row(arm, method, "used_share", share, None, None, 9, 0))
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
        "rule": {"layer_masking_arm": "masked"},
        "verdicts": [{"case": case, "outcome": outcome} for case, outcome in zip(CONCLUSIONS, outcomes, strict=True)],
        "hidden_fraction": 0.5,
    }
    return Results("claim", content, rows)
