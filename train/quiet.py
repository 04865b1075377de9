"""Lightning's hints and banners, which would bury the output of a command that trains many networks."""

import logging
import warnings


def quiet_lightning() -> None:
    """Keep Lightning's errors and warnings; drop its information lines and hints that do not apply to small runs."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "The '.*_dataloader' does not have many workers")
    warnings.filterwarnings("ignore", "The number of training batches .* is smaller than the logging interval")
    warnings.filterwarnings("ignore", ".isinstance.treespec, LeafSpec.. is deprecated", FutureWarning)
