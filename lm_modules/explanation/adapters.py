"""Adapters that let explainers of other libraries (Captum, lime, shap, shapiq, ...) use any masking method.

Captum perturbs the visible map in place of the image: `visibility_forward`. lime, shap, Quantus
and pytorch-grad-cam write NaN into the pixels that they hide: `nan_classifier`, `NanNetwork`. shapiq takes a function
around `ask`. Random fills are drawn by one key for all maps, so that an answer depends on the map alone, not on when or
beside what it is asked.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from maskrobust.augment import fold_in
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.asking import Scale, channels_last_batch, check_scale, on_scale
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray


def visibility_forward(
    predict: Predictor, image: Tensor, key: int = 0, *, scale: Scale = "probability"
) -> Callable[[Tensor], Tensor]:
    """The forward function of one image's visible map, for Captum's perturbation methods.

    `inputs` is then torch.ones(1, 1, H, W), the baseline 0, and `feature_mask` is `segments.labels[index][None, None]`.

    Args:
        predict: a network in eval mode under a masking method (`maskrobust.predictor`).
        image: (C, H, W) float in [0, 1], on the network's device.
        key: int64, of random fills.
        scale: scale of the answers, as in `ask`.

    Returns:
        A function of maps (N, 1, H, W) of numbers, 1 where visible and 0 where hidden, on the image's device, -> (N, K)
        float32 without gradients. Maps (N, C, H, W) are taken where all channels are equal.

    Raises:
        InputError: an argument is not as above; from the function, where maps have another shape, or other values than
            0 and 1, which gradients and paths would ask for.
    """
    single = channels_last_batch(image)
    check_scale(scale)

    @torch.no_grad()
    def forward(maps: Tensor) -> Tensor:
        visible = _visible(maps, image)
        logits = predict(single.expand(len(maps), -1, -1, -1), visible, _same_keys(maps, key))
        return on_scale(logits.float(), scale)

    return forward


class NanNetwork(nn.Module):
    """A network for images (N, C, H, W) in [0, 1] in which hidden pixels are NaN; answers are (N, K).

    A pixel is hidden where any channel is NaN. What it held is gone: a fill that looks into the hole, such as "blur",
    cannot be asked this way. For metrics of Quantus and pytorch-grad-cam, which replace pixels; it holds no parameters.

    Args:
        predict: a network in eval mode under a masking method (`maskrobust.predictor`).
        key: int64, of random fills.
        scale: scale of the answers, as in `ask`.

    Raises:
        InputError: the scale is unknown; when called, for images that are not as above.
    """

    def __init__(self, predict: Predictor, key: int = 0, *, scale: Scale = "probability") -> None:
        super().__init__()
        check_scale(scale)
        self.predict, self.key, self.scale = predict, key, scale

    def forward(self, images: Tensor) -> Tensor:
        """Answers (N, K) float32 about images (N, C, H, W) float, on the network's device."""
        if images.ndim != 4 or not images.is_floating_point():
            raise InputError(
                f"images must be floats (N, C, H, W), got {images.dtype} {tuple(images.shape)}; integers have no NaN."
            )
        hidden = images.isnan().any(dim=1, keepdim=True)
        shown = torch.where(hidden, 0, images)
        if not ((shown >= 0) & (shown <= 1)).all():
            raise InputError(
                f"visible pixels must lie in [0, 1], got {shown.min():g} to {shown.max():g}; divide by 255, and leave "
                "normalisation to the predictor."
            )
        logits: Tensor = self.predict(shown, ~hidden, _same_keys(images, self.key))
        return on_scale(logits.float(), self.scale)


def nan_classifier(
    predict: Predictor, key: int = 0, *, scale: Scale = "probability", device: torch.device | str = "cpu"
) -> Callable[[FloatArray], FloatArray]:
    """`NanNetwork` for arrays with channels last, as lime (`hide_color=nan`) and shap's image masker make them.

    Args:
        predict: a network in eval mode under a masking method (`maskrobust.predictor`).
        key: int64, of random fills.
        scale: scale of the answers, as in `ask`.
        device: the network's.

    Returns:
        A function of arrays (N, H, W, C) of floats in [0, 1], NaN where hidden -> (N, K) float64.

    Raises:
        InputError: the scale is unknown; from the function, for arrays that are not as above.
    """
    network = NanNetwork(predict, key, scale=scale)

    @torch.no_grad()
    def classify(arrays: FloatArray) -> FloatArray:
        if arrays.ndim != 4 or not np.issubdtype(arrays.dtype, np.floating):
            raise InputError(
                f"arrays must be floats (N, H, W, C) in [0, 1] with NaN where hidden, got {arrays.dtype} "
                f"{arrays.shape}; explain an image of floats, for integers have no NaN."
            )
        images = torch.from_numpy(np.ascontiguousarray(arrays)).to(device, torch.float32).permute(0, 3, 1, 2)
        return network(images).cpu().numpy().astype(np.float64)  # type: ignore[no-any-return]

    return classify


def _visible(maps: Tensor, image: Tensor) -> Tensor:
    """Maps of numbers (N, 1 or C, H, W) as (N, 1, H, W) bool."""
    channels, height, width = image.shape
    if maps.ndim != 4 or maps.shape[1] not in (1, channels) or maps.shape[2:] != image.shape[1:]:
        raise InputError(
            f"maps must be (N, 1, {height}, {width}) like the image, got {tuple(maps.shape)}; explain "
            f"torch.ones(1, 1, {height}, {width})."
        )
    visible = maps[:, :1] != 0
    if not (maps == visible).all():
        raise InputError(
            "maps must be 0 where hidden and 1 where visible, in all channels alike, got other values; take an "
            "explainer that hides whole segments or windows, with baseline 0."
        )
    return visible


def _same_keys(batch: Tensor, key: int) -> Tensor:
    """One key (N,) int64 for all items of a batch (N, ...)."""
    return fold_in(torch.zeros(len(batch), dtype=torch.int64, device=batch.device), key)
