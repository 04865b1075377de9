"""Simulate how often `maskrobust claim` decides wrongly, and how often rightly.

    python scripts/benchmarks/claim_levels.py --trials 10000

The used share of an arm under a fill is a, that of layer masking b, and the accuracy that the fill keeps is c more than
layer masking keeps. With nothing hidden an arm is d more accurate than the baseline, and counts unless it is shown to
lose more than the tolerance. Each network has an error of its own in each number, one for each seed and one for the
images, all normal; nothing depends on the signs of a and b. What is printed for a false verdict is the largest
frequency over all truths and errors that are tried: at the borders of both claims and of what counts, inside them, and
with b = 0. One arm or pair is at the border where one is enough to make a claim false, all are where all must be. The
last table says how often an arm counts that loses more or less accuracy.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

LEVEL, MARGIN, TOLERANCE = 0.025, 0.05, 0.03
THIRD = LEVEL / 3
SEEDS, ARMS, FILLS = (2, 3, 5, 8), (1, 2, 3, 4), (1, 2, 3, 4)
FAR = 0.5


class Errors(NamedTuple):
    """Standard deviations of a network's used share: over seeds, and of its mean over images; accuracy's are half."""

    seeds: float
    images: float


ERRORS = (Errors(0.03, 0.015), Errors(0.1, 0.002), Errors(0.003, 0.015))
"""Typical ones first; seeds alone; images alone."""


class Bounds(NamedTuple):
    """What decides about pairs (trials, arms, fills): estimates, and the variances that seeds and images add.

    Those of `clean`, the accuracy with nothing hidden, are (trials, arms, 1).
    """

    minus: tuple[FloatArray, FloatArray]
    plus: tuple[FloatArray, FloatArray]
    kept: tuple[FloatArray, FloatArray]
    clean: tuple[FloatArray, FloatArray]
    seeds: int
    errors: Errors

    def _reach(self, variances: FloatArray, level: float | FloatArray, scale: float = 1.0) -> FloatArray:
        of_images = 2.0 * (scale * self.errors.images) ** 2
        reach: FloatArray = np.sqrt(
            stats.t.isf(level, self.seeds - 1) ** 2 * variances + stats.norm.isf(level) ** 2 * of_images
        )
        return reach

    def counts(self) -> BoolArray:
        """Whether an arm is not shown to lose more clean accuracy than the tolerance, (trials, arms, 1)."""
        clean, variance = self.clean
        counts: BoolArray = clean + self._reach(variance, THIRD, 0.5) >= -TOLERANCE
        return counts

    def relies_more(self, level: float) -> BoolArray:
        """Whether |a| - |b| is shown to exceed the margin."""
        (minus, minus_variance), (plus, plus_variance) = self.minus, self.plus
        of_minus, of_plus = self._reach(minus_variance, level / 2), self._reach(plus_variance, level / 2)
        above: BoolArray = np.minimum(minus - of_minus, plus - of_plus) > MARGIN
        below: BoolArray = np.maximum(minus + of_minus, plus + of_plus) < -MARGIN
        return above | below

    def relies_as_little(self, level: float | FloatArray) -> BoolArray:
        """Whether it is shown to lie below the margin."""
        (minus, minus_variance), (plus, plus_variance) = self.minus, self.plus
        of_minus, of_plus = self._reach(minus_variance, level / 2), self._reach(plus_variance, level / 2)
        below: BoolArray = np.minimum(minus + of_minus, plus + of_plus) < MARGIN
        above: BoolArray = np.maximum(minus - of_minus, plus - of_plus) > -MARGIN
        return below & above

    def keeps_less(self, level: float) -> BoolArray:
        """Whether c is shown to lie below minus the tolerance."""
        kept, variance = self.kept
        below: BoolArray = kept + self._reach(variance, level, 0.5) < -TOLERANCE
        return below

    def keeps_enough(self, level: float | FloatArray) -> BoolArray:
        """Whether it is shown to lie above that."""
        kept, variance = self.kept
        above: BoolArray = kept - self._reach(variance, level, 0.5) > -TOLERANCE
        return above


def draw(
    shares: FloatArray,
    reference: float,
    kept: FloatArray,
    clean: FloatArray,
    seeds: int,
    errors: Errors,
    rng: np.random.Generator,
    trials: int,
) -> Bounds:
    """Experiments on true shares a and accuracies c, (arms, fills), d, (arms, 1), and layer masking's share b."""

    def network(true: FloatArray, scale: float) -> FloatArray:
        of_images = errors.images * rng.normal(size=(trials, *true.shape, 1))
        return true[..., None] + scale * (of_images + errors.seeds * rng.normal(size=(trials, *true.shape, seeds)))

    def over_seeds(values: FloatArray) -> tuple[FloatArray, FloatArray]:
        return values.mean(axis=-1), values.var(axis=-1, ddof=1) / seeds

    a, b = network(shares, 1.0), network(np.full((1, 1), reference), 1.0)
    c = network(kept, 0.5) - network(np.zeros((1, 1)), 0.5)
    d = network(clean, 0.5) - network(np.zeros((1, 1)), 0.5)
    return Bounds(over_seeds(a - b), over_seeds(a + b), over_seeds(c), over_seeds(d), seeds, errors)


def first_claim(found: Bounds) -> tuple[BoolArray, BoolArray]:
    """Whether it is supported and whether it is refuted, (trials,); the first fill is that of the training."""
    more, as_little = found.relies_more(2 * THIRD), found.relies_as_little(LEVEL / _counted(found))
    return _decide(more[..., :1], as_little[..., :1], found.counts())


def second_claim(found: Bounds) -> tuple[BoolArray, BoolArray]:
    """Whether it is supported and whether it is refuted, (trials,); Holm's first step is Bonferroni's."""
    level = LEVEL / (_counted(found) * found.minus[0].shape[2])
    fails = found.keeps_less(THIRD) | found.relies_more(THIRD)
    return _decide(fails, found.keeps_enough(level) & found.relies_as_little(level), found.counts())


def _counted(found: Bounds) -> FloatArray:
    """Number of arms that count, at least 1, (trials, 1, 1)."""
    number: FloatArray = np.maximum(found.counts().sum(axis=1, keepdims=True), 1).astype(np.float64)
    return number


def _decide(fails: BoolArray, as_well: BoolArray, counts: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Whether every pair that counts fails, and there is one, and whether some pair that counts does as well."""
    supported = np.logical_and.reduce(fails | ~counts, axis=(1, 2)) & np.logical_or.reduce(counts, axis=(1, 2))
    return supported, np.logical_or.reduce(as_well & counts, axis=(1, 2))


REFERENCES = (0.0, 0.02, 0.1)


class Truth(NamedTuple):
    """Under which a verdict is wrong."""

    verdict: str
    shares: FloatArray
    reference: float
    kept: FloatArray
    clean: FloatArray


def false_truths(arms: int, fills: int) -> Iterator[Truth]:
    """Truths under which a verdict is wrong."""
    full = np.ones((arms, fills))
    one = np.zeros((arms, fills), dtype=np.bool_)
    one[0, 0] = True
    as_clean = np.zeros((arms, 1))
    for b in REFERENCES:
        border = b + MARGIN
        for clean in (as_clean, np.where(one[:, :1], -TOLERANCE, 0.0)):  # the arm that counts just counts
            for within in (1.0, 0.5, 0.0):  # one arm does not rely more, or one fill is within both
                a = np.where(one, b + within * MARGIN, FAR)
                yield Truth("first supported", a, b, 0 * full, clean)
                for c in (-TOLERANCE, 0.0):
                    yield Truth("second supported", a, b, np.where(one, c, -FAR), clean)
        yield Truth("first refuted", border * full, b, 0 * full, as_clean)
        yield Truth("second refuted", border * full, b, FAR * full, as_clean)
        yield Truth("second refuted", b * full, b, -TOLERANCE * full, as_clean)
        mixed = np.arange(arms * fills).reshape(arms, fills) % 2 == 0
        kept = np.where(mixed, FAR, -TOLERANCE)
        yield Truth("second refuted", np.where(mixed, border, b), b, kept, as_clean)


def false_verdicts(seeds: int, arms: int, fills: int, trials: int, rng: np.random.Generator) -> dict[str, float]:
    """The largest frequency of each wrong verdict."""
    worst: dict[str, float] = {}
    for truth, errors in itertools.product(false_truths(arms, fills), ERRORS):
        name = truth.verdict
        claim, verdict = name.split()
        found = draw(truth.shares, truth.reference, truth.kept, truth.clean, seeds, errors, rng, trials)
        outcomes = first_claim(found) if claim == "first" else second_claim(found)
        worst[name] = max(worst.get(name, 0.0), float(outcomes[verdict == "refuted"].mean()))
    return worst


def power(seeds: int, arms: int, fills: int, trials: int, rng: np.random.Generator) -> dict[str, float]:
    """How often each right verdict is found with typical errors: where every share is .2 more, or one is equal."""
    full, as_clean, result = np.ones((arms, fills)), np.zeros((arms, 1)), {}
    supported = draw(0.2 * full, 0.0, 0 * full, as_clean, seeds, ERRORS[0], rng, trials)
    equal = 0.2 * full
    equal[0, 0] = 0.0
    refuted = draw(equal, 0.0, 0 * full, as_clean, seeds, ERRORS[0], rng, trials)
    for name, decide in (("first", first_claim), ("second", second_claim)):
        result[f"{name} supported"] = float(decide(supported)[0].mean())
        result[f"{name} refuted"] = float(decide(refuted)[1].mean())
    return result


LOSSES = (0.0, 0.03, 0.04, 0.05, 0.08, 0.2)


def counted(seeds: int, trials: int, rng: np.random.Generator) -> list[float]:
    """How often an arm counts that loses as much clean accuracy, for each of `LOSSES`, with typical errors."""
    none = np.zeros((len(LOSSES), 1))
    found = draw(none, 0.0, none, -np.array(LOSSES)[:, None], seeds, ERRORS[0], rng, trials)
    return [float(each) for each in found.counts().mean(axis=(0, 2))]


COLUMNS = ("first supported", "first refuted", "second supported", "second refuted")


def lines(trials: int, seeds: Iterable[int] = SEEDS) -> Iterator[str]:
    """Tables in Markdown: the largest level and the range of power, over numbers of arms and fills; what counts."""
    head = "| seeds | " + " | ".join(COLUMNS) + " |", "|---" * 5 + "|"
    levels, powers = list(head), list(head)
    counts = ["| seeds | " + " | ".join(f"{100 * loss:.0f} points" for loss in LOSSES) + " |", "|---" * 7 + "|"]
    for number in seeds:
        rng = np.random.default_rng(number)
        designs = list(itertools.product(ARMS, FILLS))
        false = [false_verdicts(number, *design, trials, rng) for design in designs]
        right = [power(number, *design, trials, rng) for design in designs]
        levels.append(f"| {number} | " + " | ".join(f"{100 * max(e[c] for e in false):.2f} %" for c in COLUMNS) + " |")
        ranges = (f"{100 * min(e[c] for e in right):.0f} to {100 * max(e[c] for e in right):.0f} %" for c in COLUMNS)
        powers.append(f"| {number} | " + " | ".join(ranges) + " |")
        shares = (f"{100 * fraction:.0f} %" for fraction in counted(number, trials, rng))
        counts.append(f"| {number} | " + " | ".join(shares) + " |")
    yield from ("False verdicts, the largest frequency", *levels, "", "Right verdicts", *powers)
    yield from ("", "An arm counts that loses", *counts)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20_000)
    for line in lines(parser.parse_args().trials):
        print(line)


if __name__ == "__main__":
    main()
