"""Run the measures: ask networks about one split under several masking methods, and make rows of the result table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.methods import MaskingMethod, Predictor
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.catalogue import Context, MeasureMember, measure_members
from maskrobust.lm_modules.reliance.estimates.crossed import CrossedStatistic
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic
from maskrobust.lm_modules.reliance.holes.scenes import (
    EmptyScenes,
    SceneLogits,
    Shapes,
    ask_pass,
    draw_shapes,
    scene_answers,
    scene_passes,
)
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.lm_modules.reliance.suite import RelianceSuite

NetworkAndMethod = tuple[str, MaskingMethod]
"""A network by its name, and the masking method under which it is asked."""

Plans = Mapping[MaskingMethod, ReliancePlan]
"""What a network is asked under each masking method."""


def check_plans(classifier: TrainedNetwork, plans: Plans) -> None:
    """Refuse what a network cannot be asked, before anything is measured.

    Raises:
        UnsupportedNetworkError: layer masking or token dropping is asked for and cannot read it.
    """
    for method in plans:
        classifier.predictor(method)


class Measurement:
    """Asks several networks about one split under each masking method, batch by batch, each independently.

    Images are decoded, holes drawn and superpixels computed once, whatever the number of networks and methods. A batch
    has the same answers whichever process asks about it, and whatever was asked before.

    Args:
        classifiers: the classifiers by name, in eval mode and on the batches' device; the data's classes are the first
            of each one's.
        bank: objects whose silhouettes are swapped in; None for plans without objects.
        plans: what is asked under each method.
        num_classes: number of the data's classes; a prediction of num_classes or more is none of them.
        seed: seed of the holes.
        object_of: which object (B,) int64 each sample id (B,) shows; one of its own by default.
        scenes: empty scenes, on the classifiers' device, for plans that ask about some; None for no such.

    Attributes:
        networks_and_methods: networks and methods in the order in which they are asked.

    Raises:
        InputError: scenes have another size than the bank's objects.
        UnsupportedNetworkError: layer masking or token dropping is asked for and cannot read a network.
    """

    def __init__(
        self,
        classifiers: Mapping[str, TrainedNetwork],
        bank: SilhouetteBank | None,
        plans: Plans,
        *,
        num_classes: int,
        seed: int,
        object_of: Callable[[Tensor], Tensor] = torch.clone,
        scenes: EmptyScenes | None = None,
    ) -> None:
        self._classifiers, self._plans, self._seed = classifiers, plans, seed
        self._predictors: dict[NetworkAndMethod, Predictor] = {}
        self._features: dict[NetworkAndMethod, Predictor] = {}
        for name, classifier in classifiers.items():
            for method in plans:
                self._predictors[name, method] = classifier.predictor(method)
                if plans[method].nearest:
                    self._features[name, method] = classifier.features(method)
        self.networks_and_methods: tuple[NetworkAndMethod, ...] = tuple(self._predictors)
        union = ReliancePlan.union(plans.values())
        self._suite = RelianceSuite(bank, num_classes, union, seed=seed, object_of=object_of)
        self._in_scenes = {key: each for key, each in self._predictors.items() if plans[key[1]].scenes}
        self._shapes: Shapes | None = None
        if self._in_scenes and bank is not None:
            known = replace(bank, objects=object_of(bank.ids))
            self._shapes = draw_shapes(known, count=union.scene_objects, seed=seed)
            self._scenes = self._shapes.check(scenes)

    def ask(self, batch: Batch) -> dict[NetworkAndMethod, Outcomes]:
        """What every network answers about a batch of annotated images under each masking method."""
        clean: dict[NetworkAndMethod, Tensor] = {}
        with torch.inference_mode():
            for name, classifier in self._classifiers.items() if batch.visible is None else ():
                clean |= dict.fromkeys([(name, method) for method in self._plans], classifier(batch.images))
            plans = {key: self._plans[key[1]] for key in self.networks_and_methods}
            return self._suite.ask(self._predictors, batch, clean, plans, self._features)

    @property
    def passes(self) -> Sequence[Tensor]:
        """The parts that `ask_in_scenes` takes one by one; none if no plan asks about scenes."""
        return () if self._shapes is None else scene_passes(self._shapes, len(self._scenes.images))

    def ask_in_scenes(self, rows: Tensor) -> dict[NetworkAndMethod, SceneLogits]:
        """What the networks answer about some shapes in empty scenes; see `reliance.holes.scenes`.

        Args:
            rows: one of `passes`.
        """
        assert self._shapes is not None
        return ask_pass(self._shapes, self._scenes.images, rows, self._in_scenes, seed=self._seed)

    def outcomes(self, key: NetworkAndMethod, parts: Sequence[Outcomes], in_scenes: Sequence[SceneLogits]) -> Outcomes:
        """All that one network answered under one masking method.

        Args:
            key: network and masking method.
            parts: the parts of all batches, in any order.
            in_scenes: the results in scenes of all passes, in any order.
        """
        found = Outcomes.merge(parts)
        if self._shapes is None or key not in self._in_scenes:
            return found
        return replace(found, scenes=scene_answers(self._shapes, self._scenes, in_scenes))

    def run(self, batches: Iterable[Batch]) -> dict[str, dict[MaskingMethod, Outcomes]]:
        """All that the networks answer, by network and method.

        Args:
            batches: annotated batches with every image of a split, on the classifiers' device.
        """
        found = [self.ask(batch) for batch in batches]
        return self.joined(found, [self.ask_in_scenes(rows) for rows in self.passes])

    def joined(
        self,
        about_images: Sequence[Mapping[NetworkAndMethod, Outcomes]],
        in_scenes: Sequence[Mapping[NetworkAndMethod, SceneLogits]],
    ) -> dict[str, dict[MaskingMethod, Outcomes]]:
        """All that the networks answer, by network and method, from what `ask` and `ask_in_scenes` have returned."""
        runs: dict[str, dict[MaskingMethod, Outcomes]] = {name: {} for name in self._classifiers}
        for key in self.networks_and_methods:
            name, method = key
            parts, logits = [each[key] for each in about_images], [each[key] for each in in_scenes if key in each]
            runs[name][method] = self.outcomes(key, parts, logits)
        return runs


def result_rows(
    network: str,
    method: str,
    runs: Mapping[int, Outcomes],
    context: Context,
    *,
    replicates: int,
    seed: int = 0,
    by_seed: bool = False,
    wanted: Callable[[MeasureMember], bool] = lambda member: not member.measure.of_data,
) -> Iterator[Row]:
    """The rows of one network under one masking method: over all seeds, then those of each seed.

    Args:
        network: name of the network.
        method: masking method.
        runs: outcomes on the same images by seed, at least one.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
        by_seed: whether rows of each seed follow, of the measures that have some.
        wanted: which measures; by default all that say something of the network.
    """
    measures = [member for member in measure_members(context) if wanted(member)]
    groups: list[tuple[int | None, list[Outcomes]]] = [(None, list(runs.values()))]
    if by_seed:
        groups += [(run_seed, [run]) for run_seed, run in runs.items()]
    for run_seed, some in groups:
        for member in measures:
            if run_seed is None or member.measure.by_seed:
                yield Row.of(
                    member.estimate(some, replicates=replicates, seed=seed),
                    network=network,
                    method=method,
                    measure=member.measure.name,
                    parameters=member.parameters,
                    seed=run_seed,
                )


def data_rows(outcomes: Outcomes, context: Context, *, replicates: int, seed: int = 0) -> list[Row]:
    """The rows of measures that are about the images alone, and no network.

    Args:
        outcomes: any network's on these images.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    return list(
        result_rows(
            "",
            "",
            {0: outcomes},
            context,
            replicates=replicates,
            seed=seed,
            wanted=lambda member: member.measure.of_data,
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
    """The rows of differences between two networks' measures, paired on images and seeds.

    Args:
        network: name of the network.
        compared_with: name of the other.
        method: masking method.
        runs: outcomes of both on the same images, one for each seed.
        context: what was asked and prepared.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    for member in measure_members(context):
        if member.measure.compared and isinstance(member.made, Statistic | CrossedStatistic):
            yield Row.of(
                member.difference(*runs, replicates=replicates, seed=seed),
                network=network,
                method=method,
                measure=member.measure.name,
                parameters=member.parameters,
                compared_with=compared_with,
            )
