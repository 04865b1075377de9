"""How good explanations are: do they agree with each other, with the network, and with what is known to be true?

Each measure is a pure function of one image. `MEASURES` says what they are called and what to wish for.
"""

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from maskrobust.lm_modules.explanation.answers import Scale, on_scale
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray
from maskrobust.lm_modules.reliance.catalogue import Described

MEASURES: dict[str, Described] = {
    each.key: each
    for each in (
        Described(
            "decoy_pull",
            "Decoy pull",
            "A piece of background in the shape of an object of class j is made a segment of its own; its true "
            "effect is 0. By how much hiding it raises class j more than other classes, over the effect of the "
            "object on its own class.",
            "number",
            "zero",
        ),
        Described(
            "decoy_share",
            "Decoy share",
            "Share of the magnitudes of all scores for class j that the decoy in the shape of j gets, over the "
            "share that the object gets of those for its own class. Noise of the scores makes it larger than 0.",
            "number",
            "low",
        ),
        Described(
            "oracle",
            "Oracle removal",
            "Rank correlation of the scores with true effects: how far the answer falls where a segment's part "
            "of the object is really not there, which composites can be rendered without.",
            "number",
            "high",
        ),
        Described(
            "deletion",
            "Deletion",
            "Mean probability while segments are hidden, the highest scores first, over the hidden area.",
            "fraction",
            "low",
        ),
        Described(
            "insertion",
            "Insertion",
            "Mean probability while segments are hidden, the lowest scores first, over the hidden area.",
            "fraction",
            "high",
        ),
        Described(
            "insertion_minus_deletion",
            "Insertion minus deletion",
            "The difference of the two.",
            "fraction",
            "high",
        ),
        Described(
            "top_k_removed",
            "Top k removed",
            "Probability while the k segments with the highest scores are hidden.",
            "fraction",
            "low",
        ),
        Described(
            "top_k_kept",
            "Top k kept",
            "Probability while the k segments with the highest scores alone are visible.",
            "fraction",
            "high",
        ),
        Described(
            "top_k_removed_accuracy",
            "Top k removed: accuracy",
            "How often the class is still the likeliest while the k segments with the highest scores are hidden.",
            "fraction",
            "low",
        ),
        Described(
            "top_k_kept_accuracy",
            "Top k kept: accuracy",
            "How often the class is the likeliest while the k segments with the highest scores alone are visible.",
            "fraction",
            "high",
        ),
        Described(
            "fidelity",
            "Fidelity",
            "R² of the surrogate on queries it was not fitted to; below 0 counts as 0.",
            "number",
            "high",
        ),
        Described(
            "stability",
            "Stability",
            "Mean rank correlation of the scores between explanations from other seeds.",
            "number",
            "high",
        ),
        Described(
            "agreement",
            "Agreement",
            "Mean rank correlation of the scores with those of the other explainers.",
            "number",
            "high",
        ),
        Described(
            "cue_auc",
            "Planted cue: area under ROC",
            "A texture is pasted beside the object that changes the prediction; share of the other segments "
            "whose score for the new class is below that of the texture. Left out where no texture does.",
            "number",
            "high",
        ),
        Described(
            "cue_rank",
            "Planted cue: rank",
            "Place of that texture's score among all segments', 1 being the highest.",
            "number",
            "low",
        ),
        Described(
            "colour_consistency",
            "Consistency of fill colours",
            "Mean rank correlation of the scores between eight constant fill colours, the corners of the RGB "
            "cube. Layer masking has no colour.",
            "number",
            "high",
        ),
        Described(
            "coverage",
            "Coverage",
            "Cosine of the scores with the share of each segment that lies on the object.",
            "number",
            "high",
        ),
        Described(
            "jaccard",
            "Jaccard",
            "Overlap of the k highest scores with the k segments that lie on the object by more than half.",
            "number",
            "high",
        ),
        Described(
            "pointing",
            "Pointing game",
            "How often the segment with the highest score lies on the object by more than half.",
            "fraction",
            "high",
        ),
        Described(
            "win_share",
            "Win share",
            "How often a masking method has the largest coverage of all; ties are split.",
            "fraction",
            "high",
        ),
    )
}
"""By key; a value is that of one masking method's explanations, over objects."""

RATIOS = ("decoy_pull", "decoy_share")
"""Of these, the mean over the objects divided by another one; the others are means."""


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's, of the scores (M,) of two explanations; NaN where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def mean_rank_correlation(scores: FloatArray) -> float:
    """The mean over all pairs of T explanations (T, M); NaN where there is one alone, or one is constant."""
    pairs = [rank_correlation(scores[i], scores[j]) for i in range(len(scores)) for j in range(i + 1, len(scores))]
    return float(np.mean(pairs)) if pairs else float("nan")


def ask_whole(predict: Predictor, pictures: Tensor, batch_size: int, scale: Scale) -> FloatArray:
    """Answers (N, K) float64 about whole pictures (N, C, H, W), nothing hidden."""
    answers = []
    with torch.no_grad():
        for part in pictures.split(batch_size):
            visible = torch.ones_like(part[:, :1], dtype=torch.bool)
            keys = torch.zeros(len(part), dtype=torch.int64, device=part.device)
            answers.append(on_scale(predict(part, visible, keys).float(), scale))
    return torch.cat(answers).double().cpu().numpy()


def true_effects(
    predict: Predictor, image: Tensor, without: Tensor, segments: Segments, label: int, batch_size: int, scale: Scale
) -> FloatArray:
    """How far the answer falls where what a segment shows of the object is not there, and nothing is hidden: (M,).

    Args:
        predict: the network under any masking method.
        image: (C, H, W).
        without: (C, H, W), the same picture without the object.
        segments: of this one image, M of them.
        label: the class.
        batch_size: of forward passes.
        scale: of the answers.
    """
    labels = segments.labels[0]
    touched = labels[(image != without).any(dim=0)].unique()
    pictures = torch.stack([image, *(torch.where(labels == each, without, image) for each in touched)])
    found = ask_whole(predict, pictures, batch_size, scale)[:, label]
    effects = np.zeros(segments.count(0))
    effects[touched.cpu().numpy()] = found[0] - found[1:]
    return effects


def object_shares(segments: Segments, object_mask: BoolArray) -> FloatArray:
    """The fraction of each segment of the first image that lies on the object (H, W) bool: (M,)."""
    labels = segments.labels[0].cpu().numpy().ravel()
    return np.bincount(labels, weights=object_mask.ravel()) / np.bincount(labels)


def coverage(scores: FloatArray, shares: FloatArray) -> float:
    """Cosine of scores and the object's shares, (M,) each; NaN where one of them is 0 everywhere."""
    length = float(np.linalg.norm(scores) * np.linalg.norm(shares))
    return float(scores @ shares) / length if length > 0 else float("nan")


def jaccard(scores: FloatArray, shares: FloatArray) -> float:
    """Overlap over union of the k highest scores with the k segments that lie on the object by more than half.

    NaN where there is no such segment.
    """
    on_object = shares > 0.5
    count = int(on_object.sum())
    if count == 0:
        return float("nan")
    highest = np.zeros_like(on_object)
    highest[np.argsort(-scores, kind="stable")[:count]] = True
    return float((highest & on_object).sum() / (highest | on_object).sum())


def pointing(scores: FloatArray, shares: FloatArray) -> float:
    """1 where the highest score is of a segment that lies on the object by more than half, 0 where it is not.

    Equal highest scores are split. NaN where no segment lies on the object by more than half.
    """
    on_object = shares > 0.5
    return float(on_object[scores == scores.max()].mean()) if on_object.any() else float("nan")


def win_shares(values: FloatArray) -> FloatArray:
    """For T masking methods (T,), 1 for the largest value and 0 for the others; ties are split. NaN where one is."""
    if np.isnan(values).any():
        return np.full_like(values, np.nan)
    largest = values == values.max()
    return largest / largest.sum()  # type: ignore[no-any-return]


def decoy_pull(scores: FloatArray) -> tuple[float, float]:
    """Numerator and denominator of the decoy pull.

    Args:
        scores: (M, C) of a partition whose segment 0 is the object, and 1 the decoy; class 0 is the image's, 1
            that of the decoy's shape, the others are any others.

    Returns:
        The mean score of the decoy for the other classes minus that for its own (a hole that looks like class j raises
        it, so that the visible decoy has a score below 0), and the object's score for the image's class.
    """
    others = float(scores[1, 2:].mean()) if scores.shape[1] > 2 else 0.0
    return others - float(scores[1, 1]), float(scores[0, 0])


def decoy_share(scores: FloatArray) -> tuple[float, float]:
    """Numerator and denominator of the decoy share, of the scores of `decoy_pull`; NaN where all scores are 0."""
    magnitudes = np.abs(scores[:, :2])
    total = magnitudes.sum(axis=0)
    if not (total > 0).all():
        return float("nan"), float("nan")
    return float(magnitudes[1, 1] / total[1]), float(magnitudes[0, 0] / total[0])


def place_of_cue(scores: FloatArray) -> tuple[float, float]:
    """Area under ROC and rank (1 the highest) of segment 0 among the scores (M,); ties count half."""
    above = float((scores[1:] > scores[0]).sum() + (scores[1:] == scores[0]).sum() / 2)
    return 1 - above / (len(scores) - 1), 1 + above
