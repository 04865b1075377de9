"""maskrobust: layer masking for CNNs, training with random masks, and measures of what a network reads from a hole.

The names below are the public interface. Each is imported on first use, so that `maskrobust.LayerMasking` needs torch
and torchvision alone, and nothing of Lightning, albumentations, Weights & Biases or WebDataset.
"""

import importlib
from typing import TYPE_CHECKING, Any

from maskrobust.errors import InputError, about_library

if TYPE_CHECKING:
    from maskrobust.augment import FAMILIES as FAMILIES
    from maskrobust.augment import FILLS as FILLS
    from maskrobust.augment import Batch as Batch
    from maskrobust.augment import RandomMasking as RandomMasking
    from maskrobust.augment import SilhouetteBank as SilhouetteBank
    from maskrobust.augment import apply_fill as apply_fill
    from maskrobust.augment import build_family as build_family
    from maskrobust.augment import draw as draw
    from maskrobust.augment import draw_hidden_fraction as draw_hidden_fraction
    from maskrobust.augment import fill as fill
    from maskrobust.augment import fold_in as fold_in
    from maskrobust.augment import mask_family as mask_family
    from maskrobust.augment import patches as patches
    from maskrobust.augment import sample_keys as sample_keys
    from maskrobust.augment import uniform as uniform
    from maskrobust.lm_modules.architectures import build_network as build_network
    from maskrobust.lm_modules.centring import centred as centred
    from maskrobust.lm_modules.classifier import MaskRobustClassifier as MaskRobustClassifier
    from maskrobust.lm_modules.explanation.adapters import NanNetwork as NanNetwork
    from maskrobust.lm_modules.explanation.adapters import coalition_game as coalition_game
    from maskrobust.lm_modules.explanation.adapters import nan_classifier as nan_classifier
    from maskrobust.lm_modules.explanation.adapters import visibility_forward as visibility_forward
    from maskrobust.lm_modules.explanation.answers import Queries as Queries
    from maskrobust.lm_modules.explanation.answers import ask as ask
    from maskrobust.lm_modules.explanation.linear import Explanation as Explanation
    from maskrobust.lm_modules.explanation.linear import kernel_shap as kernel_shap
    from maskrobust.lm_modules.explanation.linear import lime as lime
    from maskrobust.lm_modules.explanation.occlusion import leave_one_out as leave_one_out
    from maskrobust.lm_modules.explanation.occlusion import occlusion as occlusion
    from maskrobust.lm_modules.explanation.occlusion import window_occlusion as window_occlusion
    from maskrobust.lm_modules.explanation.occlusion import window_queries as window_queries
    from maskrobust.lm_modules.explanation.rise import rise as rise
    from maskrobust.lm_modules.explanation.sampling import all_coalitions as all_coalitions
    from maskrobust.lm_modules.explanation.sampling import draw_balanced as draw_balanced
    from maskrobust.lm_modules.explanation.sampling import draw_coalitions as draw_coalitions
    from maskrobust.lm_modules.explanation.sampling import draw_independent as draw_independent
    from maskrobust.lm_modules.explanation.sampling import draw_paper_protocol as draw_paper_protocol
    from maskrobust.lm_modules.explanation.sampling import with_ends as with_ends
    from maskrobust.lm_modules.explanation.segments import Segments as Segments
    from maskrobust.lm_modules.loading import load_network as load_network
    from maskrobust.lm_modules.masking import LayerMasking as LayerMasking
    from maskrobust.lm_modules.masking import Masked as Masked
    from maskrobust.lm_modules.masking import UnsupportedNetworkError as UnsupportedNetworkError
    from maskrobust.lm_modules.masking import masking_rule as masking_rule
    from maskrobust.lm_modules.methods import feature_extractor as feature_extractor
    from maskrobust.lm_modules.methods import masking_methods as masking_methods
    from maskrobust.lm_modules.methods import predictor as predictor
    from maskrobust.lm_modules.preprocessing import Preprocessing as Preprocessing
    from maskrobust.lm_modules.reliance.catalogue import measure as measure
    from maskrobust.lm_modules.reliance.catalogue import where_shapes as where_shapes
    from maskrobust.lm_modules.reliance.estimation import Estimate as Estimate
    from maskrobust.lm_modules.reliance.estimation import Statistic as Statistic
    from maskrobust.lm_modules.reliance.estimation import right_answers as right_answers
    from maskrobust.lm_modules.reliance.plan import ReliancePlan as ReliancePlan
    from maskrobust.lm_modules.token_dropping import TokenDropping as TokenDropping
    from maskrobust.lm_modules.trained_network import TrainedNetwork as TrainedNetwork

_HOMES = {
    "augment": (
        "FAMILIES",
        "FILLS",
        "Batch",
        "RandomMasking",
        "SilhouetteBank",
        "apply_fill",
        "build_family",
        "draw",
        "draw_hidden_fraction",
        "fill",
        "fold_in",
        "mask_family",
        "patches",
        "sample_keys",
        "uniform",
    ),
    "lm_modules.architectures": ("build_network",),
    "lm_modules.centring": ("centred",),
    "lm_modules.classifier": ("MaskRobustClassifier",),
    "lm_modules.explanation.adapters": ("NanNetwork", "coalition_game", "nan_classifier", "visibility_forward"),
    "lm_modules.explanation.answers": ("Queries", "ask"),
    "lm_modules.explanation.linear": ("Explanation", "kernel_shap", "lime"),
    "lm_modules.explanation.occlusion": ("leave_one_out", "occlusion", "window_occlusion", "window_queries"),
    "lm_modules.explanation.rise": ("rise",),
    "lm_modules.explanation.sampling": (
        "all_coalitions",
        "draw_balanced",
        "draw_coalitions",
        "draw_independent",
        "draw_paper_protocol",
        "with_ends",
    ),
    "lm_modules.explanation.segments": ("Segments",),
    "lm_modules.loading": ("load_network",),
    "lm_modules.masking": ("LayerMasking", "Masked", "UnsupportedNetworkError", "masking_rule"),
    "lm_modules.methods": ("feature_extractor", "masking_methods", "predictor"),
    "lm_modules.preprocessing": ("Preprocessing",),
    "lm_modules.reliance.catalogue": ("measure", "where_shapes"),
    "lm_modules.reliance.estimation": ("Estimate", "Statistic", "right_answers"),
    "lm_modules.reliance.plan": ("ReliancePlan",),
    "lm_modules.token_dropping": ("TokenDropping",),
    "lm_modules.trained_network": ("TrainedNetwork",),
}
_PACKAGES = ("augment", "lm_modules", "train")
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - the table above is the one place that lists the public names


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("maskrobust")
    if name in _PACKAGES:
        return importlib.import_module(f"maskrobust.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'maskrobust' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(f"maskrobust.{_HOME_OF[name]}"), name)
    except ImportError as error:
        raise InputError(about_library(error)) from error


def __dir__() -> list[str]:
    return [*__all__, "__version__", *_PACKAGES]
