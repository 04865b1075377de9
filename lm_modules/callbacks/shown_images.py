"""Pictures of the training images as the network sees them."""

import pytorch_lightning as pl

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.loggers import log_picture, shows_pictures
from maskrobust.lm_modules.callbacks.panel import draw_training_panel
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier


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
        if pictures < 1:
            raise InputError(f"pictures must be at least 1, got {pictures}; give a larger number.")
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
        if not isinstance(pl_module, MaskRobustClassifier):
            raise InputError(
                f"ShownImages shows what a MaskRobustClassifier sees, got {type(pl_module).__name__}; leave it out."
            )
        presented = pl_module.present(batch)
        visible = None if presented.visible is None else presented.visible[: self.pictures]
        picture = draw_training_panel(batch.images[: self.pictures], presented.images[: self.pictures], visible)
        log_picture(
            trainer.loggers, "train/shown", picture, "images, and as the network sees them", trainer.global_step
        )
