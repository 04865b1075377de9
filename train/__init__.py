"""Runs: data modules, the command line, evaluation, the claim and reports. Imports `augment` and `lm_modules`."""
