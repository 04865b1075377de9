"""MCal: a frozen network and a fitted affine map that calibrates its logits for masked images.

Source: Sridhar, Xue and Wong, "Missingness Bias Calibration in Feature Attribution Explanations", ICLR 2026, arXiv
2603.04831. As there, the network stays as it is, and one affine map of its logits ("matrix scaling") is fitted on
masked images so that the prediction agrees with the network's own for the same image with nothing hidden. Our own
choices are the penalty, the smoothing over classes, the solver, and that images with nothing hidden keep their logits.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import Predictor

_PENALTY = 1e-4


class AffineCalibration(NamedTuple):
    """The map logits -> logits @ weight.T + bias, for K classes.

    Attributes:
        weight: (K, K) float32.
        bias: (K,) float32.
    """

    weight: Tensor
    bias: Tensor


def fit_calibration(masked_logits: Tensor, targets: Tensor) -> AffineCalibration:
    """Fit the map by multinomial logistic regression of the targets on the logits, a convex problem.

    With logits z standardised class by class to u, it minimises over weights W and biases b

        mean cross-entropy(W u + b, target) + penalty / 2 |W|^2, penalty = 0.0001 (with two classes twice that),

    where one further observation, at the mean of the logits, is shared out equally among all classes. So a class that
    is not among the targets has a finite row as well; it is predicted with a chance of about 1 / (K N).

    Args:
        masked_logits: (N, K) float, K >= 2, of images of which something is hidden.
        targets: (N,) int64 in [0, K), the network's predictions for the same images with nothing hidden.

    Returns:
        The map, on the device of `masked_logits`; the same for the same arguments.

    Raises:
        InputError: shapes or targets are not these, there is no image, or a logit is not finite.
    """
    from sklearn.preprocessing import StandardScaler

    _check(masked_logits, targets)
    logits, device = masked_logits.detach().double().cpu().numpy(), masked_logits.device
    images, classes = logits.shape
    scaler = StandardScaler().fit(logits)
    standardised = np.vstack([scaler.transform(logits), np.zeros((classes, classes))])
    observed = np.concatenate([targets.cpu().numpy(), np.arange(classes)])
    sample_weights = np.concatenate([np.ones(images), np.full(classes, 1 / classes)])
    weight, bias = _regress(standardised, observed, sample_weights)
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return AffineCalibration(*(torch.from_numpy(each).float().to(device) for each in (weight, bias)))


def calibrated(predict: Predictor, calibration: AffineCalibration) -> Predictor:
    """A predictor whose logits are mapped where something of an image is hidden, and left bit for bit where not.

    Args:
        predict: the predictor of the frozen network.
        calibration: the calibration for its K classes.

    Returns:
        A predictor with logits of the same dtype.
    """

    def predict_calibrated(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        logits = predict(images, visible, keys)
        weight, bias = (each.to(logits.device) for each in calibration)
        mapped = F.linear(logits.to(weight.dtype), weight, bias).to(logits.dtype)
        return torch.where(visible.flatten(1).all(dim=1, keepdim=True), logits, mapped)

    return predict_calibrated


def _regress(
    inputs: NDArray[np.float64], targets: NDArray[np.int64], sample_weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (K, K) and biases (K,) of the penalised regression."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=1.0 / (_PENALTY * sample_weights.sum()), tol=1e-6, max_iter=5000)
    regression.fit(inputs, targets, sample_weight=sample_weights)
    weight, bias = regression.coef_, regression.intercept_
    if len(bias) == 1:  # of two classes it keeps the difference alone
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias


def _check(masked_logits: Tensor, targets: Tensor) -> None:
    if masked_logits.ndim != 2 or masked_logits.shape[1] < 2 or len(masked_logits) == 0:
        raise InputError(
            f"masked_logits must be (N, K) of at least one image and two classes, got {tuple(masked_logits.shape)}; "
            "give the logits of some masked images."
        )
    if targets.shape != masked_logits.shape[:1]:
        raise InputError(
            f"targets must be ({len(masked_logits)},), one for each row of masked_logits, got {tuple(targets.shape)}; "
            "give the predictions for the same images."
        )
    if targets.min() < 0 or targets.max() >= masked_logits.shape[1]:
        raise InputError(
            f"targets must lie in [0, {masked_logits.shape[1]}), got {targets.min().item()} to "
            f"{targets.max().item()}; give predictions among the classes of the logits."
        )
    if not masked_logits.isfinite().all():
        raise InputError("masked_logits must be finite, got NaN or infinity; check the network.")
