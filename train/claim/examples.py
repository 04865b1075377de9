"""Example pictures of a claim, with what its arms take them for."""

from collections.abc import Mapping, Sequence

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.claim.config import ClaimConfig
from maskrobust.train.data.batches import split_batches
from maskrobust.train.report import ExampleStrip, annotated_examples, example_strips, with_predictions


def claim_examples(
    config: ClaimConfig, runs: Mapping[str, Mapping[int, Mapping[MaskingMethod, Outcomes]]]
) -> Sequence[ExampleStrip]:
    """A few images of the split that is measured under every masking method, with predictions of the first seed.

    Under a masking method stand the predictions of the arms that the rule looks at under it, with nothing hidden those
    of all arms.

    Args:
        config: the claim, whose data are set up.
        runs: outcomes by arm, seed and masking method.
    """
    evaluation = config.evaluation
    few = annotated_examples(split_batches(config.data, evaluation.split))
    if few is None:
        return ()
    strips = example_strips(
        few,
        evaluation.methods,
        seed=evaluation.seed,
        patch_size=evaluation.patch_size,
        mean=config.data.mean,
        hidden_fraction=evaluation.hidden_fraction,
    )
    outcomes: dict[MaskingMethod | None, dict[int, Outcomes]] = {None: {}}
    for number, (name, arm) in enumerate(config.arms.items(), start=1):
        run = runs[name][config.seeds[0]][arm.method]
        for shown in (None, arm.method):
            outcomes.setdefault(shown, {})[number] = run
    return with_predictions(strips, outcomes, config.data.class_names)
