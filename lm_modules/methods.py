"""Masking methods: how an image with a hole is presented to a network, by a fill or by layer masking."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from augment import FillName, apply_fill

MaskingMethod = FillName | Literal["layer_masking"]
MASKING_METHODS: tuple[MaskingMethod, ...] = (*get_args(FillName), "layer_masking")

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool, keys (B,) int64) -> logits (B, num_classes)."""


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std, channel by channel.

    Args:
        images: (B, C, H, W) float in [0, 1].
        mean: C values.
        std: C values above 0.

    Returns:
        (B, C, H, W), dtype and memory format of `images`.
    """
    shift = torch.tensor(mean, dtype=images.dtype, device=images.device)[:, None, None]
    scale = torch.tensor(std, dtype=images.dtype, device=images.device)[:, None, None]
    return (images - shift) / scale


def predictor(network: nn.Module, method: MaskingMethod, mean: Sequence[float], std: Sequence[float]) -> Predictor:
    """What a network predicts for images with a hole, under one masking method.

    Args:
        network: takes normalised images; under "layer_masking" a `LayerMasking`, which takes `visible` as well.
        method: a fill's name, or "layer_masking".
        mean: for normalisation and for the fill "mean".
        std: for normalisation.

    Returns:
        A function of images in pixel space, `visible` and keys (used by random fills).
    """

    def predict(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        if method == "layer_masking":
            logits: Tensor = network(normalise(images, mean, std), visible)
            return logits
        filled = apply_fill(method, images, visible, keys=keys, mean=mean)
        return network(normalise(filled, mean, std))  # type: ignore[no-any-return]

    return predict
