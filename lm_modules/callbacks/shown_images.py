"""Pictures of the training images as the network sees them."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.errors import check_at_least
from maskrobust.lm_modules.callbacks.loggers import draw_grid, log_picture, shows_pictures
from maskrobust.lm_modules.callbacks.reliance import classifier_of
from maskrobust.lm_modules.methods import mark_hidden


class ShownImages(pl.Callback):
    """Shows, when training starts, the first images of its first batch: as they are, and as the network sees them.

    Weights & Biases and TensorBoard get the picture as ``train/shown``; without them nothing is drawn. Holes are those
    of the very step that follows. Training goes on as it would without: holes depend on (seed, sample id, step) alone.

    Args:
        pictures: how many images, at least 1.

    Raises:
        InputError: `pictures` is below 1.
    """

    def __init__(self, pictures: int = 8) -> None:
        check_at_least("pictures", pictures, 1)
        self.pictures = pictures
        self._is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the next batch."""
        self._is_due = trainer.is_global_zero and shows_pictures(trainer.loggers)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Draw the batch's images where they are to be shown.

        Raises:
            InputError: the module is no `MaskRobustClassifier`.
        """
        if not self._is_due:
            return
        self._is_due = False
        presented = classifier_of(pl_module, self).present(batch)
        visible = None if presented.visible is None else presented.visible[: self.pictures]
        picture = draw_training_panel(batch.images[: self.pictures], presented.images[: self.pictures], visible)
        log_picture(
            trainer.loggers, "train/shown", picture, "images, and as the network sees them", trainer.global_step
        )


def draw_training_panel(images: Tensor, presented: Tensor, visible: Tensor | None) -> Tensor:
    """Training images, and below each what the training step makes of it; `mark_hidden` marks what layer masking hides.

    Args:
        images: (B, C, H, W) float in [0, 1], a column for each.
        presented: (B, C, H, W), the images that are given to the network.
        visible: (B, 1, H, W) bool, what layer masking shows of them; None for all.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    shown = presented if visible is None else mark_hidden(presented, visible)
    return draw_grid(torch.cat([images, shown]), columns=len(images))
