"""`RelianceSuite`: asks any number of masking methods about the same holes in a batch of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray, check_finite
from maskrobust.lm_modules.reliance.holes.conditions import (
    Condition,
    Conditions,
    ConditionSource,
    condition_names,
    retention_condition,
)
from maskrobust.lm_modules.reliance.holes.scenes import Key
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_SMALLEST_PASS = 64


class RelianceSuite:
    """Asks predictors what the measures of shape reliance need, batch by batch.

    The holes are drawn once for each batch, from (seed, sample id) and the bank alone, and shared by all predictors.
    All images that something is hidden from are gathered over the conditions, and go through a predictor in forward
    passes of the batch's size, or of 64 images where that is more. Only predictions are kept. Whether networks are in
    train or eval mode is left to the caller.

    Args:
        bank: objects whose silhouettes are swapped in, of the images' size; usually those of the same split. None for
            a plan without objects (`ReliancePlan.without_objects`).
        num_classes: number of the data's classes; logits may have more columns, for answers that are none of them.
        plan: what is asked.
        seed: decides every draw, together with the sample ids.
        object_of: which object (B,) int64 each sample id (B,) shows; one of its own by default.
    """

    def __init__(
        self,
        bank: SilhouetteBank | None,
        num_classes: int,
        plan: ReliancePlan | None = None,
        *,
        seed: int = 0,
        object_of: Callable[[Tensor], Tensor] = torch.clone,
    ) -> None:
        self.num_classes = num_classes
        self._object_of = object_of
        self.plan = plan or ReliancePlan()
        known = None if bank is None else replace(bank, objects=object_of(bank.ids))
        self._source = ConditionSource(known, self.plan, seed)

    def ask(
        self,
        predictors: Mapping[Key, Predictor],
        batch: Batch,
        clean_logits: Mapping[Key, Tensor] | None = None,
        plans: Mapping[Key, ReliancePlan] | None = None,
        features: Mapping[Key, Predictor] | None = None,
    ) -> dict[Key, Outcomes]:
        """What every predictor answers about a batch under every condition, by its name.

        An image of which a condition hides nothing is not asked again: its answer is the clean one. Batches are joined
        with `Outcomes.merge`.

        Args:
            predictors: the predictors by name (masking methods, or networks under masking methods).
            batch: annotated images on the predictors' device.
            clean_logits: logits (B, at least num_classes) with nothing hidden, for those predictors where they are
                known already. One tensor may serve several methods of one network.
            plans: for each predictor the part of the suite's plan that it is asked; by default all of it.
            features: what gives features (B, D) in place of logits, for each predictor whose plan asks for `nearest`.

        Raises:
            InputError: a predictor's logits are not (B, at least num_classes), or not finite; the bank's masks have
                another size; or a predictor that is asked for `nearest` has no features.
        """
        with torch.inference_mode():
            conditions = self._source.draw(batch)
            found = {}
            for name, predictor in predictors.items():
                clean = None if clean_logits is None else clean_logits.get(name)
                plan = self.plan if plans is None else plans.get(name, self.plan)
                outcomes = self._observe(name, predictor, batch, conditions, plan, clean)
                if plan.nearest:
                    outcomes = replace(outcomes, features=self._features(name, features, batch, conditions, plan))
                found[name] = outcomes
            return found

    def _observe(
        self,
        name: Key,
        predictor: Predictor,
        batch: Batch,
        conditions: Conditions,
        plan: ReliancePlan,
        clean: Tensor | None,
    ) -> Outcomes:
        if clean is None:
            clean = predictor(batch.images, batch.known, conditions.fill_keys)
        check_finite(_check(clean, self.num_classes), name, "pictures with nothing hidden")
        names = set(condition_names(plan))
        shown = [condition for condition in conditions.all if condition.name in names]
        logits = self._ask(name, predictor, batch.images, shown, conditions.fill_keys, clean)
        swaps, by_condition = conditions.swaps, zip(shown, logits, strict=True)
        predictions = {each.name: _predictions(answer, each.applies) for each, answer in by_condition}
        return Outcomes(
            num_classes=self.num_classes,
            ids=_to_numpy(batch.ids),
            objects=_to_numpy(self._object_of(batch.ids.cpu())),
            labels=_to_numpy(batch.labels),
            predictions={"clean": _to_numpy(clean.argmax(dim=1)), **predictions},
            object_fraction=_to_float(batch.object_mask.flatten(1).double().mean(dim=1)),
            swap_label_j=_to_numpy(swaps.labels_j),
            swap_label_k=_to_numpy(swaps.labels_k),
            object_valid=conditions.holes.valid.cpu().numpy(),
            swap_valid=swaps.valid.cpu().numpy(),
        )

    def _features(
        self,
        name: Key,
        features: Mapping[Key, Predictor] | None,
        batch: Batch,
        conditions: Conditions,
        plan: ReliancePlan,
    ) -> dict[str, NDArray[np.float32]]:
        """Features (B, D) of the clean pictures, and with patches hidden, by condition."""
        if features is None or name not in features:
            raise InputError(f"nearest needs features ahead of the head, but '{name}' has none; give them as features.")
        names = [*map(retention_condition, plan.hidden_fractions)]
        hidden = [condition for condition in conditions.all if condition.name in names]
        clean = features[name](batch.images, batch.known, conditions.fill_keys)
        behind = self._ask(name, features[name], batch.images, hidden, conditions.fill_keys, clean)
        found = {"clean": clean, **{each.name: answer for each, answer in zip(hidden, behind, strict=True)}}
        return {condition: values.float().cpu().numpy() for condition, values in found.items()}

    def _ask(
        self,
        name: Key,
        predictor: Predictor,
        images: Tensor,
        conditions: Sequence[Condition],
        keys: Tensor,
        clean: Tensor,
    ) -> list[Tensor]:
        """Logits (B, outputs) under each condition: the clean ones where nothing is hidden."""
        if not conditions:
            return []
        visible = torch.stack([condition.visible for condition in conditions])
        applies = torch.stack([condition.applies for condition in conditions])
        logits = clean.expand(len(conditions), -1, -1).clone()
        hides_something = visible.flatten(2).view(torch.uint8).amin(dim=2) == 0  # `all` of bool takes 50 times as long
        for rows in _passes(applies & hides_something, len(images)):
            condition, image = rows.unbind(dim=1)
            answer = _check(predictor(images[image], visible[condition, image], keys[image]), clean.shape[1])
            logits[condition, image] = answer.to(logits.dtype)
        check_finite(logits, name, "pictures with a hole")  # at once: on a GPU each question waits
        return list(logits)


def _check(logits: Tensor, outputs: int) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < outputs:
        raise InputError(
            f"a predictor must return logits (B, at least {outputs}), got shape {tuple(logits.shape)}; give the suite "
            "the network's number of classes."
        )
    return logits


def _passes(applies: Tensor, batch_size: int) -> Sequence[Tensor]:
    """Positions (condition, image) that are True in (conditions, B), parted into forward passes of (n, 2) int64."""
    positions = applies.nonzero()
    return positions.split(max(_SMALLEST_PASS, batch_size)) if len(positions) else ()


def _predictions(logits: Tensor, applies: Tensor) -> IntArray:
    return _to_numpy(logits.argmax(dim=1).where(applies, -1))


def _to_numpy(values: Tensor) -> IntArray:
    numbers: IntArray = values.to(torch.int64).cpu().numpy()
    return numbers


def _to_float(values: Tensor) -> FloatArray:
    numbers: FloatArray = values.double().cpu().numpy()
    return numbers
