"""Accuracy on the images of each class; `maskrobust evaluate` asks for it, which knows the classes by name."""

from collections.abc import Iterator, Mapping, Sequence

from maskrobust.lm_modules.reliance.catalogue import measure
from maskrobust.lm_modules.reliance.conditions import retention_condition
from maskrobust.lm_modules.reliance.estimation import Columns, Statistic, columns_of, estimate
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.results import Row


@measure(
    title="Accuracy of a class",
    definition="Accuracy on the images of one class: how many of them are recognised.",
    group="classes",
    unit="fraction",
    goal="high",
    asked=lambda _plan: (),
)
def class_accuracy(label: int, condition: str) -> Statistic:
    """Accuracy under a condition over the images of one class, in [0, 1]."""

    def columns(outcomes: Outcomes) -> Columns:
        predictions = outcomes.predictions_under(condition)
        return columns_of(outcomes, (outcomes.labels == label) & (predictions >= 0), predictions == label)

    return Statistic(columns)


def class_rows(
    network: str,
    runs: Mapping[str, Outcomes],
    classes: Sequence[str],
    hidden_fraction: float,
    *,
    replicates: int,
    seed: int = 0,
) -> Iterator[Row]:
    """The rows of one network: each class with nothing hidden, under no method, and with patches hidden under each.

    Args:
        network: its name.
        runs: outcomes on the same images by masking method, at least one.
        classes: names, in label order; those without an image are left out.
        hidden_fraction: one of the plan's `hidden_fractions`.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    first = next(iter(runs.values()))
    conditions = [("", 0.0, first, "clean")]
    conditions += [(each, hidden_fraction, run, retention_condition(hidden_fraction)) for each, run in runs.items()]
    present = {int(label) for label in first.labels}
    for label, name in enumerate(classes):
        for method, fraction, run, condition in conditions if label in present else ():
            yield Row.of(
                estimate(class_accuracy(label, condition), [run], replicates=replicates, seed=seed),
                network=network,
                method=method,
                measure="class_accuracy",
                parameters={"class": name, "hidden_fraction": fraction},
            )
