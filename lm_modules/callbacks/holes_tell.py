"""`HolesTell`, which says before a training where the holes of its images tell the class, and what can be measured."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.seed import isolate_rng

from maskrobust.augment import Batch, HoleBank
from maskrobust.lm_modules.callbacks.reliance import RelianceCallback
from maskrobust.lm_modules.reliance.hole_reader import HolesRead, read_holes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier

LOOKED_AT = 400
"""Training images whose holes are read."""

_BY_LAYERS = "by layer masking (--model.masking layer_masking)"
_MEASURED = "--reliance true measures after each epoch how far the network relies on the shapes of holes."
_EXCHANGED = "with holes of other images (--model.exchange_holes 1)"


class HolesTell(pl.Callback):
    """Says in one line, before the first step, where a reader of holes alone finds that they tell the class.

    Another line says, where images have object masks or holes, that reliance can be measured as the network is trained,
    unless a `RelianceCallback` does so.

    It reads the holes of up to `LOOKED_AT` training images in the view of evaluation, in the first process. Where the
    first batch has no `visible` nothing is read. Training goes on as it would without.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Read the holes ahead of the first step of a training that does not go on from a checkpoint."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if trainer.global_step > 0 or batch_idx > 0 or not (trainer.is_global_zero and hasattr(data, "some_images")):
            return  # of a LightningDataModule without some_images nothing can be asked
        assert isinstance(pl_module, MaskRobustClassifier)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        given = "holes" if batch.visible is not None else "object masks" if batch.object_mask.any() else ""
        if given and not any(isinstance(each, RelianceCallback) for each in callbacks):
            rank_zero_info(f"Your images have {given}: {_MEASURED}")
        if batch.visible is None:
            return
        with isolate_rng():
            bank = HoleBank.from_batches(data.some_images("train", LOOKED_AT), data.object_of)
            holes = None if bank is None else read_holes(bank)
        if holes is not None and holes.tell:
            rank_zero_info(told(holes, pl_module.masking, pl_module.hparams["exchange_holes"]))


def told(holes: HolesRead, masking: str, exchange_holes: float) -> str:
    """What holes tell of the class, by what, and which remedies a training does not use yet.

    Args:
        holes: holes that tell the class.
        masking: way of hiding of the training.
        exchange_holes: probability with which it exchanges holes.
    """
    order = holes.readings["everything"].order.value or 0.0
    by = f" by {' and '.join(holes.telling)}" if holes.telling else ""
    remedies = [_BY_LAYERS] * (masking != "layer_masking") + [_EXCHANGED] * (exchange_holes == 0)
    advice = f"hide them {' and '.join(remedies)}, and " if remedies else ""
    return (
        f"The holes of your images tell their class{by} ({100 * order:.0f} % of pairs; 50 % is blind): {advice}see "
        "docs/own-holes.md."
    )
