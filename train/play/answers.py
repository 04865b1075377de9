"""What networks answer about one picture with a hole, under each masking method, and which class its outline pushes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment import circles_of_equal_area, sample_keys
from maskrobust.augment.fills.drawing import to_pixels
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.overlays import laid_over, score_overlay, shown_scores
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.masking import UnsupportedNetworkError
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, illustrate
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

_LIKELIEST = 5
_SAMPLES, _BATCH_SIZE = 256, 16
_WINDOWS = 7
"""So many windows of occlusion lie side by side."""

Pixels = NDArray[np.uint8]
"""(H, W, 3)."""


class Push(NamedTuple):
    """The class whose probability the outline of a hole raises most, over a circle of equal area at its centroid.

    Attributes:
        name: of the class.
        outline: its probability behind the hole.
        circle: its probability behind the circle.
    """

    name: str
    outline: float
    circle: float


class Answer(NamedTuple):
    """What one network answers.

    Attributes:
        network: its name.
        likeliest: at most five classes and their probabilities.
        push: None for a whole picture.
        refusal: why the network cannot be asked under the method; empty where it can.
    """

    network: str
    likeliest: Sequence[tuple[str, float]] = ()
    push: Push | None = None
    refusal: str = ""


class Shown(NamedTuple):
    """What networks answer under one masking method, or about the whole picture.

    Attributes:
        method: the masking method; None for the whole picture.
        picture: what people are shown of it.
        answers: one for each network.
    """

    method: MaskingMethod | None
    picture: Pixels
    answers: Sequence[Answer]


def class_name(network: TrainedNetwork, position: int) -> str:
    """The first of a class's names; its number where the network does not know it."""
    return f"class {position}" if network.class_names is None else network.class_names[position].partition(",")[0]


def ask_about_hole(
    networks: Sequence[TrainedNetwork],
    methods: Sequence[MaskingMethod],
    image: Tensor,
    hidden: NDArray[np.bool_],
    seed: int,
) -> Iterator[Shown]:
    """The answers about the whole picture and, where something is hidden, those under each method.

    Args:
        networks: to ask.
        methods: masking methods.
        image: (3, H, W) float in [0, 1].
        hidden: (H, W) bool, True in the hole.
        seed: of random fills.

    Raises:
        InputError: the hole covers everything.
    """
    if hidden.all():
        raise InputError("A hole must leave something to be seen, but hides the whole picture; undo or clear it.")
    hole = torch.from_numpy(hidden)[None, None]
    visible = ~torch.cat([hole, circles_of_equal_area(hole)])
    with torch.inference_mode():
        whole = [Answer(each.name, _likeliest(each, _whole(each, image))) for each in networks]
        yield Shown(None, _pixels(image), whole)
        if not hidden.any():
            return
        images, keys = image.expand(2, -1, -1, -1), sample_keys(seed, torch.zeros(2, dtype=torch.int64))
        for method in methods:
            seen = illustrate(method, images[:1], visible[:1], keys[:1], networks[0].preprocessing.mean)[0]
            yield Shown(method, _pixels(seen), [_answer(each, method, images, visible, keys) for each in networks])


def _answer(network: TrainedNetwork, method: MaskingMethod, images: Tensor, visible: Tensor, keys: Tensor) -> Answer:
    device = next(network.parameters()).device
    try:
        logits = network.predictor(method)(images.to(device), visible.to(device), keys.to(device))
    except UnsupportedNetworkError as error:
        return Answer(network.name, refusal=str(error))
    outline, circle = logits.softmax(dim=1).cpu()
    pushed = int((outline - circle).argmax())
    push = Push(class_name(network, pushed), float(outline[pushed]), float(circle[pushed]))
    return Answer(network.name, _likeliest(network, outline), push)


def _whole(network: TrainedNetwork, image: Tensor) -> Tensor:
    """The probability of each class for the whole picture, on the CPU."""
    probabilities: Tensor = network(image[None].to(next(network.parameters()).device)).softmax(dim=1)[0].cpu()
    return probabilities


def _likeliest(network: TrainedNetwork, probabilities: Tensor) -> list[tuple[str, float]]:
    values, classes = probabilities.topk(min(_LIKELIEST, len(probabilities)))
    return [
        (class_name(network, position), value)
        for position, value in zip(classes.tolist(), values.tolist(), strict=True)
    ]


def _pixels(image: Tensor) -> Pixels:
    """(3, H, W) float in [0, 1] as (H, W, 3) uint8."""
    return to_pixels(image, torch.uint8).permute(1, 2, 0).cpu().numpy()


def explain_whole(
    network: TrainedNetwork,
    methods: Sequence[MaskingMethod],
    explainer: str,
    image: Tensor,
    seed: int,
    report: Callable[[float], object],
) -> tuple[str, list[tuple[MaskingMethod, Pixels]]]:
    """The likeliest class of the whole picture, and the picture with its explanation under each masking method.

    Args:
        network: to ask.
        methods: masking methods; those that the network refuses are left out.
        explainer: its name.
        image: (3, H, W) float in [0, 1].
        seed: of the queries.
        report: told which fraction of the queries is answered.

    Raises:
        InputError: no method is left, or the picture is too small for the explainer's windows or segments.
    """
    predictors = dict(_usable(network, methods))
    if not predictors:
        raise InputError(f"'{network.name}' takes none of the chosen masking methods; choose another one.")
    on_device = image.to(next(network.parameters()).device)
    window = image.shape[1] // _WINDOWS
    plan = ExplanationPlan(
        (explainer,), samples=_SAMPLES, window=window, stride=max(1, window // 2), batch_size=_BATCH_SIZE
    )
    segments = Segments.superpixels(on_device[None])
    queries = len(find_explainer(explainer).asks(plan, segments, seed).queries.areas)
    total, asked = 1 + queries * len(predictors), 0

    def counted(predict: Predictor) -> Predictor:
        def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
            nonlocal asked
            asked += len(images)
            report(min(1.0, asked / total))
            return predict(images, visible, keys)

        return ask

    request = ExplanationRequest(on_device, [[*map(counted, predictors.values())]], plan, seed)
    found = explain_image(request, {"slic": segments}, 1)
    scores = shown_scores(explainer, found.explanations[Explained("slic", explainer)].scores[0, :, :, 0], axis=1)
    largest, labels = float(np.abs(scores).max()), found.segments["slic"]
    overlays = [laid_over(_pixels(image), score_overlay(labels, each, largest)) for each in scores]
    return class_name(network, int(found.classes[0])), [*zip(predictors, overlays, strict=True)]


def _usable(network: TrainedNetwork, methods: Sequence[MaskingMethod]) -> Iterator[tuple[MaskingMethod, Predictor]]:
    for method in methods:
        try:
            yield method, network.predictor(method)
        except UnsupportedNetworkError:
            continue
