"""Networks asked about one split under several masking methods, and the rows of what they answered."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod, Predictor
from maskrobust.lm_modules.reliance.catalogue import AskedMeasure, Context, asked_measures
from maskrobust.lm_modules.reliance.estimation import Statistic, estimate_difference
from maskrobust.lm_modules.reliance.features import with_feature_predictions
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.lm_modules.reliance.scenes import Pass, ask_pairs, scene_pairs
from maskrobust.lm_modules.reliance.suite import FeatureExtractors, RelianceSuite
from maskrobust.lm_modules.trained_network import TrainedNetwork

Classifier = MaskRobustClassifier | TrainedNetwork

Plans = Mapping[MaskingMethod, ReliancePlan]
"""What a network is asked under each masking method."""


def check_plans(classifier: Classifier, plans: Plans) -> None:
    """Refuse what a network cannot be asked, before anything is measured.

    Raises:
        InputError: features are asked for, and it has no linear head, or no such layer.
        UnsupportedNetworkError: layer masking is asked for and cannot read it.
    """
    for method, plan in plans.items():
        classifier.predictor(method)
        for layer in (None, *plan.layers) if plan.features else ():
            classifier.feature_extractor(method, layer)


def measure_networks(
    classifiers: Mapping[str, Classifier],
    batches: Iterable[Batch],
    bank: SilhouetteBank,
    plans: Plans,
    *,
    num_classes: int,
    seed: int,
    predictors: Mapping[str, Mapping[MaskingMethod, Predictor]] | None = None,
    object_of: Callable[[Tensor], Tensor] = torch.clone,
    scenes: Tensor | None = None,
    track_pairs: Callable[[Sequence[Pass]], Iterable[Pass]] = iter,
) -> dict[str, dict[MaskingMethod, Outcomes]]:
    """What several networks answer under each masking method, in one pass over the images.

    Images are decoded, holes drawn and superpixels computed once, whatever the number of networks and methods.

    Args:
        classifiers: by name, in eval mode, on the batches' device; the data's classes are the first of each one's.
        batches: every image of a split, annotated.
        bank: objects whose silhouettes are swapped in.
        plans: what is asked under each method.
        num_classes: number of the data's classes; a prediction of num_classes or more is none of them.
        seed: of the holes.
        predictors: in place of a classifier's own, by its name, for the methods that they are given for.
        object_of: which object (B,) int64 each sample id (B,) shows; one of its own by default.
        scenes: (S, C, H, W) float in [0, 1], pictures without objects on the classifiers' device, for plans that ask
            about them; None where there are none.
        track_pairs: passes on what is asked about pairs in these pictures, and tells about each pass.

    Returns:
        Outcomes by network and method, features turned into the predictions of a linear probe.

    Raises:
        InputError: features are asked for, and a network has no linear head.
        UnsupportedNetworkError: layer masking is asked for and cannot read a network.
    """
    given = predictors or {}
    asked: dict[tuple[str, MaskingMethod], Predictor] = {}
    extractors: dict[tuple[str, MaskingMethod], FeatureExtractors] = {}
    for name, classifier in classifiers.items():
        for method, plan in plans.items():
            asked[name, method] = given.get(name, {}).get(method) or classifier.predictor(method)
            if plan.features:
                layers = (None, *plan.layers)
                extractors[name, method] = {layer: classifier.feature_extractor(method, layer) for layer in layers}
    union = ReliancePlan.union(plans.values())
    suite = RelianceSuite[tuple[str, MaskingMethod]](bank, num_classes, union, seed=seed, object_of=object_of)
    in_scenes = [method for method, plan in plans.items() if plan.scenes]
    pairs = scene_pairs(bank, object_of(bank.ids), count=union.scene_pairs, seed=seed) if in_scenes else None
    pixels: dict[int, Tensor] = {}
    with torch.inference_mode():
        for batch in batches:
            clean: dict[tuple[str, MaskingMethod], Tensor] = {}
            for name, classifier in classifiers.items():
                clean |= dict.fromkeys([(name, method) for method in plans], classifier(batch.images))
            suite.update(asked, batch, clean, extractors, {key: plans[key[1]] for key in asked})
            if pairs is not None:
                pixels |= pairs.pixels_of(batch)
    found = suite.outcomes()
    outcomes = {
        name: {method: with_feature_predictions(found[name, method]) for method in plans} for name in classifiers
    }
    if pairs is not None:
        in_question = [(name, method) for name in classifiers for method in in_scenes]
        plain = {key: classifiers[key[0]] for key in in_question}
        in_holes = {key: asked[key] for key in in_question}
        answers = ask_pairs(pairs, scenes, pixels, in_holes, plain, seed=seed, track=track_pairs)
        for (name, method), each in answers.items():
            outcomes[name][method] = replace(outcomes[name][method], pairs=each)
    return outcomes


def result_rows(
    network: str,
    method: str,
    runs: Mapping[int, Outcomes],
    context: Context,
    *,
    replicates: int,
    seed: int = 0,
    by_seed: bool = False,
    wanted: Callable[[AskedMeasure], bool] = lambda asked: not asked.measure.of_data,
) -> Iterator[Row]:
    """The rows of one network under one masking method: over all seeds, then those of each seed.

    Args:
        network: its name.
        method: masking method.
        runs: outcomes on the same images by seed, at least one.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
        by_seed: whether rows of each seed follow, of the measures that have some.
        wanted: which measures; by default all that say something of the network.
    """
    measures = [asked for asked in asked_measures(context) if wanted(asked)]
    groups: list[tuple[int | None, list[Outcomes]]] = [(None, list(runs.values()))]
    if by_seed:
        groups += [(run_seed, [run]) for run_seed, run in runs.items()]
    for run_seed, some in groups:
        for asked in measures:
            if run_seed is None or asked.measure.by_seed:
                yield Row.of(
                    asked.estimate(some, replicates=replicates, seed=seed),
                    network=network,
                    method=method,
                    measure=asked.measure.key,
                    parameters=asked.parameters,
                    seed=run_seed,
                )


def data_rows(outcomes: Outcomes, context: Context, *, replicates: int, seed: int = 0) -> list[Row]:
    """The rows of what is said of the images alone, whatever the network.

    Args:
        outcomes: any network's on these images.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    return list(
        result_rows(
            "", "", {0: outcomes}, context, replicates=replicates, seed=seed, wanted=lambda asked: asked.measure.of_data
        )
    )


def difference_rows(
    network: str,
    compared_with: str,
    method: str,
    runs: tuple[Sequence[Outcomes], Sequence[Outcomes]],
    context: Context,
    *,
    replicates: int,
    seed: int = 0,
) -> Iterator[Row]:
    """A network's measures minus another's, paired on images and seeds, of the measures that are compared.

    Args:
        network: its name.
        compared_with: name of the other.
        method: masking method.
        runs: outcomes of both on the same images, one for each seed.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    for asked in asked_measures(context):
        if asked.measure.compared and isinstance(asked.made, Statistic):
            yield Row.of(
                estimate_difference(asked.made, *runs, replicates=replicates, seed=seed),
                network=network,
                method=method,
                measure=asked.measure.key,
                parameters=asked.parameters,
                compared_with=compared_with,
            )
