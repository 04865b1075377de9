"""`HolesTell`, which says before a training where the holes of its images tell the class."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.seed import isolate_rng

from maskrobust.augment import Batch, HoleBank
from maskrobust.lm_modules.reliance.hole_reader import HolesRead, read_holes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier

LOOKED_AT = 400
"""Training images whose holes are read."""

_BY_LAYERS = "by layer masking (--model.masking layer_masking)"
_EXCHANGED = "with holes of other images (--model.exchange_holes 1)"


class HolesTell(pl.Callback):
    """Says in one line, before the first step, where a reader of holes alone finds that they tell the class.

    It reads the holes of up to `LOOKED_AT` training images in the view of evaluation, in the first process. Where the
    first batch has no `visible` nothing is read. Training goes on as it would without.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Read the holes ahead of the first step of a training that does not go on from a checkpoint."""
        if trainer.global_step > 0 or batch_idx > 0 or batch.visible is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, MaskRobustClassifier)
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(data, "some_images"):  # any LightningDataModule, of which nothing can be asked
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
