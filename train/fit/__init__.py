"""`maskrobust fit` and `pretrain`: the command lines of training, checkpoints and loggers."""

import logging
import warnings


def quiet_lightning() -> None:
    """Drop information lines and hints that do not apply to small runs, too, where many networks are trained."""
    drop_distractions()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")


def drop_distractions() -> None:
    """Drop tips to install other products of Lightning's makers, and a question that it asks torch in the old way.

    And that there is a GPU where the CPU was chosen: an Apple GPU cannot be used, any other one by whoever wants it.
    And that `srun` is installed and was not used: a login node of a cluster may train something small.
    """
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: not str(record.msg).startswith("💡 Tip: ")
    )
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec.. is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", "GPU available but not used")
    warnings.filterwarnings("ignore", "The `srun` command is available on your system but is not used")
