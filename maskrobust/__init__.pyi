from . import augment as augment, lm_modules as lm_modules, train as train
from .augment import (
    FAMILIES as FAMILIES,
    FILLS as FILLS,
    Batch as Batch,
    RandomMasking as RandomMasking,
    SilhouetteBank as SilhouetteBank,
    apply_fill as apply_fill,
    build_family as build_family,
    draw as draw,
    draw_hidden_fraction as draw_hidden_fraction,
    fill as fill,
    fold_in as fold_in,
    mask_family as mask_family,
    pad_batch as pad_batch,
    pad_collate as pad_collate,
    patches as patches,
    sample_keys as sample_keys,
    uniform as uniform,
    visible_from as visible_from,
)
from .lm_modules.callbacks.reliance import RelianceCallback as RelianceCallback
from .lm_modules.detection import MaskedDetector as MaskedDetector, visible_fraction as visible_fraction
from .lm_modules.explanation.adapters import (
    NanNetwork as NanNetwork,
    nan_classifier as nan_classifier,
    visibility_forward as visibility_forward,
)
from .lm_modules.explanation.asking import Queries as Queries, ask as ask
from .lm_modules.explanation.explained import Explanation as Explanation
from .lm_modules.explanation.explaining import (
    ExplanationRequest as ExplanationRequest,
    explain as explain,
    explain_image as explain_image,
)
from .lm_modules.explanation.explanation_plan import ExplanationPlan as ExplanationPlan
from .lm_modules.explanation.lime import (
    draw_independent as draw_independent,
    draw_paper_protocol as draw_paper_protocol,
    lime as lime,
)
from .lm_modules.explanation.occlusion import occlusion as occlusion, occlusion_queries as occlusion_queries
from .lm_modules.explanation.segments import Segments as Segments
from .lm_modules.loading import load_network as load_network
from .lm_modules.masking import (
    LayerMasking as LayerMasking,
    Masked as Masked,
    UnsupportedNetworkError as UnsupportedNetworkError,
    masking_rule as masking_rule,
)
from .lm_modules.methods import (
    masking_methods as masking_methods,
    predictor as predictor,
)
from .lm_modules.networks.architectures import build_network as build_network
from .lm_modules.networks.onnx_model import onnx_model as onnx_model
from .lm_modules.networks.preprocessing import Preprocessing as Preprocessing
from .lm_modules.networks.trained_network import TrainedNetwork as TrainedNetwork
from .lm_modules.reliance.catalogue import measure as measure, where_shapes as where_shapes
from .lm_modules.reliance.estimates.estimation import (
    Estimate as Estimate,
    Statistic as Statistic,
    right_answers as right_answers,
)
from .lm_modules.reliance.plan import ReliancePlan as ReliancePlan
from .lm_modules.training.classifier import MaskRobustClassifier as MaskRobustClassifier
from .lm_modules.training.objectives import objective as objective
from .lm_modules.training.pretraining import MaskedPretraining as MaskedPretraining
from .lm_modules.training.segmenter import MaskRobustSegmenter as MaskRobustSegmenter
from .train.predict.answers import Prediction as Prediction, predict as predict

__version__: str
