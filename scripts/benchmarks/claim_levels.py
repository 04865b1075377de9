"""Simulate how often `maskrobust claim` decides wrongly, and how often rightly, in nine kinds of worlds.

    python scripts/benchmarks/claim_levels.py --trials 4000

A world gives the true numbers of every pair of an arm and a fill, of layer masking, and of a network without masks.
Each network has an error of its own in each number, one for each seed and one for the images; accuracies have half of
those of shape choices, which are given minus one half. Errors are normal; over seeds they are Student's with 3 degrees
of freedom, with the same standard deviation, where tails are heavy. What is printed for a wrong verdict is the largest
frequency over the worlds of a kind, over three spreads, and over designs of one arm under one fill and of three arms
under four.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray

LEVEL, MARGIN, CLEAN_TOLERANCE, KEPT_TOLERANCE, LEAST_VARIED = 0.025, 0.05, 0.03, 0.03, 0.1
TRAININGS, SEEDS, DESIGNS = 0.5, (5, 8, 12, 20), ((1, 1), (3, 4))
VERDICTS = ("first supported", "first refuted", "second supported", "second refuted")


class Errors(NamedTuple):
    """Standard deviations of shape choices: over seeds, and of their mean over images; accuracy's are half."""

    seeds: float
    images: float


ERRORS = (Errors(0.03, 0.015), Errors(0.1, 0.002), Errors(0.003, 0.015))
"""Typical ones first; seeds alone; images alone."""


class Number(NamedTuple):
    """A mean over seeds and images, with the variances that both add to it; degrees of freedom are seeds minus one."""

    value: FloatArray
    of_seeds: FloatArray
    of_images: float
    degrees: float

    def above(self, bound: float, level: float | FloatArray) -> BoolArray:
        """Whether it is shown to exceed the bound."""
        student, normal = stats.t.isf(level, self.degrees), stats.norm.isf(level)
        shown: BoolArray = self.value - np.sqrt(student**2 * self.of_seeds + normal**2 * self.of_images) > bound
        return shown

    def below(self, bound: float, level: float | FloatArray) -> BoolArray:
        """Whether it is shown to lie below the bound."""
        return self._replace(value=-self.value).above(-bound, level)

    def is_small(self, level: float | FloatArray) -> BoolArray:
        """Whether its magnitude is shown to lie below the margin: two one-sided tests."""
        return self.below(MARGIN, level) & self.above(-MARGIN, level)

    def is_large(self, level: float | FloatArray) -> BoolArray:
        """Whether its magnitude is shown to exceed the margin."""
        return self.above(MARGIN, level / 2.0) | self.below(-MARGIN, level / 2.0)


class Evidence(NamedTuple):
    """What the rule looks at, (trials, arms, fills); the first fill is that of the training.

    Attributes:
        share: shape choices minus one half.
        little: number of seeds of which the 80 % interval of that over images lies within the margin.
        minus: the same number minus that of layer masking.
        plus: the same plus that of layer masking.
        kept: accuracy with patches hidden minus that of layer masking.
        sees: accuracy with patches hidden minus chance.
        varied: fraction of the answers behind circles that are not the most frequent one.
        clean: accuracy with nothing hidden minus the baseline's, one fill.
        bare: the number of the network without masks, one arm.
        reference_sees: layer masking's accuracy with patches hidden minus chance, one arm and one fill.
        reference_clean: its accuracy with nothing hidden minus the baseline's, the same.
    """

    share: Number
    little: IntArray
    minus: Number
    plus: Number
    kept: Number
    sees: Number
    varied: Number
    clean: Number
    bare: Number
    reference_sees: Number
    reference_clean: Number


def decide(found: Evidence) -> dict[str, BoolArray]:
    """Which verdicts are given, (trials,) each; see `docs/claim.md`."""
    may = found.reference_sees.above(KEPT_TOLERANCE, LEVEL) & ~found.reference_clean.below(-CLEAN_TOLERANCE, LEVEL / 6)
    may = may[:, 0, 0]
    lost = np.broadcast_to(found.clean.below(-CLEAN_TOLERANCE, LEVEL / 6), found.share.value.shape)
    out = lost[..., :1] | found.bare.is_small(LEVEL / 6)[..., :1]
    own = LEVEL / _number(out)
    prevented = (_works(found, own, own) & found.bare.is_large(own))[..., :1]
    relies = _relies_more(found, 2 * LEVEL / 3)[..., :1]
    fails = found.kept.below(-KEPT_TOLERANCE, LEVEL / 3) | _relies_more(found, LEVEL / 3)
    works = _works(found, LEVEL / _number(lost), LEVEL / _number(lost[..., :1]))
    verdicts: dict[str, BoolArray] = {}
    for claim, as_well, failing, left in (("first", prevented, relies, ~out), ("second", works, fails, ~lost)):
        refuted = may & (as_well & left).any(axis=(1, 2))
        every = (failing | ~left).all(axis=(1, 2)) & left.any(axis=(1, 2))
        verdicts |= {f"{claim} supported": may & ~refuted & every, f"{claim} refuted": refuted}
    return verdicts


def _works(found: Evidence, level: FloatArray, of_arm: FloatArray) -> BoolArray:
    """Whether a pair is shown not to rely and to be as accurate as it must be; clean accuracy is one for all fills."""
    works = found.share.is_small(level) & found.kept.above(-KEPT_TOLERANCE, level)
    works &= stats.binom.sf(found.little - 1, found.share.degrees + 1, TRAININGS) < level
    works &= found.sees.above(KEPT_TOLERANCE, level) & found.varied.above(LEAST_VARIED, level)
    return works & found.clean.above(-CLEAN_TOLERANCE, of_arm)


def _relies_more(found: Evidence, level: float) -> BoolArray:
    """Whether |a| - |b| is shown to exceed the margin, from a - b and a + b."""
    above = found.minus.above(MARGIN, level / 2) & found.plus.above(MARGIN, level / 2)
    return above | (found.minus.below(-MARGIN, level / 2) & found.plus.below(-MARGIN, level / 2))


def _number(out: BoolArray) -> FloatArray:
    """How many are not out, at least 1, (trials, 1, 1): it divides a level in Holm's first step."""
    number: FloatArray = np.maximum((~out).sum(axis=(1, 2), keepdims=True), 1).astype(np.float64)
    return number


class World(NamedTuple):
    """True numbers, and which verdicts are wrong under them.

    Attributes:
        kind: what kind of world it is, for the table.
        wrong: wrong verdicts as numbers of `VERDICTS`.
        share: shape choices minus one half of the first arm under the fill of its training, or of all pairs.
        others: the same of the other pairs; None for the same.
        reference: the same of layer masking.
        bare: the same of the network without masks, under the first fill.
        kept: accuracy with patches hidden minus layer masking's, of the first pair, or of all.
        kept_others: the same of the other pairs; None for the same.
        clean: accuracy with nothing hidden minus the baseline's, of the first arm.
        sees: layer masking's accuracy with patches hidden minus chance.
        varied: fraction of answers behind circles that are not the most frequent one, of all pairs.
        heavy: whether tails are heavy.
        few: fraction of seeds that learn a shortcut.
        shortcut: what that adds to shape choices.
        steady: whether seeds differ by little else, with a standard deviation of 0.003.
        spread: factor of all errors.
    """

    kind: str
    wrong: tuple[int, ...]
    share: float = 0.4
    others: float | None = None
    reference: float = 0.0
    bare: float = 0.4
    kept: float = 0.0
    kept_others: float | None = None
    clean: float = 0.0
    sees: float = 0.3
    varied: float = 0.6
    heavy: bool = False
    few: float = 0.0
    shortcut: float = 0.5
    steady: bool = False
    spread: float = 1.0


_BOTH, _COLLAPSE, _LOST, _HALF = "both rely", "collapse", "clean accuracy lost", "half of the seeds rely"
_HEAVY, _COUNTS, _LITTLE, _BORDER = "heavy tails", "an arm just counts", "layer masking relies a little", "borders"
SUPPORTED, REFUTED, ALL = (0, 2), (1, 3), (0, 1, 2, 3)
WORLDS = (
    World(_BOTH, (1, 2, 3), reference=0.4),
    World(_BOTH, (1, 2, 3), share=0.1, reference=0.1),
    World(_BOTH, (1, 2, 3), share=-0.3, reference=0.3),
    World(_COLLAPSE, (0, 1, 3), share=0.0, kept=-0.3),
    World(_COLLAPSE, (0, 1, 3), share=0.0, others=0.4, kept=-0.3, kept_others=0.0),
    World(_COLLAPSE, (0, 1, 3), share=0.0, kept=-0.06),
    World(_COLLAPSE, ALL, share=0.0, sees=0.0),
    World(_COLLAPSE, ALL, share=0.0, varied=0.02),
    World(_LOST, REFUTED, share=0.0, others=0.4, clean=-0.05),
    World(_HALF, REFUTED, share=0.0, few=0.5, shortcut=0.06, steady=True),
    World(_HALF, REFUTED, share=-0.06, few=0.5, shortcut=0.12, steady=True),
    World(_HALF, REFUTED, share=0.0, few=0.5, shortcut=0.1),
    World(_HALF, REFUTED, share=0.0, few=0.5),
    World(_HEAVY, REFUTED, share=0.2, heavy=True),
    World(_HEAVY, SUPPORTED, share=0.0, others=0.4, heavy=True),
    World(_HEAVY, ALL, share=0.05, heavy=True),
    World(_HEAVY, ALL, share=0.0, kept=-0.03, heavy=True),
    World(_COUNTS, SUPPORTED, share=0.0, others=0.4, clean=-0.03),
    World(_LITTLE, REFUTED, share=0.07, reference=0.03),
    World(_LITTLE, SUPPORTED, share=0.03, others=0.4, reference=0.03),
    World(_LITTLE, REFUTED, share=0.2, reference=0.08),
    World(_LITTLE, SUPPORTED, share=0.0, others=0.4, reference=0.1),
    World(_BORDER, ALL, share=0.05),
    World(_BORDER, SUPPORTED, share=0.05, others=0.4),
    World(_BORDER, (2,), share=0.07, others=0.4, reference=0.02),
    World(_BORDER, (0, 1, 2), share=0.0, others=0.4, bare=0.05),
    World(_BORDER, ALL, share=0.0, kept=-0.03),
    World(_BORDER, (0, 1, 2), share=0.0, others=0.4, bare=0.0),
    World(_BORDER, SUPPORTED, share=0.0, others=0.4),
)
RIGHT = {
    "every arm relies, .2": (SUPPORTED, World("", REFUTED, share=0.2)),
    "the same, heavy tails": (SUPPORTED, World("", REFUTED, share=0.2, heavy=True)),
    "one pair does not rely": (REFUTED, World("", SUPPORTED, share=0.0, others=0.4)),
    "the same, half the spread": (REFUTED, World("", SUPPORTED, share=0.0, others=0.4, spread=0.5)),
    "the same, one seed in five relies": (REFUTED, World("", SUPPORTED, share=0.0, others=0.4, spread=0.5, few=0.2)),
}
"""Worlds that say how often a right verdict is given, with these verdicts."""


def draw(
    world: World, arms: int, fills: int, seeds: int, errors: Errors, trials: int, rng: np.random.Generator
) -> Evidence:
    """Experiments, as the rule sees them."""
    of_seeds, of_images = (world.spread * each for each in errors)
    of_seeds = min(of_seeds, 0.003) if world.steady else of_seeds

    def filled(first: float, others: float | None) -> FloatArray:
        values = np.full((arms, fills), first if others is None else others)
        values[0, 0] = first
        return values

    def networks(true: FloatArray, scale: float) -> FloatArray:
        shape = (trials, *true.shape, seeds)
        noise = rng.standard_t(3, shape) / np.sqrt(3.0) if world.heavy else rng.normal(size=shape)
        drawn: FloatArray = of_images * rng.normal(size=(*shape[:-1], 1)) + of_seeds * noise
        return true[..., None] + scale * drawn

    def number(values: FloatArray, networks: int, scale: float) -> Number:
        variance = values.var(axis=-1, ddof=1) / seeds
        return Number(values.mean(axis=-1), variance, networks * (scale * of_images) ** 2, seeds - 1.0)

    one = np.zeros((1, 1))
    share, reference = networks(filled(world.share, world.others), 1.0), networks(one + world.reference, 1.0)
    share = share + world.shortcut * (rng.random(share.shape) < world.few)
    bare = networks(np.array([[world.bare, *[0.4] * (fills - 1)]]), 1.0)
    sees, varied = networks(one + world.sees, 0.5), networks(filled(world.varied, None), 0.5)
    arm = networks(world.sees + filled(world.kept, world.kept_others), 0.5)
    clean, of_reference, base = networks(filled(world.clean, 0.0)[:, :1], 0.5), networks(one, 0.5), networks(one, 0.5)
    return Evidence(
        share=number(share, 1, 1.0),
        little=(np.abs(share) + stats.norm.isf(0.1) * of_images < MARGIN).sum(axis=-1),
        minus=number(share - reference, 2, 1.0),
        plus=number(share + reference, 2, 1.0),
        kept=number(arm - sees, 2, 0.5),
        sees=number(arm, 1, 0.5),
        varied=number(varied, 1, 0.5),
        clean=number(clean - base, 2, 0.5),
        bare=number(bare, 1, 1.0),
        reference_sees=number(sees, 1, 0.5),
        reference_clean=number(of_reference - base, 2, 0.5),
    )


def rates(world: World, seeds: int, errors: Sequence[Errors], trials: int) -> Iterator[FloatArray]:
    """How often each verdict is given, (4,), for each design and spread."""
    rng = np.random.default_rng(seeds)
    for design, each in itertools.product(DESIGNS, errors):
        yield np.array([found.mean() for found in decide(draw(world, *design, seeds, each, trials, rng)).values()])


def lines(trials: int, seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """Both tables in Markdown: the largest frequencies of wrong verdicts, and the smallest of right ones."""
    numbers = " / ".join(map(str, seeds))
    yield f"Wrong verdicts, %, with {numbers} seeds"
    yield from ("| kind of world | " + " | ".join(VERDICTS) + " |", "|---" * 5 + "|")
    for kind in dict.fromkeys(world.kind for world in WORLDS):
        some = [world for world in WORLDS if world.kind == kind]
        worst = np.full((len(VERDICTS), len(seeds)), np.nan)
        for world, (place, number) in itertools.product(some, enumerate(seeds)):
            wrong = list(world.wrong)
            found = np.max([*rates(world, number, ERRORS, trials)], axis=0)[wrong]
            worst[wrong, place] = np.fmax(worst[wrong, place], found)
        yield _line(kind, worst)
    yield from (
        "",
        f"Right verdicts, %, with {numbers} seeds",
        "| world | first claim | second claim |",
        "|---" * 3 + "|",
    )
    for name, (right, world) in RIGHT.items():
        least = np.array([np.min([*rates(world, number, ERRORS[:1], trials)], axis=0)[list(right)] for number in seeds])
        yield _line(name, least.T)


def _line(name: str, found: FloatArray) -> str:
    cells = ("" if np.isnan(each).all() else " / ".join(f"{100 * one:.1f}" for one in each) for each in found)
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4000)
    for line in lines(parser.parse_args().trials):
        print(line, flush=True)


if __name__ == "__main__":
    main()
