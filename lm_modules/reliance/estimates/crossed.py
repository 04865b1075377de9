"""Estimate the outline pull with intervals over objects crossed with scenes.

Every shape is cut as a hole into every scene. Objects and scenes are both random, so both count in the standard error:
a network may follow some shapes more than others, and any shape more in some scenes than in others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.estimates.clustered import design
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Interval, Part
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS, Outcomes, SceneAnswers

_ROUNDING = 1e-5
"""Pulls up to this fraction of the largest of their four logits are rounding."""


@dataclass(frozen=True)
class CrossedMean:
    """A mean over pairs of objects, scenes and seeds, all three random.

    Attributes:
        value: the mean.
        objects: what the objects add.
        scenes: what the scenes of each kind add.
        seeds: what the seeds add; 0 for a single one, of which the mean then says nothing more.
        counted_twice: the variance of objects within scenes, which `objects` and `scenes` both contain.
    """

    value: float
    objects: Part
    scenes: tuple[Part, ...]
    seeds: Part
    counted_twice: float

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(self._sum([1.0] * (len(self.scenes) + 3))))

    def interval(self, confidence: float = 0.95) -> Interval:
        """The value with its bounds: value -+ h, by Student's t.

        With t_k Student's quantile at the degrees of freedom of part k with the variance V_k, and z the normal one,

            h^2 = t_O^2 V_O + sum_kinds t_S^2 V_S - z^2 V_OS + t_K^2 V_K

        of objects, scenes of each kind, objects within scenes, and seeds; the first three terms together at least as
        much as objects alone and as scenes alone. This is the modified large-sample interval (Burdick and Graybill,
        "Confidence Intervals on Variance Components", 1992). In simulations (8 to 100 objects, 2 to 24 scenes of up
        to 4 kinds, 1 to 8 seeds) it holds the mean in 94 to 100 % of experiments at 95 %, and in 98.8 to 100 % at
        99.2 %; with skewed effects in 92.8 % and 97.4 % at least (`scripts/benchmarks/crossed_coverage.py` of commit
        0055bd0f).

        Args:
            confidence: confidence level in (0, 1).

        """
        from scipy import stats  # here: it takes a second, which the help of commands does without

        degrees = [self.objects.degrees, *(part.degrees for part in self.scenes), np.inf, self.seeds.degrees]
        reach = float(np.sqrt(self._sum(stats.t.ppf((1.0 + confidence) / 2.0, degrees) ** 2)))
        return Interval(self.value, self.value - reach, self.value + reach)

    def _sum(self, weights: Sequence[float]) -> float:
        of_objects, *of_scenes, twice, of_seeds = weights
        objects = of_objects * self.objects.variance
        scenes = sum(weight * part.variance for weight, part in zip(of_scenes, self.scenes, strict=True))
        return max(objects + scenes - twice * self.counted_twice, objects, scenes) + of_seeds * self.seeds.variance


def outline_pulls(logits: ArrayLike, classes: ArrayLike, pairs: ArrayLike) -> FloatArray:
    """How far the holes of each pair of objects pull the answer towards their own classes, in each scene.

    With L_i the logits behind the hole of object i, of class a, and L_j those behind that of object j, of class b,

        d = ((L_i[a] - L_i[b]) - (L_j[a] - L_j[b])) / 2.

    Args:
        logits: (shapes, scenes, columns), of any float type.
        classes: (shapes,) the column of each object's class.
        pairs: (P, 2) positions of objects, as `alike_pairs` gives them.

    Returns:
        (P, scenes) float64 in logits, above 0 where the holes pull towards their own objects; 0 where |d| is at most
        1e-5 of the largest of the four logits, which is rounding.
    """
    values, of, (i, j) = np.asarray(logits), np.asarray(classes), np.asarray(pairs).reshape(-1, 2).T
    four = np.array([[values[shape, :, of[shown]] for shown in (i, j)] for shape in (i, j)], dtype=np.float64)
    (i_a, i_b), (j_a, j_b) = four
    pulls = ((i_a - i_b) - (j_a - j_b)) / 2.0
    return np.where(np.abs(pulls) <= _ROUNDING * np.abs(four).max(axis=(0, 1)), 0.0, pulls)


def crossed_mean(values: FloatArray, pairs: IntArray, kinds: Sequence[str] | IntArray | None = None) -> CrossedMean:
    """The mean of values of pairs of objects in scenes, with objects, scenes and seeds random.

    With e the mean over seeds minus the mean of all, T_i the sum of e over the pairs of object i, and P pairs in S
    scenes, and everything else averaged out first,

        V_O = c (sum_i T_i^2 - sum_p e_p^2) / P^2,  V_S = sum_s e_s^2 / (S (S - 1)),

    and V_OS is V_O of what is left in each scene without the means of pairs and scenes, over S (S - 1). V_O is at least
    what it would be if pairs of one object did not depend on each other. Its c and degrees of freedom, 2 E^2 / Var,
    follow from the pairs alone, and are exact where d is the sum of two normal effects of objects (Bell and McCaffrey,
    Survey Methodology 2002). Scenes of each kind have a variance of their own.

    Args:
        values: (seeds, P, scenes).
        pairs: (P, 2) the objects of each pair, any integers.
        kinds: (scenes,) the kind of each scene; None for scenes of one kind.

    Raises:
        InputError: there is no pair, or too few pairs or scenes of a kind to tell how much either varies.
    """
    seeds, _, scenes = values.shape
    strata = np.unique(["" for _ in range(scenes)] if kinds is None else kinds, return_inverse=True)[1]
    sizes = np.bincount(strata, minlength=1)
    of_pair = design(pairs)
    if of_pair.correction == 0.0 or sizes.min() < 2:
        raise InputError(
            "an interval over objects and scenes needs at least 2 scenes of each kind and pairs of at least 4 objects, "
            f"got {sizes.min()} scenes of a kind and {of_pair.holds.shape[1]} objects; add some."
        )
    mean, crossed = float(values.mean()), values.mean(axis=0)
    of_pairs = np.stack([crossed[:, strata == kind].mean(axis=1) for kind in range(len(sizes))], axis=1)
    of_scenes, of_kinds = crossed.mean(axis=0), of_pairs.mean(axis=0)
    objects = of_pair.variances(crossed.mean(axis=1, keepdims=True) - mean)[0]
    within = crossed - of_pairs[:, strata] - of_scenes + of_kinds[strata]
    unbiased = sizes / (sizes - 1.0)
    twice = (unbiased[strata] * of_pair.variances(within)).sum() / scenes**2
    squares = np.bincount(strata, (of_scenes - of_kinds[strata]) ** 2)
    by_seed = values.mean(axis=(1, 2))
    return CrossedMean(
        mean,
        Part(float(objects), of_pair.degrees),
        tuple(
            Part(float(variance), size - 1.0)
            for variance, size in zip(unbiased * squares / scenes**2, sizes, strict=True)
        ),
        Part(float(by_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0, max(seeds - 1.0, 1.0)),
        float(twice),
    )


def scene_answers_of(runs: Sequence[Outcomes]) -> tuple[list[SceneAnswers], str | None]:
    """What each run answers about empty scenes, and one sentence where that cannot give a number.

    Raises:
        InputError: there is no run, one was not asked about scenes, or they were asked about different ones.
    """
    found = [run.scenes for run in runs if run.scenes is not None]
    if len(found) < len(runs) or not found:
        raise InputError("the outcomes hold no answers about scenes; evaluate with a plan that has some.")
    if not all(np.array_equal(each.energy, found[0].energy) for each in found) or not all(
        np.array_equal(each.objects[each.pairs], found[0].objects[found[0].pairs]) for each in found
    ):
        raise InputError("runs to compare must be asked in the same scenes, got others; evaluate them on one split.")
    if len(found[0].kinds) == 0:
        return found, "undefined because the data have no empty scenes."
    if min(len(each.pairs) for each in found) == 0:
        return found, (
            "undefined because no two objects of two classes match in area and enclosing circle to 20 % without "
            "touching the border."
        )
    return found, None


@dataclass(frozen=True)
class CrossedStatistic:
    """The mean of `outline_pulls` over pairs of objects and scenes, both random; an `Estimator`.

    Attributes:
        kind: kind of the scenes that count; None for all.
    """

    kind: str | None = None

    def __call__(self, runs: Sequence[Outcomes]) -> Estimate:
        """The mean over the runs of one network, one for each seed."""
        return self._estimate(runs)

    def difference(self, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]) -> Estimate:
        """The mean of network A minus that of network B, paired by seed, scene and pair of objects.

        Raises:
            InputError: they differ in their number of runs, or in their scenes.
        """
        if len(runs_a) != len(runs_b):
            raise InputError(
                f"both networks must have a run for each seed, got {len(runs_a)} and {len(runs_b)}; leave unmatched "
                "seeds out."
            )
        return self._estimate([*runs_a, *runs_b], minus=len(runs_b))

    def _estimate(self, runs: Sequence[Outcomes], minus: int = 0) -> Estimate:
        """The estimate over the first runs, minus that over the last `minus` runs."""
        found, because = scene_answers_of(runs)
        kinds = found[0].kinds
        chosen = np.full(len(kinds), True) if self.kind is None else kinds == SCENE_KINDS.index(self.kind)
        if because is None and not chosen.any():
            because = f"undefined because the data have no empty scenes of the kind {self.kind}."
        if because is not None:
            return Estimate(None, None, None, 0, 0, because)
        codes = found[0].objects[found[0].pairs]
        order = np.lexsort(codes.T[::-1])
        values = np.stack([outline_pulls(each.logits[:, chosen], each.columns, each.pairs[order]) for each in found])
        if minus:
            values = values[:-minus] - values[-minus:]
        codes = codes[order]
        objects = len(np.unique(codes))
        try:
            mean = crossed_mean(values, codes, kinds[chosen])
        except InputError as error:
            return Estimate(None, None, None, objects, 0, f"undefined because {error}")
        return Estimate(None, None, None, objects, 0).within(mean.interval())
