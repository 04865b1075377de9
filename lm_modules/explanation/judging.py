"""How good explanations are: do they agree with each other, with the network, and with what is known to be true?"""

import numpy as np
from scipy import stats

from maskrobust.lm_modules.reliance.arrays import FloatArray


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's, of the scores (M,) of two explanations; NaN where one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def mean_rank_correlation(scores: FloatArray) -> float:
    """The mean over all pairs of T explanations (T, M); NaN where there is one alone, or one is constant."""
    pairs = [rank_correlation(scores[i], scores[j]) for i in range(len(scores)) for j in range(i + 1, len(scores))]
    return float(np.mean(pairs)) if pairs else float("nan")
