"""Carried information (measure 7): how much of the outline probes still find in the features, used or not."""

import warnings
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from maskrobust.augment import sample_keys, uniform
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.outcomes import Outcomes

FeatureHole = Literal["silhouette", "circle"]
FEATURE_HOLES: tuple[FeatureHole, ...] = get_args(FeatureHole)

_FOLDS = 5
_FOLD_SEED = 7  # no draw of a suite: the folds are the same whatever its seed
_PENALTY = 1e-3
_TRUST = np.linspace(0.0, 1.0, 21)
_NEIGHBOURS = 5
_A_FEW = 20  # images that need not be called few
_HIDDEN_UNITS, _BATCH_SIZE, _RATE, _PASSES = 64, 64, 3e-3, 20

FeatureProbe = Literal["linear", "mlp", "neighbours"]

_PREFIXES: dict[FeatureProbe, str] = {"linear": "features", "mlp": "mlp", "neighbours": "neighbours"}


def feature_key(hole: FeatureHole, layer: str | None = None) -> str:
    """Name of features in `Outcomes.features`: those behind one hole, penultimate or of a layer."""
    return hole if layer is None else f"{hole}/{layer}"


def feature_condition(hole: FeatureHole, layer: str | None = None, probe: FeatureProbe = "linear") -> str:
    """Name of the condition of `Outcomes.predictions` that holds a probe's answers on such features."""
    return f"{_PREFIXES[probe]}/{feature_key(hole, layer)}"


def with_feature_predictions(outcomes: Outcomes) -> Outcomes:
    """Outcomes in which the features have become what three probes make of them, and are dropped.

    Every image is predicted by probes fitted to the true classes of the images in the other folds, behind the same
    hole. The folds follow from the objects alone: no object is in two of them, and both holes have the same ones, so
    that their difference is paired. The linear probe reads what the features hold of the class linearly, the MLP and
    nearest neighbours also what lies in them otherwise, whether or not the network's own head uses it; see
    `cross_validated_probabilities`.

    Args:
        outcomes: of all batches and ranks, joined. An image counts where its features are finite.

    Returns:
        The outcomes without features, and with a condition of `feature_condition` for each that they had and each
        probe; -1 where an image has no features or no other fold has an image. Beside them the `pointwise_information`
        of the linear probe, NaN for these images. As they were where there are no features. It warns where the probes
        learn from fewer than two images a class.
    """
    folds = _folds(outcomes.objects)
    probed, information = {}, {}
    for key, features in outcomes.features.items():
        finite = np.isfinite(features).all(axis=1)
        labels, finite_folds = outcomes.labels[finite], folds[finite]
        _warn_of_few_images(labels, finite_folds)
        for probe, prefix in _PREFIXES.items():
            probabilities = cross_validated_probabilities(features[finite], labels, finite_folds, probe)
            predictions = np.full(len(outcomes), -1, dtype=np.int64)
            predictions[finite] = _likeliest(probabilities, labels)
            probed[f"{prefix}/{key}"] = predictions
            if probe == "linear":
                information[key] = np.full(len(outcomes), np.nan)
                information[key][finite] = pointwise_information(probabilities, labels, finite_folds)
    return replace(
        outcomes,
        predictions={**outcomes.predictions, **probed},
        information={**outcomes.information, **information},
        features={},
    )


def cross_validated_probabilities(
    features: FloatArray, labels: IntArray, folds: IntArray, probe: FeatureProbe = "linear"
) -> FloatArray:
    """Probabilities of each image's class from its features, by a probe fitted to the other folds.

    Features are standardised over the training folds. "neighbours" are the classes of the 5 nearest images, each
    weighted by 1 / distance. "linear" is multinomial logistic regression: weights W and biases b minimise

        mean cross-entropy + penalty / 2 |W|^2, penalty = 0.001 (with two classes twice that),

    which has one minimum. "mlp" has one hidden layer of 64 rectified units and the same loss, with a penalty of 1 / 64;
    Adam goes over it 20 times in batches of 64, and its first weights and their order are always the same. A class that
    the training folds lack has probability 0; where they hold a single class it has 1. The linear probe takes
    about a second on one core for 3,000 images of 512 features and 10 classes, in proportion to all three; the MLP
    takes one for 64 features.

    Args:
        features: (N, F) finite.
        labels: (N,) int64.
        folds: (N,) int64.
        probe: which one.

    Returns:
        (N, K) float64, of the K classes that occur in `labels`, ascending; NaN where all images are in one fold.
    """
    classes = np.unique(labels)
    probabilities = np.full((len(labels), len(classes)), np.nan)
    for fold in np.unique(folds):
        held_out = folds == fold
        if not held_out.all():
            fitted = np.isin(classes, labels[~held_out])
            probabilities[held_out] = 0.0
            probabilities[np.ix_(held_out, fitted)] = _ask_probe(
                features[~held_out], labels[~held_out], features[held_out], probe
            )
    return probabilities


def _likeliest(probabilities: FloatArray, labels: IntArray) -> IntArray:
    """The class (N,) with the highest of probabilities (N, K); -1 where they are not known."""
    known = np.isfinite(probabilities).all(axis=1)
    predictions = np.full(len(labels), -1, dtype=np.int64)
    if known.any():
        predictions[known] = np.unique(labels)[probabilities[known].argmax(axis=1)]
    return predictions


def _folds(objects: IntArray) -> IntArray:
    """A fold in [0, 5) for each object, (N,) int64."""
    folds: IntArray = (uniform(sample_keys(_FOLD_SEED, torch.from_numpy(objects))) * _FOLDS).long().numpy()
    return folds


def _warn_of_few_images(labels: IntArray, folds: IntArray) -> None:
    """Warn where images are many, but few of a class: scikit-learn would ask whether labels are no numbers instead."""
    for fold in np.unique(folds):
        images, classes = (folds != fold).sum(), len(np.unique(labels[folds != fold]))
        if images > _A_FEW and 2 * classes > images:
            warnings.warn(
                f"a probe of features should learn from at least two images of a class, got {images} of {classes} "
                "classes, and reads no class that it has not seen; measure more images, or set features to false.",
                stacklevel=3,
            )
            return


def _ask_probe(
    train_features: FloatArray, train_labels: IntArray, features: FloatArray, probe: FeatureProbe
) -> FloatArray:
    """Probabilities (N, classes of `train_labels`)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) == 1:
        return np.ones((len(features), 1))
    pipeline = make_pipeline(StandardScaler(), _classifier(probe, len(train_labels)))
    with warnings.catch_warnings():
        # The MLP's, whose passes are counted and not waited for.
        warnings.filterwarnings("ignore", "Stochastic Optimizer", ConvergenceWarning)
        # Said by `_warn_of_few_images`.
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%", UserWarning)
        probabilities: FloatArray = pipeline.fit(train_features, train_labels).predict_proba(features)
    return probabilities


def _classifier(probe: FeatureProbe, images: int) -> Any:
    """The probe before it is fitted to a number of images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    if probe == "linear":
        return LogisticRegression(C=1.0 / (_PENALTY * images), max_iter=1000)
    if probe == "mlp":
        return MLPClassifier(
            _HIDDEN_UNITS,
            alpha=1.0,  # over the size of a batch
            batch_size=min(_BATCH_SIZE, images),
            learning_rate_init=_RATE,
            max_iter=_PASSES,
            random_state=0,
        )
    return KNeighborsClassifier(min(_NEIGHBOURS, images), weights="distance")


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
            `cross_validated_probabilities`.
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
