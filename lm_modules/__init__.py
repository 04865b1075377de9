"""The network: layer masking, the LightningModule, objectives, reliance measures. Imports augment alone."""

from lm_modules.architectures import SmallResNet, build_network, known_architectures
from lm_modules.calibration import AffineCalibration, calibrated, fit_calibration
from lm_modules.classifier import MaskRobustClassifier
from lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError, masking_rule
from lm_modules.methods import (
    MASKING_METHODS,
    FeatureExtractor,
    MaskingMethod,
    Predictor,
    feature_extractor,
    normalise,
    predictor,
)
from lm_modules.weights import load_weights, read_state_dict

__all__ = [
    "MASKING_METHODS",
    "AffineCalibration",
    "FeatureExtractor",
    "LayerMasking",
    "MaskRobustClassifier",
    "Masked",
    "MaskingMethod",
    "Predictor",
    "SmallResNet",
    "UnsupportedNetworkError",
    "build_network",
    "calibrated",
    "feature_extractor",
    "fit_calibration",
    "known_architectures",
    "load_weights",
    "masking_rule",
    "normalise",
    "predictor",
    "read_state_dict",
]
