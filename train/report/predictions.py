"""What networks answered about the example pictures, from their saved outcomes."""

from collections.abc import Mapping, Sequence

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.report.examples import Answer, ExampleStrip


def with_predictions(
    strips: Sequence[ExampleStrip],
    outcomes: Mapping[MaskingMethod | None, Mapping[int, Outcomes]],
    class_names: Sequence[str],
) -> list[ExampleStrip]:
    """The strips with the true classes of their pictures, and what networks took them for.

    Args:
        strips: what `example_strips` returns.
        outcomes: by the strips' masking method (None: nothing hidden) and a network's number, those of the networks
            whose predictions are wanted there.
        class_names: one for each class, in label order.
    """
    return [
        strip._replace(
            classes=tuple(class_names[label] for label in strip.labels),
            answers=answers(strip, outcomes.get(strip.method, {}), class_names),
        )
        for strip in strips
    ]


def answers(
    strip: ExampleStrip, outcomes: Mapping[int, Outcomes], class_names: Sequence[str]
) -> tuple[tuple[Answer, ...], ...]:
    """For each picture of a strip the predicted classes, each with the networks that predict it.

    Args:
        strip: its ids, true labels and condition.
        outcomes: by number of a network. An image that one was not asked about is left out of its answers.
        class_names: one for each class, in label order.

    Returns:
        One tuple for each picture, in the order of the networks that come first.
    """
    predicted = {number: _predictions(run, strip) for number, run in outcomes.items()}
    found = []
    for place, label in enumerate(strip.labels):
        numbers: dict[int, list[int]] = {}
        for number, classes in predicted.items():
            if classes[place] >= 0:
                numbers.setdefault(classes[place], []).append(number)
        found.append(
            tuple(Answer(class_names[each], each == label, tuple(networks)) for each, networks in numbers.items())
        )
    return tuple(found)


def _predictions(outcomes: Outcomes, strip: ExampleStrip) -> list[int]:
    """Predicted class of each picture; -1 where the network was not asked about it."""
    by_id = dict(zip(outcomes.ids.tolist(), outcomes.behind(strip.condition).tolist(), strict=True))
    return [by_id.get(identity, -1) for identity in strip.ids]
