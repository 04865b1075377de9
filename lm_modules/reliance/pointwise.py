"""Pointwise information: what a probe's probabilities tell of each image's class, beyond how frequent the class is."""

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray

_TRUST = np.linspace(0.0, 1.0, 21)


def pointwise_information(probabilities: FloatArray, labels: IntArray, folds: IntArray) -> FloatArray:
    """log2(q(y | x) / p(y)) in bits for each image x of class y; its mean is H(class) minus a cross-validated log loss.

    With p(k) the fraction of images of class k, and r the probe's probabilities, fitted to the n images of the other
    folds, of which one further observation is shared out as p, so that no class is impossible,

        r(k) = (n probability(k) + p(k)) / (n + 1),    q(k) is in proportion to p(k)^(1 - a) r(k)^a.

    How far the probe is trusted, a in 0, .05, ... 1, is what gives the other folds' images the highest mean: with many
    features and few images a probe is too sure of itself, and its plain log loss can be far above H(class) (a
    temperature, as in Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, that ends at the classes'
    frequencies). No prediction has a lower expected log loss than the truth, so the mean is, in expectation, a lower
    bound of the mutual information of features and class: 0 up to noise where there is none, never above H(class).

    Args:
        probabilities: (N, K) float64, of the K classes that occur in `labels`, ascending; see
            `features.cross_validated_probabilities`.
        labels: (N,) int64.
        folds: (N,) int64.

    Returns:
        (N,) float64, at most -log2 p(y); NaN where all images are in one fold.
    """
    _, fold_codes, fold_sizes = np.unique(folds, return_inverse=True, return_counts=True)
    if len(fold_sizes) <= 1:
        return np.full(len(labels), np.nan)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    frequencies = counts / len(codes)
    fitted = (len(codes) - fold_sizes[fold_codes])[:, np.newaxis]
    evidence = np.log((fitted * probabilities / frequencies + 1.0) / (fitted + 1.0))  # log(r / p)
    own = evidence[np.arange(len(codes)), codes]
    gains = np.zeros((len(_TRUST), len(codes)))
    for row, trust in enumerate(_TRUST[1:], start=1):
        gains[row] = trust * own - np.log(np.exp(trust * evidence) @ frequencies)
    bits = np.empty(len(codes))
    for fold in range(len(fold_sizes)):
        held_out = fold_codes == fold
        bits[held_out] = gains[gains[:, ~held_out].mean(axis=1).argmax(), held_out] / np.log(2.0)
    return bits
