"""Lightning's trainer as most tests want it."""

import pytorch_lightning as pl

SILENT = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")


def quiet_trainer(**options) -> pl.Trainer:
    """One on the CPU that writes and shows nothing, unless `options` say otherwise."""
    return pl.Trainer(**{"accelerator": "cpu", **dict.fromkeys(SILENT, False), **options})
