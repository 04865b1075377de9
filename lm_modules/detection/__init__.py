"""Detectors that ignore hidden pixels."""

from maskrobust.lm_modules.detection.detector import MaskedDetector as MaskedDetector
