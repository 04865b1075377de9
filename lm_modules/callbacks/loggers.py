"""Pictures and tables for the loggers that can show them; every other logger gets none."""

from collections.abc import Sequence

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from torch import Tensor


def shows_pictures(loggers: Sequence[Logger]) -> bool:
    """Whether one of the loggers can show a picture."""
    return any(isinstance(logger, WandbLogger | TensorBoardLogger) for logger in loggers)


def log_picture(loggers: Sequence[Logger], name: str, picture: Tensor, caption: str, step: int) -> None:
    """Give a picture to Weights & Biases and to TensorBoard, from the first process alone.

    Args:
        loggers: of the trainer.
        name: under which it is shown.
        picture: (3, height, width) float in [0, 1].
        caption: shown below it by Weights & Biases.
        step: where TensorBoard puts it.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], caption=[caption])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, picture, global_step=step)


def log_table(loggers: Sequence[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Give a table to Weights & Biases, from the first process alone; it takes the place of the last of its name.

    Args:
        loggers: of the trainer.
        name: under which it is shown.
        columns: their headings.
        rows: a value for each column; None for no value.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])
