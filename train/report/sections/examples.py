"""What the networks are shown, with what they take it for: rows of pictures by masking method."""

from collections.abc import Sequence

from markupsafe import Markup

from maskrobust.lm_modules.methods import is_fill
from maskrobust.train.report.blocks import Section, block, prose
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import method_title


def examples(strips: Sequence[ExampleStrip]) -> Section[Results]:
    """The section of a page with these pictures."""
    return Section("examples", "What the network is shown", lambda results: _shown(results, strips))


def _shown(results: Results, strips: Sequence[ExampleStrip]) -> Markup | None:
    """Strips by masking method, in order; None where there is no picture."""
    groups: dict[str | None, list[ExampleStrip]] = {}
    for strip in strips:
        if strip.images:
            groups.setdefault(strip.method, []).append(strip)
    if not groups:
        return None
    text = prose(
        "examples",
        predicted_by=results.name if any(strip.answers for strip in strips) else "",
        apart=any(strip.networks for strip in strips),
    )
    for method, of_method in groups.items():
        title, masked = ("Nothing hidden", False) if method is None else (method_title(method), not is_fill(method))
        text += block("strips", title, of_method, results.networks, masked)
    return text
