"""Example pictures of a claim or an evaluation, with what its networks take them for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.data.batches import batches_on, split_batches
from maskrobust.train.report.examples import (
    ExampleStrip,
    annotated_examples,
    example_strips,
    joined_strips,
    with_predictions,
)
from maskrobust.train.types import AnnotatedDataModule, Split

if TYPE_CHECKING:  # each command imports this module
    from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
    from maskrobust.train.claim.config import ClaimConfig
    from maskrobust.train.claim.runs import MeasuredRun
    from maskrobust.train.evaluate.config import EvaluationConfig

Answering = Mapping[MaskingMethod | None, Mapping[int, Outcomes]]
"""By masking method (None: nothing hidden) and number: the networks whose predictions stand below its pictures."""


def claim_examples(config: ClaimConfig, runs: Mapping[str, Mapping[int, MeasuredRun]]) -> Sequence[ExampleStrip]:
    """A few images of the split that is measured under every masking method, with predictions of the first seed.

    Under a masking method stand the predictions of the arms whose own it is, with nothing hidden those
    of all arms.

    Args:
        config: the claim, whose data are set up.
        runs: by arm and seed.
    """
    outcomes: dict[MaskingMethod | None, dict[int, Outcomes]] = {None: {}}
    for number, (name, arm) in enumerate(config.arms.items(), start=1):
        run = runs[name][config.seeds[0]].outcomes[arm.method]
        for shown in (None, arm.method):
            outcomes.setdefault(shown, {})[number] = run
    evaluation, preprocessings = config.evaluation, dict.fromkeys(outcomes[None], Preprocessing(mean=config.data.mean))
    return _examples(
        config.data,
        evaluation.split,
        evaluation.methods,
        outcomes,
        preprocessings,
        evaluation.seed,
        evaluation.plan.patch_size,
        evaluation.hidden_fraction,
    )


def evaluation_examples(
    config: EvaluationConfig,
    data: AnnotatedDataModule,
    runs: Mapping[str, Mapping[MaskingMethod, Outcomes]],
    networks: Mapping[str, TrainedNetwork],
) -> Sequence[ExampleStrip]:
    """A few images of the split that is measured under every masking method, with every network's predictions.

    Networks that are shown other pictures than the rest have rows of their own.

    Args:
        config: what was measured.
        data: the images, set up.
        runs: outcomes by network and masking method.
        networks: those of the runs, by name.
    """
    outcomes: dict[MaskingMethod | None, dict[int, Outcomes]] = {
        method: {number: run[method] for number, run in enumerate(runs.values(), start=1)} for method in config.methods
    }
    outcomes[None] = outcomes[config.methods[0]]
    preprocessings = {number: networks[name].preprocessing for number, name in enumerate(runs, start=1)}
    return _examples(
        data,
        config.split,
        config.methods,
        outcomes,
        preprocessings,
        config.seed,
        config.plan.patch_size,
        config.plan.hidden_fractions[0],
    )


def _examples(
    data: AnnotatedDataModule,
    split: Split,
    methods: Sequence[MaskingMethod],
    outcomes: Answering,
    preprocessings: Mapping[int, Preprocessing],
    seed: int,
    patch_size: int,
    hidden_fraction: float,
) -> Sequence[ExampleStrip]:
    few = annotated_examples(batches_on(split_batches(data, split), "cpu"))
    if few is None:
        return ()
    shown = {
        each: example_strips(
            few, methods, seed=seed, patch_size=patch_size, preprocessing=each, hidden_fraction=hidden_fraction
        )
        for each in set(preprocessings.values())
    }
    strips = joined_strips({number: shown[each] for number, each in preprocessings.items()})
    return with_predictions(strips, outcomes, data.class_names) if data.num_classes else strips
