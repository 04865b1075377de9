"""Report sections of a claim: what has come of it, and the rule."""

from collections.abc import Sequence

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import only
from maskrobust.train.report.blocks import prose
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.sections.grid import grid
from maskrobust.train.report.wording import PERCENT, capitalised, in_words, percents, under

CONCLUSIONS = {
    "own": {
        "supported": "Networks trained with mask augmentation still rely on the outline, filled as in training.",
        "refuted": "Mask augmentation is enough: filled as in training, most networks do not rely on the outline.",
        "undecided": "Do networks trained with mask augmentation rely on outlines, filled as in training?",
    },
    "needed": {
        "supported": "Nothing tried replaces layer masking: no fill does as well at the same accuracy, patches hidden.",
        "refuted": "Layer masking can be replaced: with a fill, most networks do as well at the same accuracy.",
        "undecided": "Can a fill that was tried replace layer masking?",
    },
}
"""What has come of each claim, by its name and the outcome of its verdict."""


def in_claim(results: Results) -> list[str]:
    """The news of a claim: what has come of each of its two claims, with the numbers behind it.

    The first claim names the arm that relies the least where it is refuted, else the range over the arms that it asks
    about. Of the pairs of an arm and a fill the second names the one that keeps the most accuracy, among those that
    refute it, else among those that leave it open, else among all.
    """
    reference = results.network(results.content["rule"]["layer_masking_arm"])
    masked = _kept_and_choices(results, reference, str(reference.arm["method"]))
    found = [
        (row, network, *each)
        for row in results.comparisons
        if row.reading != "does not count"
        if (each := _kept_and_choices(results, network := results.network(row.network), row.method))
    ]
    asked = [each for each in found if each[1].name in results.content["asked"]]
    own = {choices: (arm, row) for row, arm, _, choices in asked if row.method == results.own_method(arm)}
    conclusions = [CONCLUSIONS[each["case"]][each["outcome"]] for each in results.content["verdicts"]]
    if not found or masked is None:
        return conclusions
    decisive = ([each for each in found if each[0].reading == reading] for reading in ("does as well", "open"))
    row, best, kept, choices = max(next(filter(None, decisive), found), key=lambda each: each[2])
    half = in_words(float(results.content["hidden_fraction"]))
    relied = " to ".join(dict.fromkeys(map(percents, (min(own), max(own))))) if own else ""
    if results.content["verdicts"][0]["outcome"] == "refuted":
        arm, its = own[least := min(own, key=lambda each: abs(each - 0.5))]
        relied = f"{percents(least)} for “{arm.title}” {under(its.method)}"
    sizes = (
        relied and f"shape choices {relied}; with layer masking {percents(masked[1])}; 50{PERCENT} is blind",
        f"{half} hidden: {percents(kept)} right at shape choices of {percents(choices)} for “{best.title}” "
        f"{under(row.method)}; with layer masking {percents(masked[0])} at {percents(masked[1])}",
    )
    return [
        f"{text} {capitalised(size)}{'.' * bool(size)}".strip() if text.endswith("?") else f"{text[:-1]} ({size})."
        for text, size in zip(conclusions, sizes, strict=True)
    ]


def _kept_and_choices(results: Results, network: Network, method: str) -> tuple[float, float] | None:
    """Accuracy with as many patches hidden as the rule says, and shape choices; None where either is undefined."""
    hidden = {"hidden_fraction": float(results.content["hidden_fraction"])}
    kept, choices = (
        only(results.defined, network=network.name, method=method, measure=measure, parameters=parameters)
        for measure, parameters in (("retention", hidden), (HEADLINE, {}))
    )
    return None if kept is None or choices is None else (kept.value or 0.0, choices.value or 0.0)


def verdict(results: Results, shown: Sequence[ExampleStrip]) -> Markup:
    """What stands above all sections of a claim: both findings, their reasons, the fills, and the grid of all arms."""
    found = [*zip(results.content["verdicts"], in_claim(results), strict=True)]
    above = prose("verdicts", found=found, fills=results.content["fills"], rule=results.content["rule"])
    return above + grid(results, shown)


def rule(results: Results) -> Markup:
    """The question, both claims, the rule that was stated beforehand, and what so few seeds cannot decide."""
    names = ("claims", "question", "rule", "known_before", "hidden_fraction")
    titles = {role: results.network(results.content["rule"][role]).title for role in ("baseline", "layer_masking_arm")}
    return prose("rule", titles=titles, **{name: results.content[name] for name in names})
