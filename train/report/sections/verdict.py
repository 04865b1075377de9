"""What has come of a claim, the rule, and all of it as one picture: every arm under every method, by tolerance."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, html, named, prose, table
from maskrobust.train.report.results import TRAINING, Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import CASES, CONCLUSIONS, in_sentence, listed, method_title, points


def title(results: Results) -> str:
    """What has come of both claims."""
    return " ".join(CONCLUSIONS[each["case"]][each["outcome"]] for each in results.verdicts)


def verdict(results: Results) -> Markup:
    """What stands above all sections of a claim."""
    return prose("verdicts", verdicts=results.verdicts, conclusions=CONCLUSIONS)


def rule(results: Results) -> Markup:
    """The question, both claims, and the rule that was stated beforehand."""
    return prose("rule", **{name: results.content[name] for name in ("claims", "question", "rule")})


def factorial(results: Results) -> Markup:
    """The used share of every arm under every method, the verdicts by tolerance, and the manipulation checks."""
    mark = '<span class="mark" role="img" aria-label="{{ title|lower }}">{{ mark }}</span>'
    marks = {case: html(mark, title=title, mark=sign) for case, (title, sign) in CASES.items()}
    shares = {(row.network, row.method): row for row in select(results.over_seeds, measure=HEADLINE)}
    largest = max((abs(row.value) for row in shares.values() if row.value is not None), default=0.0) or 1.0

    def cell(arm: Mapping[str, Any], name: str, method: str) -> Cell:
        row = shares.get((name, method))
        compared = CASES if arm["augmentation_only"] else ("own",)
        cases = [case for case in compared if method in arm["cases"][case]]
        found = cell_of(row)
        found = found._replace(value=Markup().join(marks[case] for case in cases) + " " * bool(cases) + found.value)
        if row is None or row.value is None:
            return found
        look = "heat-cell" + " best" * ("best" in cases) + " aside" * (not is_fill(method) and not cases)
        return found._replace(look=look, shade=abs(row.value) / largest)

    lines = [
        Line(named(each), [cell(each.arm, each.name, method) for method in results.methods])
        for each in results.networks
    ]
    label = "Used share of every arm under every masking method"
    headings = ["Training", *map(method_title, results.methods)]
    return prose(
        "factorial",
        marks=marks,
        tolerance=results.content["rule"]["retention_tolerance"],
        shares=table("factorial-shares", label, headings, [LineGroup(lines)], look="heat"),
        without=_without_retention(results),
        tolerances=_tolerances(results),
        checks=_manipulation_checks(results),
    )


def _without_retention(results: Results) -> str:
    """The augmentation-only arms whose best case does not keep the retention asked for; empty where there is none."""
    found = [
        f"{network.title} ({listed([in_sentence(method_title(each)) for each in network.arm['cases']['best']])})"
        for network in results.networks
        if network.arm["augmentation_only"] and not network.arm["keeps_retention"]
    ]
    return listed(found) if found else ""


def _tolerances(results: Results) -> Markup:
    """The verdict of each case at each tolerance of clean accuracy, and how many arms count there."""
    by_tolerance: dict[float, dict[str, str]] = {}
    for each in results.content["verdicts"]:
        by_tolerance.setdefault(each["tolerance"], {})[each["case"]] = each["outcome"]
    compared, stated = (
        sum(network.arm["augmentation_only"] for network in results.networks),
        results.content["rule"]["clean_accuracy_tolerance"],
    )
    lines = []
    for tolerance, outcomes in by_tolerance.items():
        rows = select(results.rows, measure="reliance", parameters={"case": "best", "tolerance": tolerance})
        cells = [Cell(outcomes[case], look=f"outcome {outcomes[case]}") for case in CASES]
        cells.append(Cell(f"{sum(row.reading != 'does not count' for row in rows)} of {compared}"))
        of_rule = tolerance == stated
        lines.append(Line(points(tolerance) + " (the rule)" * of_rule, cells, "compared" * of_rule))
    headings = ["At most", *(name for name, _ in CASES.values()), "Arms that count"]
    return table("tolerances", "Verdict by tolerance of clean accuracy", headings, [LineGroup(lines)])


def _manipulation_checks(results: Results) -> Markup:
    """Each arm that trains on masks: what it is examined in, its own result, and the baseline's."""
    baseline = results.content["rule"]["baseline"]
    lines = []
    for each in results.networks:
        of_training = {"measure": "manipulation_check", "method": TRAINING, "parameters": {"training": each.name}}
        own = only(results.rows, network=each.name, **of_training)
        if own is not None:
            other = only(results.rows, network=baseline, **of_training)
            lines.append(
                Line(named(each), [Cell(each.arm["manipulation_check"], look="words"), cell_of(own), cell_of(other)])
            )
    if not lines:
        return Markup()
    headings = ["Training", "Examined in", "Its networks", results.network(baseline).title]
    return html("<h3>Did each training work?</h3>") + table(
        "manipulation_check", "Manipulation check of each arm", headings, [LineGroup(lines)], look="comparisons"
    )
