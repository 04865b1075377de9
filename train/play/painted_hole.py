"""Predictions for one picture with a hole under each masking method, and the class that the outline pushes."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment import circles_of_equal_area, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explaining import (
    ExplanationRequest,
    count_queries,
    counted,
    explain_image,
    within,
)
from maskrobust.lm_modules.explanation.explanation_plan import ExplainerName, ExplanationPlan
from maskrobust.lm_modules.explanation.overlays import laid_over, score_overlay
from maskrobust.lm_modules.explanation.scores import shown_scores
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.masking import UnsupportedNetworkError
from maskrobust.lm_modules.methods import illustrate
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.explain.pictures import Picture
from maskrobust.train.report.examples import to_pictures

_LIKELIEST, _SEED = 5, 0
_SAMPLES, _BATCH_SIZE = 256, 16
_WINDOWS = 7
"""So many windows of occlusion lie side by side."""

Report = Callable[[float], object]
"""Told which fraction of the queries is answered."""

Pixels = NDArray[np.uint8]
"""(H, W, 3)."""


class Answer(NamedTuple):
    """What one network answers.

    Attributes:
        network: name of the network.
        likeliest: at most five classes and their probabilities.
        push: the class whose probability the outline raises most over a circle of equal area at its centroid, its
            probability behind the hole, and that behind the circle; None for a whole picture.
        refusal: why the network cannot be asked under the method; empty where it can.
    """

    network: str
    likeliest: Sequence[tuple[str, float]] = ()
    push: tuple[str, float, float] | None = None
    refusal: str = ""


class Shown(NamedTuple):
    """What networks answer under one masking method, or about the whole picture.

    Attributes:
        method: the masking method; None for the whole picture.
        picture: what people are shown of it.
        answers: the answers, one for each network.
    """

    method: str | None
    picture: Pixels
    answers: Sequence[Answer]


def class_name(network: TrainedNetwork, position: int) -> str:
    """The first of a class's names; its number where the network does not know it."""
    return f"class {position}" if network.class_names is None else network.class_names[position].partition(",")[0]


def ask_about_hole(
    networks: Sequence[TrainedNetwork], methods: Sequence[str], image: Tensor, hidden: NDArray[np.bool_],
    known: Tensor | None = None,
) -> Iterator[Shown]:  # fmt: skip
    """The answers about the whole picture and, where something is hidden, those under each method.

    Args:
        networks: the networks to ask.
        methods: masking methods.
        image: (3, H, W) float in [0, 1].
        hidden: (H, W) bool, True in the hole.
        known: (1, H, W) bool, what may be seen of the picture at all; None for all of it.

    Raises:
        InputError: the hole covers everything.
    """
    if hidden.all():
        raise InputError("A hole must leave something to be seen, but hides the whole picture; undo or clear it.")
    hole = torch.from_numpy(hidden)[None, None]
    visible = ~torch.cat([hole, circles_of_equal_area(hole)])
    with torch.inference_mode():
        logits = [_about(each, image, known) for each in networks]
        whole = [
            Answer(each.name, _likeliest(each, of.softmax(dim=0))) for each, of in zip(networks, logits, strict=True)
        ]
        yield Shown(None, to_picture(image), whole)
        if not hidden.any():
            return
        shown = visible if known is None else visible & known
        images, keys = image.expand(2, -1, -1, -1), sample_keys(_SEED, torch.zeros(2, dtype=torch.int64))
        for method in methods:
            seen = illustrate(method, images[:1], shown[:1], keys[:1], networks[0].preprocessing.mean)[0]
            yield Shown(method, to_picture(seen), [_answer(each, method, images, shown, keys) for each in networks])


def _answer(network: TrainedNetwork, method: str, images: Tensor, visible: Tensor, keys: Tensor) -> Answer:
    try:
        logits = network.predictor(method)(*(each.to(_device(network)) for each in (images, visible, keys)))
    except UnsupportedNetworkError as error:
        return Answer(network.name, refusal=str(error))
    outline, circle = logits.softmax(dim=1).cpu()
    pushed = int((outline - circle).argmax())
    push = (class_name(network, pushed), float(outline[pushed]), float(circle[pushed]))
    return Answer(network.name, _likeliest(network, outline), push)


def _about(network: TrainedNetwork, image: Tensor, known: Tensor | None) -> Tensor:
    """Logits (C,) of a picture of which nothing is hidden but what it does not show."""
    shown = None if known is None else known[None].to(_device(network))
    return network(image[None].to(_device(network)), shown)[0]  # type: ignore[no-any-return]


def _device(network: TrainedNetwork) -> torch.device:
    return next(network.parameters()).device


def _likeliest(network: TrainedNetwork, probabilities: Tensor) -> list[tuple[str, float]]:
    values, classes = probabilities.topk(min(_LIKELIEST, len(probabilities)))
    return [(class_name(network, each), value) for each, value in zip(classes.tolist(), values.tolist(), strict=True)]


def to_picture(image: Tensor) -> Pixels:
    """(C, H, W) float in [0, 1] as (H, W, 3) uint8, its first three bands."""
    return to_pictures(image[None])[0]


def explain_whole(
    network: TrainedNetwork, methods: Sequence[str], explainer: ExplainerName, picture: Picture, report: Report
) -> tuple[str, list[tuple[str, Pixels]]]:
    """The likeliest class of the whole picture, and the picture with its explanation under each masking method.

    Args:
        network: the network to ask.
        methods: masking methods.
        explainer: name of the explainer.
        picture: the picture.
        report: told how far it is.

    Raises:
        UnsupportedNetworkError: a method is layer masking, which cannot read the network.
        InputError: no method is chosen, or the picture is too small for the explainer's windows or segments.
    """
    image = picture.image
    predictors = [within(network.predictor(method), picture.known) for method in methods]
    if not predictors:
        raise InputError("An explanation asks the network under masking methods, but none is chosen; choose some.")
    on_device = image.to(_device(network))
    window = image.shape[1] // _WINDOWS
    plan = ExplanationPlan((explainer,), _SAMPLES, window=window, stride=window // 2, batch_size=_BATCH_SIZE)
    segments = Segments.superpixels(on_device[None])
    total, answered = 1 + count_queries(plan, image.shape[1], image.shape[2]) * len(predictors), 0

    def tell(images: int) -> None:
        nonlocal answered
        answered += images
        report(min(1.0, answered / total))

    asked = [counted(predict, tell) for predict in predictors]
    request = ExplanationRequest(on_device, [asked], plan, _SEED)
    found = explain_image(request, {"slic": segments}, 1)
    scores = shown_scores(found.explanations[Explained("slic", explainer)].scores[0, :, :, 0], axis=1)
    largest, labels = float(np.abs(scores).max()), found.segments["slic"]
    overlays = [laid_over(to_picture(image), score_overlay(labels, each, largest)) for each in scores]
    return class_name(network, int(found.classes[0])), [*zip(methods, overlays, strict=True)]
