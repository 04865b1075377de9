"""Detectors that ignore hidden pixels."""

from maskrobust.lm_modules.detection.boxes import visible_fraction as visible_fraction
from maskrobust.lm_modules.detection.detector import MaskedDetector as MaskedDetector
