"""Estimate a statistic with an interval: of one run, of several seeds, or of the difference of two networks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.estimates.bootstrap import Interval, bootstrap_means, percentile_interval
from maskrobust.lm_modules.reliance.estimates.clustered import clustered_variance
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_LEAST_LEVEL = 1e-9
_NO_IMAGE = "undefined because no image is valid for it."
_NOT_FINITE = (
    "undefined because its formula gives no finite number, as where it divides by zero; a denominator says when."
)
_TOO_WIDE = "undefined because its interval is wider than its scale; more images may define it."


class Columns(NamedTuple):
    """What a statistic averages over images.

    Attributes:
        ids: (N,) int64 ids of the images that count.
        objects: (N,) int64 which object each image shows.
        values: (C, N) float64, one row for each quantity.
        left_out: number of images that do not count.
        yes_or_no: whether all values are 0 or 1, whatever the images.
        outlines: (N, M) int64, the objects whose outlines are cut into each image; None where there are none. With
            some, intervals are Student's (`clustered_variance`), and nothing is resampled.
        undefined_because: why no image counts, in one sentence; empty for the usual reason.
    """

    ids: IntArray
    objects: IntArray
    values: FloatArray
    left_out: int
    yes_or_no: bool = False
    outlines: IntArray | None = None
    undefined_because: str = ""


Combine = Callable[[FloatArray], FloatArray]
"""Column means (..., C) -> number (...)."""


def first_mean(means: FloatArray) -> FloatArray:
    """The mean of the only column, (..., C) -> (...)."""
    return means[..., 0]


@dataclass(frozen=True)
class Statistic:
    """A smooth function of means over images.

    In this form one definition serves the number of one run, that of each seed, the bootstrap over objects and the
    difference between two networks.

    Attributes:
        columns: the quantities to average over images.
        combine: the number, from the means of the columns.
        denominator: a quantity that `combine` divides by. The statistic is undefined unless the lower bound of this one
            is above 0. None where nothing is divided by.
        denominator_name: says in words what the denominator is.
        scale: smallest and largest value. The statistic is undefined where its interval is longer than its scale, and
            Student's intervals of columns with outlines end there.
    """

    columns: Callable[[Outcomes], Columns]
    combine: Combine = first_mean
    denominator: Combine | None = None
    denominator_name: str = ""
    scale: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, and how many images both rest on.

    Attributes:
        value: the number; None where it is undefined.
        low: lower end of the interval; None where there is none.
        high: upper end of the interval; None where there is none.
        images: number of images it rests on, or of objects whose shapes are cut out.
        left_out: number of images left out: no object, no room for the companion blob, or no swap partner.
        undefined_because: why the number is not defined, in one sentence; None where it is. The number is
            undefined if the value or an end of its interval is not finite.
        degrees: degrees of freedom where the interval is Student's; None where it is another.
    """

    value: float | None
    low: float | None
    high: float | None
    images: int
    left_out: int
    undefined_because: str | None = None
    degrees: float | None = None

    def __post_init__(self) -> None:
        """Take no number that is not finite, which JSON could not hold."""
        if not all(number is None or math.isfinite(number) for number in (self.value, self.low, self.high)):
            for name in ("value", "low", "high"):
                object.__setattr__(self, name, None)
            object.__setattr__(self, "undefined_because", self.undefined_because or _NOT_FINITE)

    @property
    def interval(self) -> Interval | None:
        """The number with both ends of its interval; None where there is none."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return Interval(self.value, self.low, self.high)

    def within(self, interval: Interval) -> "Estimate":
        """The same images, with a number and its interval."""
        return replace(self, value=interval.value, low=interval.low, high=interval.high)


Estimator = Callable[[Sequence[Outcomes], int, int], Estimate]
"""(runs, replicates, seed) -> estimate: of what is no smooth function of means, such as a largest change."""


def estimate(
    statistic: Statistic, runs: Sequence[Outcomes], *, replicates: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """A statistic over the runs of one arm.

    With one run the interval is the percentile interval of a bootstrap over objects, and says nothing about other
    seeds; with several it is Student's over seeds and objects (`WithError`). An object that several images show is
    drawn with all of them. Of a fraction that is 0 or 1 on the data all resamples are the same: the other bound
    is then the exact one for so many objects (Clopper and Pearson, Biometrika 1934), for G of them
    1 - ((1 - confidence) / 2)^(1 / G) from the fraction. No interval of a fraction leaves [0, 1].

    Args:
        statistic: what to compute.
        runs: outcomes on the same images, one for each seed, at least one.
        replicates: number of bootstrap resamples.
        seed: decides the resamples; equal seeds resample equally for every statistic with equally many images.
        confidence: confidence of the interval, in (0, 1).

    Raises:
        InputError: runs cover different images.
    """
    columns = _stack(statistic, runs)
    found, numbers = _sample(statistic, columns, 1, replicates, seed, confidence)
    if not numbers:
        return found
    interval = numbers[0].interval(confidence)
    if columns.yes_or_no and statistic.combine is first_mean:
        reach = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / len(np.unique(columns.objects)))
        if interval.value == 0.0:
            interval = interval._replace(high=reach)
        elif interval.value == 1.0:
            interval = interval._replace(low=1.0 - reach)
        interval = Interval(*np.clip(interval, 0.0, 1.0).tolist())
    return numbers[0].within(found, interval)


def estimate_difference(
    statistic: Statistic,
    runs_a: Sequence[Outcomes],
    runs_b: Sequence[Outcomes],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """A statistic over the runs of arm A minus that of arm B, paired on images and on seeds.

    Its 95 % interval is of the same kind as that of `estimate`.

    Args:
        statistic: what to compute.
        runs_a: outcomes of arm A, one for each seed, at least one.
        runs_b: outcomes of arm B on the same images, of the same seeds in the same order.
        replicates: number of bootstrap resamples.
        seed: decides the resamples.

    Raises:
        InputError: arms differ in their number of runs, or runs cover different images.
    """
    found, numbers = _sample(statistic, _stack_pair(statistic, runs_a, runs_b), 2, replicates, seed, 0.95)
    if not numbers:
        return found
    difference = numbers[0].plus(numbers[1], -1)
    return difference.within(found, difference.interval())


@dataclass(frozen=True)
class Part:
    """What one source of chance adds to the variance of a number.

    Attributes:
        variance: variance of the number, in its unit squared.
        degrees: degrees of freedom of that variance.
    """

    variance: float
    degrees: float


class WithError(NamedTuple):
    """A number over seeds and images, with what both add to its variance.

    Its bound at a level is value - h, with t_k Student's quantile of that level at the degrees of freedom of part k,

        h^2 = t_S^2 V_S + t_O^2 V_O,

    which holds at least its level whichever part is the larger one (Burdick and Graybill, "Confidence Intervals on
    Variance Components", 1992); one quantile at Satterthwaite's degrees of freedom does not with two or three seeds.

    Attributes:
        value: the number.
        seeds: what seeds add; 0 for a single one, of which the number then says nothing more.
        objects: what objects add.
    """

    value: float
    seeds: Part
    objects: Part

    def negated(self) -> "WithError":
        """The number with the other sign."""
        return self._replace(value=-self.value)

    def level_within(self, margin: float) -> float:
        """The level above which both bounds lie within plus and minus the margin: two one-sided tests, in [0, 1]."""
        return max(self.negated().level_above(-margin), self.level_above(-margin))

    def level_outside(self, margin: float) -> float:
        """The level above which the magnitude is shown to exceed the margin, half of it for either sign, in [0, 1]."""
        return min(1.0, 2.0 * min(self.level_above(margin), self.negated().level_above(margin)))

    def interval(self, confidence: float = 0.95) -> Interval:
        """The number between its two bounds, each at half of the level 1 - confidence."""
        level = (1.0 - confidence) / 2.0
        return Interval(self.value, self.low(level), self.high(level))

    def low(self, level: float) -> float:
        """The lower bound at a one-sided level in (0, 0.5]."""
        return self.value - self._reach(level)

    def high(self, level: float) -> float:
        """The upper bound at a one-sided level in (0, 0.5]."""
        return self.value + self._reach(level)

    def level_above(self, margin: float) -> float:
        """The level in [0, 1] above which the lower bound exceeds the margin."""
        from scipy import optimize  # here: it takes a second, which the help of commands does without

        distance = abs(self.value - margin)
        if distance >= self._reach(_LEAST_LEVEL):
            level = 0.0
        elif distance <= self._reach(0.5):  # 0, which older versions of SciPy round up
            level = 0.5
        else:
            level = float(optimize.brentq(lambda each: self._reach(each) - distance, _LEAST_LEVEL, 0.5))
        return level if self.value > margin else 1.0 - level

    def _reach(self, level: float) -> float:
        from scipy import stats  # here, as above

        quantiles = stats.t.isf(level, [self.seeds.degrees, self.objects.degrees])
        return float(np.sqrt(quantiles**2 @ [self.seeds.variance, self.objects.variance]))


def estimate_with_error(statistic: Statistic, runs: Sequence[Outcomes], *, replicates: int = 2000) -> WithError | None:
    """A statistic over the runs of one network with what seeds and objects add to its variance; None if undefined.

    The arguments are those of `estimate`, whose seed is 0, the variances those of `estimate_pair`.

    Raises:
        InputError: runs cover different images.
    """
    _, numbers = _sample(statistic, _stack(statistic, runs), 1, replicates, 0, 0.95)
    return numbers[0].with_error() if numbers else None


def estimate_pair(
    statistic: Statistic,
    runs_a: Sequence[Outcomes],
    runs_b: Sequence[Outcomes],
    *,
    replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Estimate, tuple[WithError, WithError] | None]:
    """A statistic over the runs of networks A and B: a - b, and a + b, with their standard errors.

    V_S, the variance of the mean over seeds, is that of the seeds' own numbers over their number; V_O, that over
    objects, is from a bootstrap of the mean over seeds. What varies with both, seed and object, is in both parts, so
    bounds are a little too wide. With one seed V_S is 0, and bounds say nothing about other seeds.

    Args:
        statistic: what to compute.
        runs_a: outcomes of network A, one for each seed, at least one.
        runs_b: outcomes of network B on the same images, of the same seeds in the same order.
        replicates: number of bootstrap resamples.
        seed: decides the resamples.
        confidence: confidence level in (0, 1), with which a denominator must lie above 0 for the statistic to be
            defined.

    Returns:
        An estimate whose numbers are left open, then a - b and a + b; None where one of a and b is undefined.

    Raises:
        InputError: networks differ in their number of runs, or runs cover different images.
    """
    columns = _stack_pair(statistic, runs_a, runs_b)
    found, numbers = _sample(statistic, columns, 2, replicates, seed, confidence)
    if not numbers:
        return found, None
    first, second = numbers
    return found, (first.plus(second, -1).with_error(), first.plus(second, 1).with_error())


class _Sampled(NamedTuple):
    """A number with what shows how much it varies.

    Attributes:
        value: the number, over all seeds.
        replicates: (R,) the number over all seeds on each resample of the objects; the values (N,) of rows with
            `members`.
        by_seed: (S,) the number of each seed.
        objects: how many objects there are.
        scale: (2,) smallest and largest value of the number.
        members: (N, M) the objects of each row, of a mean of rows that share outlines; None of what is resampled.
    """

    value: float
    replicates: FloatArray
    by_seed: FloatArray
    objects: int
    scale: FloatArray
    members: IntArray | None = None

    def plus(self, other: "_Sampled", sign: int) -> "_Sampled":
        """This number plus `sign` times another on the same seeds and resamples."""
        return _Sampled(
            self.value + sign * other.value,
            self.replicates + sign * other.replicates,
            self.by_seed + sign * other.by_seed,
            self.objects,
            self.scale + (sign * other.scale)[::sign],
            self.members,
        )

    def with_error(self) -> WithError:
        """The number with what seeds and objects add to its variance."""
        seeds = len(self.by_seed)
        if self.members is None:
            of_objects = Part(float(self.replicates.var()), max(self.objects - 1.0, 1.0))
        else:
            groups = [self.members[:, :1], self.members[:, 1:]]
            of_objects = Part(*clustered_variance(self.replicates, groups, float(np.ptp(self.scale))))
        variance = float(self.by_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0
        return WithError(self.value, Part(variance, max(seeds - 1.0, 1.0)), of_objects)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student's interval over seeds and objects, within the scale of a mean of rows that share outlines.

        For a single seed of what is resampled it is the percentile interval over objects.
        """
        if self.members is not None:
            return Interval(*np.clip(self.with_error().interval(confidence), *self.scale).tolist())
        if len(self.by_seed) == 1:
            return percentile_interval(self.value, self.replicates, confidence)
        return self.with_error().interval(confidence)

    def within(self, found: Estimate, interval: Interval) -> Estimate:
        """An estimate with an interval of the number; undefined where that is longer than the scale."""
        if interval.high - interval.low > np.ptp(self.scale):
            return replace(found, undefined_because=_TOO_WIDE)
        found = found.within(interval)
        is_student = self.members is not None and len(self.by_seed) == 1
        return replace(found, degrees=self.with_error().objects.degrees) if is_student else found


def _stack_pair(statistic: Statistic, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]) -> Columns:
    """Columns with values (2 * C, S, N), first those of arm A."""
    if len(runs_a) != len(runs_b):
        raise InputError(
            f"both arms must have a run for each seed, got {len(runs_a)} and {len(runs_b)}; leave unmatched seeds out."
        )
    stacked = _stack(statistic, [*runs_a, *runs_b])
    return stacked._replace(values=np.concatenate(np.split(stacked.values, 2, axis=1)))


def _stack(statistic: Statistic, runs: Sequence[Outcomes]) -> Columns:
    """Columns with values (C, S, N), those of all runs."""
    columns = [statistic.columns(run) for run in runs]
    for other in columns[1:]:
        if not (np.array_equal(other.ids, columns[0].ids) and np.array_equal(other.objects, columns[0].objects)):
            raise InputError(
                "runs to compare must be evaluated on the same images, got "
                f"{len(columns[0].ids)} and {len(other.ids)} images with different ids; evaluate them on one split."
            )
    return columns[0]._replace(values=np.stack([each.values for each in columns], axis=1))


def _sample(
    statistic: Statistic, columns: Columns, arms: int, replicates: int, seed: int, confidence: float
) -> tuple[Estimate, list[_Sampled]]:
    """An estimate without its numbers yet, and the number of each arm (none if one of them is undefined).

    The columns' values are (arms * C, S, N). Objects are resampled, and the mean over seeds is taken of each resample.
    """
    values, valid = columns.values, len(np.unique(columns.ids))
    found = Estimate(None, None, None, valid, columns.left_out)
    if valid == 0:
        return replace(found, undefined_because=columns.undefined_because or _NO_IMAGE), []
    over_seeds, of_seeds = values.mean(axis=1), np.split(values.mean(axis=2), arms)
    objects, scale = len(np.unique(columns.objects)), np.array(statistic.scale)
    if columns.outlines is not None:
        members = np.column_stack([columns.objects, columns.outlines])
        every = zip(over_seeds, values.mean(axis=2), strict=True)
        return found, [_Sampled(float(each.mean()), each, seeds, objects, scale, members) for each, seeds in every]
    resampled = np.split(bootstrap_means(over_seeds, replicates, seed, columns.objects), arms, axis=-1)
    observed = np.split(values.mean(axis=(1, 2)), arms)
    numbers = []
    for means, replicate_means, seed_means in zip(observed, resampled, of_seeds, strict=True):
        if statistic.denominator is not None:
            bound = percentile_interval(
                statistic.denominator(means).item(), statistic.denominator(replicate_means), confidence
            )
            if bound.low <= 0.0:
                reason = (
                    f"undefined because {statistic.denominator_name} is {bound.value:.3f}, "
                    f"interval {bound.low:.3f} to {bound.high:.3f}, which does not lie above 0."
                )
                return replace(found, undefined_because=reason), []
        with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is undefined
            number = _Sampled(
                statistic.combine(means).item(),
                statistic.combine(replicate_means),
                statistic.combine(seed_means.T),
                objects,
                scale,
            )
        if not np.isfinite(np.hstack(number[:3])).all():
            return replace(found, undefined_because=_NOT_FINITE), []
        numbers.append(number)
    return found, numbers


def right_answers(outcomes: Outcomes, *conditions: str) -> Columns:
    """Whether predictions are right under each condition, (C, N) in {0, 1}, over the images asked under all of them.

    Raises:
        InputError: the outcomes lack a condition.
    """
    predictions = np.stack([outcomes.predictions_under(condition) for condition in conditions])
    known: BoolArray = np.all(predictions >= 0, axis=0)
    return columns_of(outcomes, known, *(predictions == outcomes.labels))


def columns_of(outcomes: Outcomes, counted: BoolArray, *rows: FloatArray | BoolArray) -> Columns:
    """Rows (N,) of quantities, over the images that are `counted` (N,) alone."""
    values = np.stack(rows)[:, counted]
    left_out, yes_or_no = int((~counted).sum()), values.dtype == np.bool_
    return Columns(outcomes.ids[counted], outcomes.objects[counted], values.astype(np.float64), left_out, yes_or_no)
