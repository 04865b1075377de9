"""Example pictures of an evaluation, with what the checkpoints take them for."""

from collections.abc import Mapping, Sequence

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.data.batches import split_batches
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.report import ExampleStrip, annotated_examples, example_strips, with_predictions


def evaluation_examples(
    config: EvaluationConfig, runs: Mapping[str, Mapping[MaskingMethod, Outcomes]]
) -> Sequence[ExampleStrip]:
    """A few images of the split that is measured under every masking method, with every checkpoint's predictions.

    Args:
        config: what was measured; its data are set up.
        runs: outcomes by checkpoint and masking method.
    """
    few = annotated_examples(split_batches(config.data, config.split))
    if few is None:
        return ()
    strips = example_strips(
        few,
        config.methods,
        seed=config.seed,
        patch_size=config.patch_size,
        mean=config.data.mean,
        hidden_fraction=config.hidden_fractions[0],
    )
    outcomes: dict[MaskingMethod | None, dict[int, Outcomes]] = {
        method: {number: run[method] for number, run in enumerate(runs.values(), start=1)} for method in config.methods
    }
    outcomes[None] = outcomes[config.methods[0]]
    return with_predictions(strips, outcomes, config.data.class_names)
