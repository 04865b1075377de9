"""Commands, data modules, evaluation, claims and reports. Imports `augment` and `lm_modules`."""
