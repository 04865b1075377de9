"""Leak, used share and swap pull as functions of predictions, and the outline's gain of logits, without intervals.

But for logits every argument is integers (N,), a class for each image: a NumPy array, a tensor on any device, or a
list.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray

Classes: TypeAlias = IntArray | Tensor | Sequence[int]


def silhouette_leak(silhouette: Classes, circle: Classes, labels: Classes) -> float:
    """Accuracy behind silhouettes minus accuracy behind enclosing circles.

    Both holes hide the whole object and as many pixels; only the first leaves its outline. 0: the outline adds no
    accuracy; below 0: it misleads the network.

    Args:
        silhouette: predictions with the object cut out along its outline, and a blob elsewhere.
        circle: predictions with the object's smallest enclosing circle hidden.
        labels: the true classes.

    Returns:
        In [-1, 1].

    Raises:
        InputError: the arguments are not integers (N,) with one N of at least 1.
    """
    classes = _checked(silhouette=silhouette, circle=circle, labels=labels)
    return float(leak_of_means(_right(classes, "silhouette", "circle").mean(axis=1)))


def used_share(silhouette: Classes, circle: Classes, labels: Classes, probe: Classes) -> float:
    """The `silhouette_leak`, divided by what outlines can tell: the probe's accuracy minus the majority's fraction.

    0: the network does not use the outline; 1: as much as a network that sees nothing else; below 0: the outline
    misleads it. Reliance on the outline is the magnitude.

    Args:
        silhouette: predictions with the object cut out along its outline, and a blob elsewhere.
        circle: predictions with the object's smallest enclosing circle hidden.
        labels: the true classes.
        probe: what a network that was trained on object masks alone takes each object for.

    Returns:
        A signed number; NaN where the probe is no better than always naming the most frequent class.

    Raises:
        InputError: the arguments are not integers (N,) with one N of at least 1.
    """
    classes = _checked(silhouette=silhouette, circle=circle, labels=labels, probe=probe)
    right = _right(classes, "silhouette", "circle", "probe")
    means = np.append(right.mean(axis=1), is_majority(classes["labels"]).mean())
    return float(used_share_of_means(means)) if used_share_denominator(means) > 0.0 else float("nan")


def swap_pull(behind_j: Classes, behind_k: Classes, labels_j: Classes, labels_k: Classes) -> float:
    """How far predictions follow the shape of a hole that is cut into an unrelated image.

    The mean of 1/2 (1[f_j = y_j] - 1[f_k = y_j] + 1[f_k = y_k] - 1[f_j = y_k]), where f_j is the prediction behind a
    hole in the shape of object j, whose class is y_j. 0: not at all; 1: always.

    Args:
        behind_j: predictions behind the shape of j.
        behind_k: predictions for the same images behind the shape of k, of another class and of like area.
        labels_j: class of j.
        labels_k: class of k.

    Returns:
        In [-1, 1].

    Raises:
        InputError: the arguments are not integers (N,) with one N of at least 1.
    """
    classes = _checked(behind_j=behind_j, behind_k=behind_k, labels_j=labels_j, labels_k=labels_k)
    return float(swap_pulls(*classes.values()).mean())


def outline_gain(silhouette: Tensor, circle: Tensor, labels: Classes) -> float:
    """What the outline adds to the log-odds of the right class: behind silhouettes minus behind enclosing circles.

    Log-odds are of the class against all others, z_y - log(sum of exp z_k over k other than y). Both holes hide the
    whole object and as many pixels; only the first leaves its outline. 0 is best: the outline adds nothing; below 0 it
    misleads. Logits move before predictions do, and with many classes predictions may never.

    Args:
        silhouette: (N, K) logits with the object cut out along its outline, and a blob elsewhere, K at least 2.
        circle: (N, K) logits with the object's smallest enclosing circle hidden.
        labels: the true classes.

    Returns:
        Mean over images, in nats.

    Raises:
        InputError: the labels are not integers (N,), or the logits not (N, K) of at least two classes.
    """
    classes = torch.from_numpy(_checked(labels=labels)["labels"]).to(silhouette.device)
    for name, each in (("silhouette", silhouette), ("circle", circle)):
        if each.ndim != 2 or len(each) != len(classes) or each.shape[1] < 2:
            raise InputError(
                f"{name} must be logits (N, K) of {len(classes)} images and at least two classes, got "
                f"{tuple(each.shape)}; give those of the same images."
            )
    behind, around = (log_odds(each.double(), classes[:, None]) for each in (silhouette, circle))
    return (behind - around).mean().item()


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """Log-odds of classes against all other outputs.

    Args:
        logits: (N, K) float.
        classes: (N, C) int64 in [0, K).

    Returns:
        (N, C) float32, or float64 of logits in float64; NaN where K is 1.
    """
    numbers = logits if logits.dtype == torch.float64 else logits.float()
    if numbers.shape[1] == 1:
        return torch.full(classes.shape, torch.nan, dtype=numbers.dtype, device=numbers.device)
    others = numbers[:, None].expand(-1, classes.shape[1], -1).scatter(2, classes[..., None], -torch.inf)
    return numbers.gather(1, classes) - others.logsumexp(dim=2)


def leak_of_means(means: FloatArray) -> FloatArray:
    """The leak from accuracies behind silhouette and circle, (..., 2 or more) -> (...)."""
    leak: FloatArray = means[..., 0] - means[..., 1]
    return leak


def used_share_of_means(means: FloatArray) -> FloatArray:
    """From accuracies behind silhouette and circle, the probe's, and the majority's fraction, (..., 4) -> (...).

    A denominator of 0 or less counts as 1e-9, which only widens an interval over resamples.
    """
    return leak_of_means(means) / np.maximum(used_share_denominator(means), 1e-9)


def used_share_denominator(means: FloatArray) -> FloatArray:
    """What outlines can tell: the probe's accuracy minus the majority's fraction, (..., 4) -> (...)."""
    told: FloatArray = means[..., 2] - means[..., 3]
    return told


def is_majority(labels: IntArray) -> BoolArray:
    """Whether each label is the most frequent one, the first one on ties: (N,)."""
    majority: BoolArray = labels == np.bincount(labels, minlength=1).argmax()
    return majority


def swap_pulls(behind_j: IntArray, behind_k: IntArray, labels_j: IntArray, labels_k: IntArray) -> FloatArray:
    """The summand of `swap_pull` for each image, (N,) in [-1, 1]."""
    towards_j = (behind_j == labels_j).astype(np.float64) - (behind_k == labels_j)
    towards_k = (behind_k == labels_k).astype(np.float64) - (behind_j == labels_k)
    pulls: FloatArray = (towards_j + towards_k) / 2
    return pulls


def _right(classes: dict[str, IntArray], *names: str) -> BoolArray:
    return np.stack([classes[name] == classes["labels"] for name in names])


def _checked(**given: Classes) -> dict[str, IntArray]:
    """The arguments as int64 (N,) by name."""
    found = {name: np.asarray(torch.as_tensor(each).cpu()) for name, each in given.items()}
    first, expected = next((name, each.shape) for name, each in found.items())
    for name, each in found.items():
        if each.ndim != 1 or each.dtype.kind not in "iu" or each.size == 0:
            raise InputError(
                f"{name} must be integers (N,), a class for each of at least one image, got {each.dtype} {each.shape}; "
                "give the predicted class, as by logits.argmax(dim=1)."
            )
        if each.shape != expected:
            raise InputError(
                f"{name} must have a class for each image, as {first} has for {expected[0]}, got {each.shape[0]}; give "
                "them for the same images."
            )
    return {name: each.astype(np.int64) for name, each in found.items()}
