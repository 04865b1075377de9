"""Mask-effect centring: subtracts the mean effect of the same hole on unrelated images from a network's logits."""

import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import Predictor

BACKGROUNDS = 8
"""How many unrelated pictures an evaluation centres by."""


def centred(ask: Predictor, backgrounds: Tensor) -> Predictor:
    """Answers minus the mean effect of the same hole, filled with the same key, on pictures that are always the same.

    With l(x, M) the answer about image x under hole M, l(b) that about the whole picture b, and means over b, it is

        l(x, M) - mean l(b, M) + mean l(b),

    and l(x) itself, bit for bit, where nothing is hidden. It takes off what of the hole's effect does not depend on the
    image: all of it for a network to whose answers holes add something, none of what a hole and an image do together.
    There is nothing to train. It costs a pass for each b beside the one for the images, and one for the whole pictures.

    Args:
        ask: a predictor, or an extractor of features.
        backgrounds: (n, C, H, W) float in [0, 1], n at least 1, of the images' size: without an object, and none of the
            pictures that are asked about, whose own effect would be taken off.

    Returns:
        A function like `ask`. It raises InputError for images of another size.
    """

    def ask_centred(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        if backgrounds.shape[1:] != images.shape[1:]:
            raise InputError(
                f"pictures to centre by must have the shape {tuple(images.shape[1:])} of the images, got "
                f"{tuple(backgrounds.shape[1:])}; render both at one size."
            )
        pictures = backgrounds.to(images)
        count = len(pictures)
        whole = ask(pictures, visible.new_ones(count, *visible.shape[1:]), keys.new_zeros(count)).mean(dim=0)
        masked = torch.stack([ask(picture.expand_as(images), visible, keys) for picture in pictures]).mean(dim=0)
        answers = ask(images, visible, keys)
        return torch.where(visible.flatten(1).all(dim=1, keepdim=True), answers, answers - masked + whole)

    return ask_centred
