"""The variance of a mean over rows that share objects: the image's, and those whose outlines are cut out."""

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray

_CHUNK_PAIRS = 2**23


def clustered_variance(values: FloatArray, members: IntArray, span: float) -> tuple[float, float]:
    """The variance of the mean of rows of which every two that share an object depend on each other.

    With e the values minus their mean, Var is the sum over rows r, s that share an object of e_r e_s / N^2 (Aronow,
    Samii and Assenova, Political Analysis 2015), divided by the fraction of pairs of rows that share none, since
    residuals lose what rows share with all others. It is no less than the same for rows that share the first object
    alone. Two objects more, at either end of the scale, are added to it (as by Agresti and Min, Statistics in Medicine
    2005), so that it is above 0 where all rows are equal.

    Args:
        values: (N,), N at least 1.
        members: (N, M) int64 objects of each row; first that of the image. Objects of all columns are numbered alike.
        span: length of the scale that values lie on.

    Returns:
        The variance, and its degrees of freedom: the number of objects minus 1, of the first column or of the others,
        whichever are fewer.
    """
    from scipy import sparse  # here: it takes a second, which the help of commands does without

    count, error = len(values), values - values.mean()
    _, codes = np.unique(members, return_inverse=True)
    codes = codes.reshape(members.shape)
    rows = np.repeat(np.arange(count), members.shape[1])
    holds = sparse.csr_matrix((np.ones(codes.size), (rows, codes.ravel())), shape=(count, codes.max() + 1))
    together, sharing, chunk = 0.0, 0, max(1, _CHUNK_PAIRS // count)
    for start in range(0, count, chunk):
        shared = holds[start : start + chunk] @ holds.T
        shared.data[:] = 1.0
        together += float(error[start : start + chunk] @ (shared @ error))
        sharing += shared.nnz
    of_images = np.bincount(codes[:, 0], weights=error)
    groups = [codes[:, :1], codes[:, 1:]] if members.shape[1] > 1 else [codes]
    objects = [len(np.unique(each)) for each in groups]
    apart = max(1.0 - sharing / count**2, 1.0 / count)
    ends = 2.0 * (span / 2.0 * count / objects[0]) ** 2
    total = max(together, float(of_images @ of_images)) / apart + ends
    return total / count**2, max(1.0, min(objects) - 1.0)
