"""Estimate a statistic with an interval: of one run, of several seeds, or of the difference of two networks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError, library_needed
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.estimates.clustered import clustered_variance, mean_variance
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_LEAST_LEVEL, _ROUNDING = 1e-9, 1e-6
_NO_IMAGE = "undefined because no image is valid for it."
_NOT_FINITE = (
    "undefined because its formula or its interval gives no finite number, as where it divides by zero or rests on one "
    "object."
)


class Interval(NamedTuple):
    """A number with its interval.

    Attributes:
        value: the number on the data as they are.
        low: lower bound.
        high: upper bound.
    """

    value: float
    low: float
    high: float


class Columns(NamedTuple):
    """What a statistic averages over images.

    Attributes:
        ids: (N,) int64 ids of the images that count.
        objects: (N,) int64 which object each image shows.
        values: (C, N) float64, one row for each quantity.
        left_out: number of images that do not count.
        outlines: (N, M) int64, the objects whose outlines are cut into each image; None where there are none. With
            some, intervals are over these, too (`clustered_variance`).
        undefined_because: why no image counts, in one sentence; empty for the usual reason.
    """

    ids: IntArray
    objects: IntArray
    values: FloatArray
    left_out: int
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

    In this form one definition serves the number of one run, that of each seed, intervals and the difference between
    two networks.

    Attributes:
        columns: the quantities to average over images.
        combine: the number, from the means of the columns.
        is_ratio: whether `combine` divides by a mean: what an image adds to a ratio has no scale.
        scale: smallest and largest value, at which intervals end; infinite where there is none.
    """

    columns: Callable[[Outcomes], Columns]
    combine: Combine = first_mean
    is_ratio: bool = False
    scale: tuple[float, float] = (0.0, 1.0)


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
        degrees: degrees of freedom where the interval is Student's over objects; None where it is another.
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


Estimator = Callable[[Sequence[Outcomes]], Estimate]
"""Runs -> estimate: of what is no smooth function of means, such as a largest change."""


def estimate(statistic: Statistic, runs: Sequence[Outcomes], *, confidence: float = 0.95) -> Estimate:
    """A statistic over the runs of one arm, with Student's interval.

    With one run the interval is over objects (`mean_variance`, `clustered_variance`), and says nothing about other
    seeds; with several it is over seeds and objects (`WithError`). What an image adds to a number that is no mean is
    its pseudo-value (Tukey's jackknife). At an end of the scale the other bound is the exact one for so many objects
    (Clopper and Pearson, Biometrika 1934), for G of them 1 - ((1 - confidence) / 2)^(1 / G) of the scale from that
    end. No interval leaves the scale.

    Args:
        statistic: what to compute.
        runs: outcomes on the same images, one for each seed, at least one.
        confidence: confidence of the interval, in (0, 1).

    Raises:
        InputError: runs cover different images, or the number lies outside of its scale.
    """
    found, numbers = _numbers(statistic, runs)
    return numbers[0].within(found, confidence) if numbers else found


def estimate_difference(statistic: Statistic, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]) -> Estimate:
    """A statistic over the runs of arm A minus that of arm B, paired on images and on seeds.

    Its 95 % interval is that of `estimate`, of the images' differences.

    Args:
        statistic: what to compute.
        runs_a: outcomes of arm A, one for each seed, at least one.
        runs_b: outcomes of arm B on the same images, of the same seeds in the same order.

    Raises:
        InputError: arms differ in their number of runs, or see `estimate`.
    """
    found, numbers = _numbers(statistic, runs_a, runs_b)
    return numbers[0].plus(numbers[1], -1).within(found) if numbers else found


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
        with library_needed():
            from scipy import special  # here, as above; its quantile is the one of scipy.stats, which checks more

        quantiles = special.stdtrit([self.seeds.degrees, self.objects.degrees], level)
        return float(np.sqrt(quantiles**2 @ [self.seeds.variance, self.objects.variance]))


def estimate_with_error(statistic: Statistic, runs: Sequence[Outcomes]) -> WithError | None:
    """A statistic over the runs of one network with what seeds and objects add to its variance; None if undefined.

    The arguments are those of `estimate`, the variances those of `estimate_pair`.

    Raises:
        InputError: see `estimate`.
    """
    _, numbers = _numbers(statistic, runs)
    return numbers[0].with_error() if numbers else None


def estimate_pair(
    statistic: Statistic, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]
) -> tuple[Estimate, tuple[WithError, WithError] | None]:
    """A statistic over the runs of networks A and B: a - b, and a + b, with their standard errors.

    V_S, the variance of the mean over seeds, is that of the seeds' own numbers over their number; V_O, that over
    objects, is of the images' means over seeds. What varies with both, seed and object, is in both parts, so
    bounds are a little too wide. With one seed V_S is 0, and bounds say nothing about other seeds.

    Args:
        statistic: what to compute.
        runs_a: outcomes of network A, one for each seed, at least one.
        runs_b: outcomes of network B on the same images, of the same seeds in the same order.

    Returns:
        An estimate whose numbers are left open, then a - b and a + b; None where one of a and b is undefined.

    Raises:
        InputError: networks differ in their number of runs, or see `estimate`.
    """
    found, numbers = _numbers(statistic, runs_a, runs_b)
    if not numbers:
        return found, None
    first, second = numbers
    return found, (first.plus(second, -1).with_error(), first.plus(second, 1).with_error())


class _Number(NamedTuple):
    """A number over images and seeds, with what shows how much it varies.

    Attributes:
        by_seed: (S,) the number of each seed.
        by_image: (N,) what each image adds to the number, whose mean it is up to its bias.
        objects: (N,) which object each image shows.
        outlines: (N, M) the objects whose outlines are cut into each image; None where there are none.
        scale: (2,) smallest and largest value.
        span: length of the scale that images' values lie on; infinite where there is none, as of a ratio.
    """

    by_seed: FloatArray
    by_image: FloatArray
    objects: IntArray
    outlines: IntArray | None
    scale: FloatArray
    span: float

    def plus(self, other: "_Number", sign: int) -> "_Number":
        """This number plus `sign` times another on the same seeds and images."""
        return self._replace(
            by_seed=self.by_seed + sign * other.by_seed,
            by_image=self.by_image + sign * other.by_image,
            scale=self.scale + (sign * other.scale)[::sign],
            span=self.span + other.span,
        )

    def with_error(self) -> WithError:
        """The number with what seeds and objects add to its variance."""
        seeds = len(self.by_seed)
        if self.outlines is None:
            of_objects = Part(*mean_variance(self.by_image, self.objects, self.span))
        else:
            of_objects = Part(
                *clustered_variance(self.by_image, [self.objects[:, np.newaxis], self.outlines], self.span)
            )
        variance = float(self.by_seed.var(ddof=1) / seeds) if seeds > 1 else 0.0
        return WithError(float(self.by_seed.mean()), Part(variance, max(seeds - 1.0, 1.0)), of_objects)

    def within(self, found: Estimate, confidence: float = 0.95) -> Estimate:
        """An estimate with the number and its interval."""
        number, (least, largest) = self.with_error(), self.scale.tolist()
        value, low, high = np.clip(number.interval(confidence), least, largest).tolist()
        if self.outlines is None and value in (least, largest):
            reach = 1.0 - ((1.0 - confidence) / 2.0) ** (1.0 / len(np.unique(self.objects)))
            ends = (least, least + reach * (largest - least)), (largest - reach * (largest - least), largest)
            return found.within(Interval(value, *ends[value == largest]))
        degrees = number.objects.degrees if len(self.by_seed) == 1 else None
        return replace(found.within(Interval(value, low, high)), degrees=degrees)


def _numbers(statistic: Statistic, *arms: Sequence[Outcomes]) -> tuple[Estimate, list[_Number]]:
    """An estimate without its numbers yet, and the number of each arm (none if one of them is undefined)."""
    if len({*map(len, arms)}) > 1:
        raise InputError(
            f"both arms must have a run for each seed, got {len(arms[0])} and {len(arms[1])}; leave unmatched seeds "
            "out."
        )
    columns = [[statistic.columns(run) for run in arm] for arm in arms]
    first = columns[0][0]
    for other in (each for arm in columns for each in arm):
        if not (np.array_equal(other.ids, first.ids) and np.array_equal(other.objects, first.objects)):
            raise InputError(
                "runs to compare must be evaluated on the same images, got "
                f"{len(first.ids)} and {len(other.ids)} images with different ids; evaluate them on one split."
            )
    found, numbers = Estimate(None, None, None, len(np.unique(first.ids)), first.left_out), []
    if found.images == 0:
        return replace(found, undefined_because=first.undefined_because or _NO_IMAGE), []
    for arm in columns:
        number = _jackknifed(statistic.combine, arm, statistic.scale)
        if statistic.is_ratio:
            number = number._replace(span=math.inf)
        if not np.isfinite([*number.by_seed, *number.by_image]).all():
            return replace(found, undefined_because=_NOT_FINITE), []
        (least, largest), (low, high) = statistic.scale, (number.by_seed.min(), number.by_seed.max())
        if low < least - _ROUNDING or high > largest + _ROUNDING:
            raise InputError(
                f"a statistic must lie on its scale, {least:g} to {largest:g}, got {low:g} to {high:g}; give it "
                "another scale."
            )
        numbers.append(number)
    return found, numbers


def _jackknifed(combine: Combine, arm: Sequence[Columns], scale: tuple[float, float]) -> _Number:
    """The number of each seed, and what each image adds: N times the number minus N - 1 times that without the image.

    These pseudo-values (Tukey, Annals of Mathematical Statistics 1958) are the images' own numbers where `combine` is
    linear; of a single image it is the number.
    """
    values = np.stack([each.values.T for each in arm])  # (S, N, C)
    means, count = values.mean(axis=1), values.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is undefined
        by_seed, added = combine(means), np.zeros(values.shape[:2])
        if count > 1:
            added = by_seed[:, np.newaxis] - combine(
                means[:, np.newaxis] + (means[:, np.newaxis] - values) / (count - 1)
            )
    by_image = (by_seed[:, np.newaxis] + (count - 1) * added).mean(axis=0)
    return _Number(by_seed, by_image, arm[0].objects, arm[0].outlines, np.array(scale), scale[1] - scale[0])


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
    values = np.stack(rows)[:, counted].astype(np.float64)
    return Columns(outcomes.ids[counted], outcomes.objects[counted], values, int((~counted).sum()))
