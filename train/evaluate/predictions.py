"""Every prediction of an evaluation as CSV: what each network answered about each image, and how much was hidden."""

from collections.abc import Callable, Mapping, Sequence

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.report.examples import ANOTHER_CLASS
from maskrobust.train.report.results import as_csv

HEAD = ("sample_id", "sample", "label", "network", "method", "hidden_fraction", "prediction")


def predictions_csv(
    runs: Mapping[str, Mapping[MaskingMethod, Outcomes]],
    hidden_fractions: Sequence[float],
    class_names: Sequence[str],
    sample_name: Callable[[int], str],
) -> str:
    """A line for each image, network, masking method and hidden fraction, with nothing hidden first.

    With nothing hidden the method is empty: all have the same answers.

    Args:
        runs: outcomes by network and masking method.
        hidden_fractions: fractions in [0, 1] of the patches that were hidden.
        class_names: one for each class, in label order; a prediction of none of them is `ANOTHER_CLASS`. Empty where
            the images have no labels: classes are numbers then.
        sample_name: what the sample of an id is called, such as its file.
    """
    lines = []

    def named(label: int) -> str:
        if not class_names:
            return str(label)
        return class_names[label] if label < len(class_names) else ANOTHER_CLASS

    for network, by_method in runs.items():
        first = next(iter(by_method.values()))
        conditions = [("", 0.0, first, "clean")]
        conditions += [
            (method, fraction, run, retention_condition(fraction))
            for method, run in by_method.items()
            for fraction in hidden_fractions
        ]
        for method, fraction, run, condition in conditions:
            found = zip(run.ids.tolist(), run.labels.tolist(), run.predictions_under(condition).tolist(), strict=True)
            for sample, label, prediction in found:
                if prediction >= 0:
                    about = (sample_name(sample), named(label), network, method, fraction)
                    lines.append((sample, *about, named(prediction)))
    return as_csv(HEAD, lines)
