"""`explain_image`: explain one image by several explainers, networks and masking methods, on the same holes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.asking import Queries, ask, channels_last_batch
from maskrobust.lm_modules.explanation.explained import Answers, Explained, ExplainedImage, Explanation
from maskrobust.lm_modules.explanation.explanation_plan import ExplanationPlan
from maskrobust.lm_modules.explanation.lime import draw_independent, draw_paper_protocol, lime
from maskrobust.lm_modules.explanation.occlusion import occlusion, occlusion_queries, segment_means
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.masking.layer_masking import mode
from maskrobust.lm_modules.methods import WRAPPERS, MaskingMethod, Predictor, check_methods, predictor
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import IntArray


@dataclass(frozen=True)
class ExplanationRequest:
    """One image to explain, with its networks under each masking method, the plan and a key.

    Attributes:
        image: (C, H, W) float in [0, 1], on the networks' device.
        predictors: the predictors, R networks x T masking methods; all networks have the same classes.
        plan: which explainers, and what is asked.
        key: int64; decides queries and random fills.
    """

    image: Tensor
    predictors: Sequence[Sequence[Predictor]]
    plan: ExplanationPlan
    key: int


def counted(predict: Predictor, told: Callable[[int], object]) -> Predictor:
    """The same predictor; `told` is given how many images it is asked about each time."""

    def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        told(len(images))
        return predict(images, visible, keys)

    return ask


def within(predict: Predictor, known: Tensor | None) -> Predictor:
    """The same predictor of an image of which no more than `known`, (1, H, W) bool, may be seen; None for all of it."""

    def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        return predict(images, visible if known is None else visible & known.to(visible.device), keys)

    return ask


def explain(
    network: nn.Module,
    image: Tensor,
    method: MaskingMethod = "layer_masking",
    target: int | Sequence[int] | None = None,
    *,
    segments: Segments | None = None,
    plan: ExplanationPlan | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    seed: int = 0,
) -> Explanation:
    """Explain a prediction by hiding parts of the image: how much does each part speak for a class?

    Args:
        network: a `TrainedNetwork`, such as `load_network` returns, which has its own preprocessing; or any module that
            takes normalised images and returns logits. It is asked in eval mode, and left in the mode that it is in.
        image: (C, H, W) float in [0, 1], not normalised, on the network's device.
        method: masking method, a name of `masking_methods`.
        target: the class to explain, or several; None for the likeliest.
        segments: the parts, of this one image; by default SLIC's superpixels, which need scikit-image.
        plan: how it is explained; by default by LIME. Of several explainers the first explains.
        mean: the mean by which images are normalised for a module that is no `TrainedNetwork`, and for its fill "mean".
        std: likewise.
        seed: decides queries and random fills.

    Returns:
        Scores and bounds (H, W, K) for K classes, those of its segment at each pixel, and R^2 (K,).

    Raises:
        InputError: `image` or `target` is out of its range, the method is unknown, there are too few queries for the
            segments, or answers are not finite.
        UnsupportedNetworkError: `method` is one that gives the hole to the network, and cannot read it.
    """
    batch = channels_last_batch(image)
    plan = plan or ExplanationPlan(("lime",))
    plan = replace(plan, explainers=plan.explainers[:1])
    segments = segments or Segments.superpixels(batch)
    classes = 1 if target is None else [target] if isinstance(target, int) else [*target]
    with mode(network, training=False):
        if isinstance(network, TrainedNetwork):
            predict = network.predictor(method)
        else:
            check_methods((method,), "method")
            wrap = WRAPPERS.get(method)
            predict = predictor(network if wrap is None else wrap(network), method, mean, std)
        request = ExplanationRequest(image, [[predict]], plan, seed)
        (found,) = explain_image(request, {"": segments}, classes).explanations.values()
    scores, low, high = (segments.heat_map(0, each[0, 0]) for each in found[:3])
    return Explanation(scores, low, high, found.r_squared[0, 0])


def count_queries(plan: ExplanationPlan, height: int, width: int, partitions: int = 1) -> int:
    """Queries about one image of one network under one masking method; see `explain_image`."""
    count = partitions * plan.drawn_samples if "lime" in plan.explainers else 0
    if "occlusion" in plan.explainers:
        count += len(occlusion_queries(height, width, plan.window, plan.window_stride).areas)
    return count


def explain_image(
    request: ExplanationRequest, partitions: Mapping[str, Segments], classes: int | Sequence[int]
) -> ExplainedImage:
    """Explain what networks predict for one image, under each masking method.

    Args:
        request: about the image.
        partitions: the partitions of this one image by name, on its device.
        classes: the classes that are explained, or how many of those that the first network finds likeliest for the
            whole image.

    Returns:
        Answers on the plan's scale, and explanations.

    Raises:
        InputError: a class is none of the network's, there are too few queries for the segments, or answers are not
            finite.
    """
    image, plan, key = request.image, request.plan, request.key
    nothing_hidden = Queries.of(torch.ones_like(image[None, :1], dtype=torch.bool))
    whole = np.concatenate([ask(of_network[0], image, nothing_hidden, key) for of_network in request.predictors])
    chosen = whole[0].argsort(kind="stable")[::-1][:classes] if isinstance(classes, int) else np.array(classes)
    chosen = chosen.astype(np.int64)
    if not ((chosen >= 0) & (chosen < whole.shape[1])).all():
        raise InputError(
            f"classes to explain must lie in [0, {whole.shape[1]}), as the network has so many outputs, got "
            f"{chosen.tolist()}; give the number of an output."
        )
    found = ExplainedImage(chosen, whole.argmax(axis=1), whole.max(axis=1), whole[:, chosen])
    place = (image.shape[1], image.shape[2], plan.window, plan.window_stride)
    if "occlusion" in plan.explainers:
        values = _answers(request, occlusion_queries(*place, image.device), chosen)
        found.answers["", "windows"] = Answers(np.zeros((0, 0), dtype=np.bool_), values)
        falls = [[occlusion(table, *place) for table in of_network] for of_network in values.astype(np.float64)]
    for name, segments in partitions.items():
        labels = segments.labels[0].cpu().numpy()
        found.segments[name] = labels.astype(np.int32)
        if "lime" in plan.explainers:
            z = _drawn(plan, segments.count(0), key)
            values = _answers(request, segments.queries(0, z), chosen)
            found.answers[name, "drawn"] = Answers(z.numpy(), values)
            fits = [[lime(z, table) for table in of_network] for of_network in values.astype(np.float64)]
            parts = (np.array([[each[part] for each in of_network] for of_network in fits]) for part in range(4))
            found.explanations[Explained(name, "lime")] = Explanation(*parts)
        if "occlusion" in plan.explainers:
            scores = np.array([[segment_means(labels, heat) for heat in of_network] for of_network in falls])
            unknown = np.full_like(scores, np.nan)
            found.explanations[Explained(name, "occlusion")] = Explanation(scores, unknown, unknown, unknown[..., 0, :])
    return found


def _drawn(plan: ExplanationPlan, count: int, key: int) -> Tensor:
    """The queries (N, count) of LIME, enough of them to fit its surrogate."""
    if plan.drawn_samples < count + 3:
        raise InputError(
            f"{count} segments need at least {count + 3} samples, got {plan.drawn_samples}; draw more, or take larger "
            "segments."
        )
    if plan.design == "paper":
        return draw_paper_protocol(key, count)
    return draw_independent(key, plan.samples, count, plan.visible_range)


def _answers(request: ExplanationRequest, queries: Queries, classes: IntArray) -> NDArray[np.float32]:
    """Answers (R, T, N, C) float32 of every network under every masking method."""
    image, plan, key = request.image, request.plan, request.key

    def answers(predict: Predictor) -> NDArray[np.float32]:
        table = ask(predict, image, queries, key, batch_size=plan.batch_size, scale=plan.answer_scale)
        return table[:, classes].astype(np.float32)

    return np.array([[answers(predict) for predict in of_network] for of_network in request.predictors])
