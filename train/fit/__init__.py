"""`maskrobust fit | validate | test`, and what every training shares: checkpoints and loggers."""
