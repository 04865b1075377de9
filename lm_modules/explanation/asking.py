"""`ask`: a network's predictions for many masks of one image, as one table for every class and every explainer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in
from maskrobust.augment.batch import check_tensor
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray

Scale = Literal["probability", "logit", "log_odds"]


@dataclass(frozen=True)
class Queries:
    """Masks of one image with which a network is asked, made a batch at a time.

    Attributes:
        areas: (N,) int64 on the CPU, visible pixels of each.
        visible: positions (n,) int64 on the image's device -> (n, 1, H, W) bool there.
    """

    areas: Tensor
    visible: Callable[[Tensor], Tensor]

    @staticmethod
    def of(visible: Tensor) -> "Queries":
        """Queries about maps (N, 1, H, W) bool that are there already, such as those of a mask family.

        Raises:
            TypeError: they are no tensor.
        """
        check_tensor("visible", visible)
        return Queries(visible.flatten(1).sum(dim=1).cpu(), lambda positions: visible[positions])


def ask(
    predict: Predictor,
    image: Tensor,
    queries: Queries,
    key: int = 0,
    *,
    batch_size: int = 64,
    scale: Scale = "probability",
) -> FloatArray:
    """Ask a network about one image under each query, without gradients.

    The network is asked in order of visible area, and its answers are put back in the order of the queries. A random
    fill's key depends on `key` and the query's position alone: holes and fills are the same for any batch
    size and device, and answers differ by rounding only.

    Args:
        predict: a network in eval mode under a masking method (`maskrobust.predictor`).
        image: (C, H, W) float in [0, 1], on the network's device; batches are views of one channels-last copy.
        queries: N visible maps.
        key: int64.
        batch_size: queries in a forward pass, at least 1.
        scale: "probability", softmax of the logits; "logit"; "log_odds", log p / (1 - p).

    Returns:
        (N, K) float64, computed as float32, a column for each class.

    Raises:
        InputError: an argument is not as above, or answers are not finite.
    """
    single = channels_last_batch(image)
    check_scale(scale)
    check_at_least("batch_size", batch_size, 1)
    order = queries.areas.argsort(stable=True).to(image.device)
    keys = fold_in(torch.arange(len(order), device=image.device), key)
    answered = []
    with torch.no_grad():
        for positions in order.split(batch_size):
            images = single.expand(len(positions), -1, -1, -1)
            logits = predict(images, queries.visible(positions), keys[positions])
            answered.append(on_scale(logits.float(), scale))
        in_order = torch.cat(answered)[order.argsort()]
    answers = in_order.cpu().numpy().astype(np.float64)
    if not np.isfinite(answers).all():
        raise InputError(
            f"answers must be finite, got NaN or infinity for {np.sum(~np.isfinite(answers).all(axis=1))} of "
            f"{len(answers)} queries; check the image and the network's weights."
        )
    return answers


def channels_last_batch(image: Tensor) -> Tensor:
    """An image (C, H, W) as (1, C, H, W) in channels-last memory, in which layer masking computes.

    A TypeError says so where it is no tensor, an InputError where it has another shape.
    """
    check_tensor("image", image)
    if image.ndim != 3:
        raise InputError(f"image must be (C, H, W), got shape {tuple(image.shape)}; explain one image at a time.")
    return image.unsqueeze(0).contiguous(memory_format=torch.channels_last)


def check_scale(scale: Scale) -> None:
    """Raise an `InputError` where a scale is none."""
    if scale not in get_args(Scale):
        raise InputError(f"scale must be one of {', '.join(get_args(Scale))}, got '{scale}'; choose one.")


def on_scale(logits: Tensor, scale: Scale) -> Tensor:
    """Logits (N, K) as probabilities, logits or log-odds (N, K), which stay finite where a probability rounds to 1."""
    if scale != "log_odds":
        return logits if scale == "logit" else logits.softmax(dim=1)
    # 1 - p of the likeliest class may round to 0: its log-odds are taken from the others' logits.
    top = logits.argmax(dim=1, keepdim=True)
    others = logits.scatter(1, top, -torch.inf).logsumexp(dim=1, keepdim=True)
    log_p = logits.log_softmax(dim=1)
    return (log_p - torch.log1p(-log_p.exp())).scatter(1, top, logits.gather(1, top) - others)
