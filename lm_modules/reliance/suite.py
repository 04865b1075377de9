"""The reliance suite: fed batches, it asks any number of masking methods about the same holes and keeps the answers."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from augment import Batch, SilhouetteBank
from lm_modules.methods import Predictor
from lm_modules.reliance.arrays import FloatArray, IntArray
from lm_modules.reliance.conditions import Conditions, draw_conditions
from lm_modules.reliance.outcomes import Outcomes
from lm_modules.reliance.swaps import swap_index


class RelianceSuite:
    """Collects what the measures of shape reliance need, in one pass over the data.

    The holes are drawn once for each batch, from (seed, sample id) and the bank alone, and shared by all predictors.
    Only predictions are kept. Whether networks are in train or eval mode is left to the caller.

    Args:
        bank: objects whose silhouettes are swapped in, of the images' size; usually those of the same split.
        num_classes: number of classes.
        seed: decides every draw, together with the sample ids.
        patch_size: side in pixels of the patches that are hidden at random.
        hidden_fractions: shares in [0, 1] of patches to hide; 0 costs no forward pass.
    """

    def __init__(
        self,
        bank: SilhouetteBank,
        num_classes: int,
        seed: int = 0,
        patch_size: int = 8,
        hidden_fractions: Sequence[float] = (0.0, 0.5),
    ) -> None:
        self.num_classes = num_classes
        self.seed = seed
        self.patch_size = patch_size
        self.hidden_fractions = tuple(hidden_fractions)
        self._bank = bank
        self._index = swap_index(bank)
        self._parts: dict[str, list[Outcomes]] = {}

    def update(
        self, predictors: Mapping[str, Predictor], batch: Batch, clean_logits: Mapping[str, Tensor] | None = None
    ) -> None:
        """Ask every predictor about a batch under every condition.

        For each predictor that is 8 forward passes of the batch, plus one for each hidden fraction above 0; one less
        where its clean logits are given, 5 less where no image has a valid object, 2 less where none has a swap.

        Args:
            predictors: masking methods by name.
            batch: annotated images on the predictors' device.
            clean_logits: logits (B, num_classes) with nothing hidden, for those predictors where they are known
                already. One tensor may serve several methods of one network.

        Raises:
            ValueError: a predictor's logits are not (B, num_classes), or the bank's masks have another size.
        """
        with torch.inference_mode():
            if self._index.labels.device != batch.labels.device:
                self._index = swap_index(self._bank.to(batch.labels.device))
            conditions = draw_conditions(
                batch,
                self._index,
                seed=self.seed,
                hidden_fractions=self.hidden_fractions,
                patch_size=self.patch_size,
            )
            for name, predictor in predictors.items():
                clean = None if clean_logits is None else clean_logits.get(name)
                self._parts.setdefault(name, []).append(self._observe(predictor, batch, conditions, clean))

    def outcomes(self) -> dict[str, Outcomes]:
        """What each predictor answered so far, by name; under several ranks, join with `Outcomes.merge`."""
        return {name: Outcomes.merge(parts) for name, parts in self._parts.items()}

    def _observe(
        self, predictor: Predictor, batch: Batch, conditions: Conditions, clean_logits: Tensor | None
    ) -> Outcomes:
        holes, swaps, keys = conditions.holes, conditions.swaps, conditions.fill_keys

        def logits(visible: Tensor, valid: Tensor | None = None, images: Tensor = batch.images) -> Tensor:
            if valid is not None and not valid.any():
                return torch.full((len(batch.ids), self.num_classes), torch.nan, device=images.device)
            return self._check(predictor(images, visible, keys))

        everything = torch.ones_like(batch.object_mask)
        clean = logits(everything) if clean_logits is None else self._check(clean_logits)
        silhouette = logits(holes.silhouette_visible, holes.valid)
        redrawn = logits(holes.silhouette_visible, holes.valid, conditions.redrawn_images)
        patches = [
            clean if fraction == 0.0 else logits(visible)
            for fraction, visible in zip(self.hidden_fractions, conditions.patches_visible, strict=True)
        ]
        change = (redrawn.double() - silhouette.double()).abs().amax(dim=1)
        return Outcomes(
            num_classes=self.num_classes,
            hidden_fractions=np.array(self.hidden_fractions, dtype=np.float64),
            ids=_to_numpy(batch.ids),
            labels=_to_numpy(batch.labels),
            clean=_predictions(clean),
            silhouette=_predictions(silhouette, holes.valid),
            circle=_predictions(logits(holes.circle_visible, holes.valid), holes.valid),
            whole_mask=_predictions(logits(conditions.whole_visible, holes.valid), holes.valid),
            broken_mask=_predictions(logits(conditions.broken_visible, holes.valid), holes.valid),
            patches=np.array([_predictions(each) for each in patches], dtype=np.int64).reshape(-1, len(batch.ids)),
            swap_j=_predictions(logits(swaps.visible_j, swaps.valid), swaps.valid),
            swap_k=_predictions(logits(swaps.visible_k, swaps.valid), swaps.valid),
            swap_label_j=_to_numpy(swaps.labels_j),
            swap_label_k=_to_numpy(swaps.labels_k),
            swap_area_difference=_to_float(swaps.area_difference),
            object_valid=holes.valid.cpu().numpy(),
            swap_valid=swaps.valid.cpu().numpy(),
            sensitivity=_to_float(change.where(holes.valid, torch.nan)),
        )

    def _check(self, logits: Tensor) -> Tensor:
        if logits.ndim != 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"a predictor must return logits (B, {self.num_classes}), got shape {tuple(logits.shape)}; "
                "give the suite the network's number of classes."
            )
        return logits


def _predictions(logits: Tensor, valid: Tensor | None = None) -> IntArray:
    chosen = logits.argmax(dim=1)
    return _to_numpy(chosen if valid is None else chosen.where(valid, -1))


def _to_numpy(values: Tensor) -> IntArray:
    numbers: IntArray = values.to(torch.int64).cpu().numpy()
    return numbers


def _to_float(values: Tensor) -> FloatArray:
    numbers: FloatArray = values.double().cpu().numpy()
    return numbers
