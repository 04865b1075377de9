"""What an evaluation says about the holes of the images beside its measures: what they are, and what is undefined."""

from collections.abc import Iterator
from typing import Any

from maskrobust.lm_modules.reliance.catalogue import OWN_HOLE_PULL
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate
from maskrobust.lm_modules.reliance.holes.own import MENDING_FILLS
from maskrobust.lm_modules.reliance.measures.own_holes import MENDED_ALIKE
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.measure import Answered


def mended_alike(answered: Answered) -> Iterator[Row]:
    """Why nothing is said of own holes under fills that mend, a row for each network."""
    if answered.own is not None:
        for name, by_method in answered.runs.items():
            for method in (each for each in by_method if each in MENDING_FILLS):
                found = Estimate(None, None, None, 0, len(by_method[method]), MENDED_ALIKE)
                yield Row.of(found, network=name, method=method, measure=OWN_HOLE_PULL)


def about_holes(answered: Answered) -> dict[str, Any] | None:
    """What the images' own holes are, and whether they tell the class; None where there are none."""
    if answered.own is None or answered.holes is None:
        return None
    visible = answered.own.visible[answered.own.has_hole()]
    return {
        "images": len(answered.own),
        "with_hole": len(visible),
        "hidden_fraction": 1.0 - visible.double().mean().item(),
        "read": answered.holes.images,
        "tell": answered.holes.tell,
        "telling": list(answered.holes.telling),
        "p_values": {name: each.p_value for name, each in answered.holes.readings.items()},
    }
