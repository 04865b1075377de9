"""`Measurement`: asks networks about the same holes in the same images, and makes rows of the result table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import Batch, HoleBank, SilhouetteBank
from maskrobust.augment.families.bank import one_object_each
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod, Predictor
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import check_finite
from maskrobust.lm_modules.reliance.catalogue import Context, Measure, measure_members
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic
from maskrobust.lm_modules.reliance.holes.conditions import (
    SWAPS,
    Condition,
    ConditionSource,
    condition_names,
)
from maskrobust.lm_modules.reliance.holes.scenes import (
    EmptyScenes,
    Key,
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

NetworkAndMethod = tuple[str, MaskingMethod]
"""A network by its name, and the masking method under which it is asked."""

Plans = Mapping[MaskingMethod, ReliancePlan]
"""What a network is asked under each masking method."""

_SMALLEST_PASS = 64


class Asked(NamedTuple):
    """Who is asked, and what.

    Attributes:
        predict: gives logits (B, at least number of the data's classes) of images with holes.
        plan: what is asked.
        whole: gives logits of whole images; None for `predict`. It is called once for a batch, whoever shares it.
    """

    predict: Predictor
    plan: ReliancePlan
    whole: Callable[[Tensor], Tensor] | None = None


def under_methods(networks: Mapping[str, TrainedNetwork], plans: Plans) -> dict[NetworkAndMethod, Asked]:
    """Every network under every masking method, in order.

    Args:
        networks: the networks by name, in eval mode.
        plans: what is asked under each method.

    Raises:
        UnsupportedNetworkError: layer masking is asked for and cannot read a network.
    """
    return {
        (name, method): Asked(network.predictor(method), plan, network)
        for name, network in networks.items()
        for method, plan in plans.items()
    }


class Measurement(Generic[Key]):
    """Asks several networks about one split, batch by batch, each independently.

    Images are decoded, holes drawn and superpixels computed once for a batch, from (seed, sample id) and the bank
    alone, whatever the number of networks. A batch has the same answers whichever process asks about it, and whatever
    was asked before. All images that something is hidden from are gathered over the conditions, and go through a
    network in forward passes of the batch's size, or of 64 images where that is more.

    Args:
        asked: who is asked what, by name; see `under_methods`.
        bank: objects whose silhouettes are swapped in, of the images' size; usually those of the same split. None for
            plans without objects (`ReliancePlan.without_objects`).
        num_classes: number of the data's classes; a prediction of num_classes or more is none of them.
        seed: decides every draw, together with the sample ids.
        object_of: which object (B,) int64 each sample id (B,) shows; one of its own by default.
        scenes: empty scenes, on the networks' device, for plans that ask about some; None for no such.
        own: images that lend their own holes, of the images' size, for plans that ask about these; None for no such.

    Attributes:
        asked: as given.

    Raises:
        InputError: scenes have another size than the bank's objects; or a plan asks about own holes, and no image lends
            some.
    """

    def __init__(
        self,
        asked: Mapping[Key, Asked],
        bank: SilhouetteBank | None,
        num_classes: int,
        *,
        seed: int = 0,
        object_of: Callable[[Tensor], Tensor] = one_object_each,
        scenes: EmptyScenes | None = None,
        own: HoleBank | None = None,
    ) -> None:
        self.asked, self._num_classes, self._seed, self._object_of = asked, num_classes, seed, object_of
        plan = ReliancePlan.union(each.plan for each in asked.values())
        known = None if bank is None else replace(bank, objects=object_of(bank.ids))
        self._source = ConditionSource(known, plan, seed, own)
        self._names = {key: {*condition_names(each.plan)} for key, each in asked.items()}
        self._in_scenes = {key: each.predict for key, each in asked.items() if each.plan.scenes}
        self._shapes: Shapes | None = None
        if self._in_scenes and known is not None:
            self._shapes = draw_shapes(known, count=plan.scene_objects, seed=seed)
            self._scenes = self._shapes.check(scenes)

    def ask(self, batch: Batch) -> dict[Key, Outcomes]:
        """What everyone answers about a batch of annotated images, on the networks' device, under every condition.

        An image of which a condition hides nothing is not asked again: its answer is the clean one.

        Raises:
            InputError: logits are not (B, at least num_classes), or not finite; an image has no label; or the bank's
                masks have another size.
        """
        found: dict[Key, Outcomes] = {}
        clean_of: dict[Callable[[Tensor], Tensor], Tensor] = {}
        with torch.inference_mode():
            objects = self._object_of(batch.ids.cpu())
            conditions = self._source.draw(batch, objects)
            keys, swaps = conditions.fill_keys, conditions.swaps
            facts: dict[str, Any] = {
                "ids": batch.ids,
                "objects": objects,
                "labels": batch.labels,
                "object_fraction": batch.object_mask.flatten(1).double().mean(dim=1),
                "swap_label_j": swaps.labels_j,
                "swap_label_k": swaps.labels_k,
                "swap_object_j": swaps.objects_j,
                "swap_object_k": swaps.objects_k,
                "object_valid": conditions.holes.valid,
                "swap_valid": swaps.valid,
            }
            facts = {name: values.cpu().numpy() for name, values in facts.items()}
            if not np.isin(facts["labels"], range(self._num_classes)).all():
                raise InputError(
                    f"images to measure must have labels from 0 to {self._num_classes - 1}, got "
                    f"{facts['labels'].min()} to {facts['labels'].max()} (-1: none); correct them, or leave these out."
                )
            for key, (predict, _, whole) in self.asked.items():
                shown = [each for each in conditions.all if each.name in self._names[key]]
                if whole is None or batch.visible is not None:
                    clean = predict(batch.images, batch.known, keys)
                else:
                    clean = clean_of[whole] if whole in clean_of else clean_of.setdefault(whole, whole(batch.images))
                check_finite(_check(clean, self._num_classes), key, "pictures with nothing hidden")
                answers = {"clean": clean} | _behind(key, predict, batch.images, shown, keys, clean)
                classes = torch.stack([batch.labels, swaps.labels_j, swaps.labels_k], dim=1).clamp(min=0)
                odds = {
                    each.name: log_odds(answers[each.name], classes).where(each.applies[:, None], torch.nan)
                    for each in shown
                    if each.name in SWAPS
                }
                chosen = {name: logits.argmax(dim=1) for name, logits in answers.items()}
                chosen |= {each.name: chosen[each.name].where(each.applies, -1) for each in shown}
                found[key] = Outcomes(
                    num_classes=self._num_classes,
                    predictions={name: values.cpu().numpy() for name, values in chosen.items()},
                    log_odds={name: values.float().cpu().numpy() for name, values in odds.items()},
                    donors={str(number): pair.who.cpu().numpy() for number, pair in enumerate(conditions.donors)},
                    **facts,
                )
        return found

    @property
    def passes(self) -> Sequence[Tensor]:
        """The parts that `ask_in_scenes` takes one by one; none if no plan asks about scenes."""
        return () if self._shapes is None else scene_passes(self._shapes, len(self._scenes.images))

    def ask_in_scenes(self, rows: Tensor) -> dict[Key, SceneLogits]:
        """What the networks answer about some shapes in empty scenes; see `reliance.holes.scenes`.

        Args:
            rows: one of `passes`.
        """
        assert self._shapes is not None
        return ask_pass(self._shapes, self._scenes.images, rows, self._in_scenes, seed=self._seed)

    def joined(
        self, about_images: Sequence[Mapping[Key, Outcomes]], in_scenes: Sequence[Mapping[Key, SceneLogits]]
    ) -> dict[Key, Outcomes]:
        """All that everyone answers, from what `ask` and `ask_in_scenes` have returned, in any order."""
        found = {key: Outcomes.merge([each[key] for each in about_images]) for key in self.asked}
        if self._shapes is not None:
            for key in self._in_scenes:
                answers = scene_answers(self._shapes, self._scenes, [each[key] for each in in_scenes])
                found[key] = replace(found[key], scenes=answers)
        return found

    def run(self, batches: Iterable[Batch]) -> dict[Key, Outcomes]:
        """All that everyone answers, by name.

        Args:
            batches: annotated batches with every image of a split, on the networks' device.
        """
        found = [self.ask(batch) for batch in batches]
        return self.joined(found, [self.ask_in_scenes(rows) for rows in self.passes])


def _behind(
    name: object, predict: Predictor, images: Tensor, conditions: Sequence[Condition], keys: Tensor, clean: Tensor
) -> dict[str, Tensor]:
    """Logits (B, outputs) under each condition, by its name: the clean ones where the image is shown whole."""
    if not conditions:
        return {}
    visible = torch.stack([condition.visible for condition in conditions])
    applies = torch.stack([condition.applies for condition in conditions])
    shown = [images if each.images is None else each.images for each in conditions]
    pictures = {id(each): each for each in (images, *shown)}
    source = torch.stack([*pictures.values()]) if len(pictures) > 1 else images[None]
    place = torch.tensor([[*pictures].index(id(each)) for each in shown], device=images.device)
    logits = clean.expand(len(conditions), -1, -1).clone()
    hides_something = visible.flatten(2).view(torch.uint8).amin(dim=2) == 0  # `all` of bool takes 50 times as long
    positions = (applies & (hides_something | (place > 0)[:, None])).nonzero()
    for rows in positions.split(max(_SMALLEST_PASS, len(images))) if len(positions) else ():
        condition, image = rows.unbind(dim=1)
        answer = _check(
            predict(source[place[condition], image], visible[condition, image], keys[image]), clean.shape[1]
        )
        logits[condition, image] = answer.to(logits.dtype)
    check_finite(logits, name, "pictures with a hole")  # at once: on a GPU each question waits
    return {each.name: values for each, values in zip(conditions, logits, strict=True)}


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """Log-odds of classes against all other outputs.

    Args:
        logits: (N, K) float.
        classes: (N, C) int64 in [0, K).

    Returns:
        (N, C) float32, or float64 of logits in float64; NaN where K is 1.
    """
    numbers = logits if logits.dtype == torch.float64 else logits.float()
    if numbers.shape[1] == 1:
        return torch.full(classes.shape, torch.nan, dtype=numbers.dtype, device=numbers.device)
    others = numbers[:, None].expand(-1, classes.shape[1], -1).scatter(2, classes[..., None], -torch.inf)
    return numbers.gather(1, classes) - others.logsumexp(dim=2)


def _check(logits: Tensor, outputs: int) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < outputs:
        raise InputError(
            f"a predictor must return logits (B, at least {outputs}), got shape {tuple(logits.shape)}; give the "
            "measurement the network's number of classes."
        )
    return logits


def result_rows(
    network: str,
    method: str,
    runs: Mapping[int, Outcomes],
    context: Context,
    *,
    by_seed: bool = False,
    wanted: Callable[[Measure], bool] = lambda measure: not measure.of_data,
) -> Iterator[Row]:
    """The rows of one network under one masking method: over all seeds, then those of each seed.

    Args:
        network: name of the network; empty for measures of the images alone.
        method: masking method; likewise.
        runs: outcomes on the same images by seed, at least one.
        context: what was asked and prepared.
        by_seed: whether rows of each seed follow, of the measures that have some.
        wanted: which measures; by default all that say something of the network.
    """
    measures = [member for member in measure_members(context) if wanted(member.measure)]
    groups: list[tuple[int | None, list[Outcomes]]] = [(None, list(runs.values()))]
    if by_seed:
        groups += [(run_seed, [run]) for run_seed, run in runs.items()]
    for run_seed, some in groups:
        for member in measures:
            if run_seed is None or member.measure.by_seed:
                found, of = member.estimate(some), member.parameters
                about: dict[str, Any] = {"measure": member.measure.name, "parameters": of, "seed": run_seed}
                yield Row.of(found, network=network, method=method, **about)


def difference_rows(
    network: str,
    compared_with: str,
    method: str,
    runs: tuple[Sequence[Outcomes], Sequence[Outcomes]],
    context: Context,
) -> Iterator[Row]:
    """The rows of differences between two networks' measures, paired on images and seeds.

    Args:
        network: name of the network.
        compared_with: name of the other.
        method: masking method.
        runs: outcomes of both on the same images, one for each seed.
        context: what was asked and prepared.
    """
    for member in measure_members(context):
        if member.measure.compared and isinstance(member.made, Statistic):
            found, of = member.difference(*runs), member.parameters
            about: dict[str, Any] = {"measure": member.measure.name, "parameters": of, "compared_with": compared_with}
            yield Row.of(found, network=network, method=method, **about)
