"""Send pictures, tables and goals of metrics to the loggers that can show them (Weights & Biases, TensorBoard).

They may be those of the package `lightning`, whose classes are others than those of `pytorch_lightning`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from maskrobust.augment.batch import in_colours
from maskrobust.lm_modules.reliance.catalogue import Goal

_SUMMARIES: Mapping[Goal, str] = {"high": "last,max", "low": "last,min"}


def is_a(kind: str, value: object) -> bool:
    """Whether a value is of a class of that name, of whichever package."""
    return any(each.__name__ == kind for each in type(value).__mro__)


def shows_pictures(loggers: Sequence[object]) -> bool:
    """Whether one of the loggers can show a picture."""
    return any(is_a("WandbLogger", logger) or is_a("TensorBoardLogger", logger) for logger in loggers)


def log_picture(loggers: Sequence[Any], name: str, picture: Tensor, caption: str, step: int) -> None:
    """Give a picture to Weights & Biases and to TensorBoard, from the first process alone.

    Args:
        loggers: loggers of the trainer.
        name: under which it is shown.
        picture: (3, height, width) float in [0, 1].
        caption: shown below it by Weights & Biases.
        step: where TensorBoard puts it.
    """
    for logger in loggers:
        if is_a("WandbLogger", logger):
            logger.log_image(name, [to_pil_image(picture)], caption=[caption])  # wandb takes a tensor for 0 to 255
        elif is_a("TensorBoardLogger", logger):
            logger.experiment.add_image(name, picture, global_step=step)


def log_table(loggers: Sequence[Any], name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Give a table to Weights & Biases, from the first process alone; it takes the place of the last of its name.

    Args:
        loggers: loggers of the trainer.
        name: under which it is shown.
        columns: headings of the columns.
        rows: a value for each column; None for no value.
    """
    for logger in loggers:
        if is_a("WandbLogger", logger):
            logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])


def define_metric(loggers: Sequence[Any], name: str, *, goal: Goal = "none", hidden: bool = False) -> None:
    """Tell Weights & Biases how to sum a metric up and whether to draw it.

    Its summary has the last value, and the largest with the goal "high" or the smallest with "low".

    Args:
        loggers: loggers of the trainer.
        name: under which its values are logged.
        goal: which values are wished for.
        hidden: logged, but given no chart of its own.
    """
    literal = name.replace(".", r"\.")  # W&B reads "a.b" as the entry b of a dict a
    for logger in loggers:
        if is_a("WandbLogger", logger):
            logger.experiment.define_metric(
                literal, step_metric="trainer/global_step", summary=_SUMMARIES.get(goal, "last"), hidden=hidden
            )


def draw_grid(cells: Tensor, columns: int, bands: Sequence[int] | None = None) -> Tensor:
    """Pictures (N, C, H, W) in [0, 1] in rows of so many columns, with white lines between: (3, height, width).

    `bands` are shown, as `in_colours` takes them.
    """
    grid: Tensor = make_grid(in_colours(cells, bands).float().cpu(), nrow=columns, pad_value=1.0)
    return grid
