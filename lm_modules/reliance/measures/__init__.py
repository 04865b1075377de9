"""One file for each measure, or family of measures, of `lm_modules.reliance.catalogue`."""
