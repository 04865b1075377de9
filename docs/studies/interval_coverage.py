"""How often 95 % intervals hold the true mean, by simulation.

Of the outline pull in docs/research-networks.md, and of accuracies and differences of two (docs/glossary.md).

python docs/studies/interval_coverage.py

The pull of objects i and j in photograph s is b_s + (u_i + u_j + v_is + v_js) / 2 + e_ijs, with effects of photographs
b, of objects u, of objects within photographs v, and noise e; its true mean is 0. Objects are paired at random, with
as many pairs as in the study. The photographs of each texture vary half as much as those of the texture before.

Each image is right with the probability that is named. Of a difference the first network alone is right in the one
fraction of images, the second alone in the other. Several images of an object are right with a probability of its own,
which is beta-distributed with an intraclass correlation of .1 or .5.
"""

import numpy as np
from crossed import crossed_mean

from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, estimate

OBJECTS, PAIRS, TEXTURES, PHOTOGRAPHS = 35, 91, 5, 4
SIZES = {"objects and photographs vary": (1.0, 0.3, 0.6, 0.3), "photographs vary most": (0.5, 1.0, 0.3, 0.2)}
"""Standard deviations of u, b, v and e."""


def coverage(sizes: tuple[float, float, float, float], *, skewed: bool, trials: int) -> float:
    """Fraction of simulated experiments whose 95 % interval holds 0; `skewed`: u and b are log-normal."""
    of_objects, of_photographs, within, noise = sizes
    rng = np.random.default_rng(0)
    kinds = np.arange(TEXTURES * PHOTOGRAPHS) % TEXTURES
    candidates = np.stack(np.triu_indices(OBJECTS, 1), axis=1)

    def drawn(number: int) -> np.ndarray:
        normal = rng.normal(size=number)
        return np.exp(0.8 * normal) - np.exp(0.32) if skewed else normal

    held = 0
    for _ in range(trials):
        pairs = rng.permutation(candidates)[:PAIRS]
        objects = of_objects * drawn(OBJECTS)[:, None] + within * rng.normal(size=(OBJECTS, len(kinds)))
        values = of_photographs * drawn(len(kinds)) / 2.0**kinds + objects[pairs].mean(axis=1)
        interval = crossed_mean((values + noise * rng.normal(size=values.shape))[None], pairs, kinds).interval()
        held += interval.low <= 0.0 <= interval.high
    return held / trials


def coverage_of_means(ends: tuple[float, float], objects: int, views: int, alike: float, *, trials: int) -> float:
    """Fraction of experiments whose interval holds the mean of what is 1 or -1 in two fractions (0 or 1: one of 0)."""
    rng, number, held = np.random.default_rng(0), np.arange(objects).repeat(views), 0
    more, less = ends
    statistic = Statistic(lambda columns: columns, scale=(-1.0 if less else 0.0, 1.0))
    size = (1.0 - alike) / alike if alike else np.inf
    for _ in range(trials):
        of_object = rng.dirichlet(size * np.array([more, less + 1e-9, 1.0 - more - less]), objects) if alike else None
        chance = np.tile([more, less], (len(number), 1)) if of_object is None else of_object[number, :2]
        drawn = rng.random(len(number))
        values = (drawn < chance[:, 0]) * 1.0 - ((drawn >= chance[:, 0]) & (drawn < chance.sum(axis=1)))
        found = estimate(statistic, [Columns(np.arange(len(number)), number, values[np.newaxis], 0)])
        held += found.low <= more - less <= found.high
    return held / trials


if __name__ == "__main__":
    for ends in [(each, 0.0) for each in (0.02, 0.1, 0.5, 0.9, 0.98)] + [(0.25, 0.15), (0.1, 0.05), (0.015, 0.005)]:
        for objects, views, alike in [(n, 1, 0.0) for n in (20, 50, 200, 1000)] + [(40, 10, 0.1), (40, 10, 0.5)]:
            held = coverage_of_means(ends, objects, views, alike, trials=2000)
            print(f"{ends}, {objects} objects of {views} images, alike {alike}: {held:.1%}", flush=True)
    for name, sizes in SIZES.items():
        for skewed in (False, True):
            print(
                f"{name}{', skewed' if skewed else ''}: {coverage(sizes, skewed=skewed, trials=2000):.1%}", flush=True
            )
