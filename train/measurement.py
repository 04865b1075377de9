"""Asking one network about one split under several masking methods, as `evaluate` and `claim` do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, check_methods
from maskrobust.lm_modules.reliance import (
    FeatureExtractors,
    Outcomes,
    ReliancePlan,
    RelianceSuite,
    with_feature_predictions,
)


def with_transfer_methods(
    plans: Mapping[MaskingMethod, ReliancePlan], methods: Sequence[MaskingMethod]
) -> dict[MaskingMethod, ReliancePlan]:
    """The plans, and for further methods one that asks about the same transfer matrix and nothing else.

    Raises:
        InputError: a method is unknown.
    """
    check_methods(list(plans), "methods")
    check_methods(list(methods), "transfer_methods")
    some = next(iter(plans.values()))
    matrix = replace(some, shapes=False, hidden_fractions=(), curve_families=(), features=False)
    further = [method for method in methods if method not in plans]
    return {**plans, **dict.fromkeys(further if some.transfer_families else (), matrix)}


def measure_network(
    classifier: MaskRobustClassifier,
    batches: Iterable[Batch],
    bank: SilhouetteBank,
    plans: Mapping[MaskingMethod, ReliancePlan],
    *,
    seed: int,
    layers: Sequence[str] = (),
    predictors: Mapping[MaskingMethod, Predictor] | None = None,
) -> dict[MaskingMethod, Outcomes]:
    """What a network answers under each masking method; methods with equal plans share the drawing of their holes.

    Args:
        classifier: in eval mode, on the batches' device.
        batches: every image of a split, annotated.
        bank: objects whose silhouettes are swapped in.
        plans: what is asked under each method.
        seed: of the holes.
        layers: inner layers to take features from, beside the penultimate ones, where features are asked for.
        predictors: in place of the classifier's own, for the methods that they are given for.

    Returns:
        Outcomes by method, in the order of `plans`; features have become the predictions of a probe.

    Raises:
        InputError: features are asked for, and the network has no linear head.
        UnsupportedNetworkError: layer masking is asked for and cannot read the network.
    """
    num_classes = int(classifier.hparams["num_classes"])
    asked = {method: classifier.predictor(method) for method in plans} | dict(predictors or {})
    extractors: dict[str, FeatureExtractors] = {
        method: {layer: classifier.feature_extractor(method, layer) for layer in (None, *layers)}
        for method, plan in plans.items()
        if plan.features
    }
    groups = {plan: [method for method in plans if plans[method] == plan] for plan in plans.values()}
    suites = {plan: RelianceSuite(bank, num_classes, plan, seed=seed) for plan in groups}
    with torch.inference_mode():
        for batch in batches:
            clean = classifier(batch.images)
            for plan, methods in groups.items():
                by_method: dict[str, Predictor] = {method: asked[method] for method in methods}
                suites[plan].update(by_method, batch, dict.fromkeys(methods, clean), extractors)
    found = {method: outcomes for suite in suites.values() for method, outcomes in suite.outcomes().items()}
    return {method: with_feature_predictions(found[method]) for method in plans}
