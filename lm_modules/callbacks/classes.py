"""`ClassAnswers`, which shows after each validation how the images of each class were answered."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image
from torchvision.utils import save_image

from maskrobust.lm_modules.callbacks.logged_pictures import log_picture, log_table
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.processes import BalancedAccuracy, recalls

TABLE_COLUMNS = ("class", "images", "accuracy")
_MOST_NAMED, _CELL, _SIDE = 50, 20, 1000
"""Classes whose names stand beside their rows, with cells of so many pixels; otherwise the side of the picture."""


class ClassAnswers(pl.Callback):
    """Shows after each validation of a `MaskRobustClassifier` how the images of each class were answered.

    Beside the logs lie classes.csv, with a line for each class (its images, its accuracy, and how many of these images
    were answered as each class), and confusion.png, which `draw_confusion` draws. Weights & Biases and TensorBoard get
    that picture as ``val/confusion``, Weights & Biases also the accuracies as the table ``val/classes``.
    """

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and write what the validation has counted."""
        folder = trainer.log_dir  # a collective operation: every process must ask
        if trainer.sanity_checking or not trainer.is_global_zero or not trainer.loggers or folder is None:
            return
        assert isinstance(pl_module, MaskRobustClassifier)
        balanced = pl_module.metrics["val/balanced_accuracy"]
        assert isinstance(balanced, BalancedAccuracy)
        confusion = balanced.confusion
        data = getattr(trainer, "datamodule", None)
        names = [*getattr(data, "class_names", map(str, range(len(confusion))))]
        counts, accuracies = confusion.sum(dim=1).tolist(), recalls(confusion).tolist()
        known = zip(names, counts, accuracies, strict=True)
        rows = [[name, count, share if count else None] for name, count, share in known]
        Path(folder).mkdir(parents=True, exist_ok=True)
        with (Path(folder) / "classes.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*TABLE_COLUMNS, *(f"as {name}" for name in names)])
            writer.writerows([*row, *answered] for row, answered in zip(rows, confusion.tolist(), strict=True))
        picture = draw_confusion(confusion, names)
        save_image(picture, Path(folder) / "confusion.png")
        caption = f"epoch {trainer.current_epoch + 1}: a row for each class, a column for each answer, darker for more"
        log_picture(trainer.loggers, "val/confusion", picture, caption, trainer.global_step)
        log_table(trainer.loggers, "val/classes", TABLE_COLUMNS, rows)


def draw_confusion(confusion: Tensor, names: Sequence[str]) -> Tensor:
    """A row for each class, its cells the darker the more of its images were answered as the class of their column.

    Args:
        confusion: (K, K) counts, of images of a class (row) with an answer (column).
        names: of the classes; up to 50 stand beside the rows, with the accuracy, and right answers are framed.

    Returns:
        (3, height, width) float32 in [0, 1].
    """
    shares = confusion / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    is_named = len(names) <= _MOST_NAMED
    side = len(names) * _CELL if is_named else max(_SIDE, len(names))
    grey = to_pil_image((1 - shares.float()).cpu()[None]).resize((side, side), Image.Resampling.NEAREST)
    told = [f"{name[:40]}  {100 * share:.0f} %" for name, share in zip(names, shares.diagonal().tolist(), strict=True)]
    font = ImageFont.load_default(12)
    left = round(max(font.getlength(each) for each in told)) + 12 if is_named else 0
    picture = Image.new("RGB", (left + side, side), "white")
    picture.paste(grey, (left, 0))
    pen = ImageDraw.Draw(picture)
    for place, each in enumerate(told if is_named else ()):
        pen.text((left - 6, (place + 0.5) * _CELL), each, "black", font, anchor="rm")
        corner = (left + place * _CELL, place * _CELL)
        pen.rectangle((*corner, corner[0] + _CELL - 1, corner[1] + _CELL - 1), outline="grey")
    drawn: Tensor = pil_to_tensor(picture) / 255
    return drawn
