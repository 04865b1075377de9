"""Grad-CAM, through pytorch-grad-cam: where the last convolutional map raises a class. It hides nothing."""

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.explainers.occlusion import segment_means
from maskrobust.lm_modules.explanation.explainers.registry import Question, explainer
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray


def grad_cam(network: TrainedNetwork, image: Tensor, classes: IntArray) -> FloatArray:
    """Grad-CAM of the logit of each class at the last convolutional map (`last_map`).

    Layer masking with everything visible is the plain network, so that the map belongs to no masking method. Gradients
    of the network's parameters are cleared.

    Source: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV
    2017, section 3.

    Args:
        network: a convolutional network.
        image: (C, H, W) float in [0, 1], on the network's device.
        classes: (C,) int64.

    Returns:
        (H * W, C) float64 in [0, 1], row by row: each map is scaled to this range; 0 where the network's crop cuts the
        picture.

    Raises:
        InputError: pytorch-grad-cam cannot be imported, or the network has no such map.
    """
    of_package = _pytorch_grad_cam()
    height, width = image.shape[1:]
    shown = network.preprocessing
    inside = shown.cut(torch.arange(height * width).reshape(1, 1, height, width)).flatten().numpy()
    whole = network.configured(preprocessing=replace(shown, crop=1.0))
    seen = shown.cut(image[None]).clone().requires_grad_()  # gradients reach the map of a frozen network, too
    found = np.zeros((height * width, len(classes)))
    # NumPy has no bfloat16; and a later layer may write into the map's memory.
    to_float32 = {"reshape_transform": lambda features: features.to(torch.float32, copy=True)}
    with of_package.GradCAM(whole, [last_map(whole, seen.detach())], **to_float32) as of_class:
        for place, label in enumerate(classes):
            found[inside, place] = of_class(seen, [itemgetter(int(label))]).ravel()
    whole.zero_grad()
    return found


def last_map(network: TrainedNetwork, image: Tensor) -> nn.Module:
    """The module that returns the last convolutional map, as "layer4" of a ResNet does.

    It is the last of the modules called once that return features at more than one position.

    Args:
        network: asked once.
        image: (1, C, H, W) float in [0, 1].

    Raises:
        InputError: these features are no map (1, C, h, w) of the image's proportions, as in vision transformers, or
            there are none.
    """
    calls: Counter[nn.Module] = Counter()
    shapes: dict[nn.Module, torch.Size] = {}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        calls[module] += 1
        shapes.pop(module, None)
        if isinstance(output, Tensor) and output.ndim > 2 and output.numel() > output.shape[1]:
            shapes[module] = output.shape

    with ExitStack() as hooks, torch.no_grad():
        for module in network.network.modules():
            hooks.enter_context(module.register_forward_hook(note))
        network(image)
    height, width = network.preprocessing.size or image.shape[2:]
    for module, shape in reversed(shapes.items()):
        if calls[module] == 1:
            if len(shape) == 4 and 0.5 < shape[2] * width / (shape[3] * height) < 2:
                return module
            break
    raise InputError(
        f"grad_cam needs a convolutional map ahead of the network's head, but '{network.name}' has none there (vision "
        "transformers have none); take grad_cam out of the explainers."
    )


def _pytorch_grad_cam() -> Any:
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise InputError(
            f"grad_cam is computed by pytorch-grad-cam, which cannot be imported ({error}); install it with pip "
            "install 'maskrobust[grad_cam]'."
        ) from error
    return pytorch_grad_cam


def _ask_nothing_hidden(_plan: ExplanationPlan, segments: Segments, _key: int) -> Question:
    _pytorch_grad_cam()
    return Question("grad_cam", Queries.of(torch.ones_like(segments.labels[:1, None], dtype=torch.bool)), None)


@explainer("grad_cam", title="Grad-CAM, nothing hidden", asks=_ask_nothing_hidden, reads_network=grad_cam)
def _grad_cam(_plan: ExplanationPlan, segments: Segments, _z: Tensor, answers: FloatArray) -> Explanation:
    heat = answers.reshape(*segments.labels.shape[1:], -1)
    return Explanation.without_interval(segment_means(segments, heat))
