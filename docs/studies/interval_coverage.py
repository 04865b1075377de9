"""How often the intervals of the outline pull in docs/research-networks.md hold the true mean, by simulation.

python docs/studies/interval_coverage.py

The pull of objects i and j in photograph s is b_s + (u_i + u_j + v_is + v_js) / 2 + e_ijs, with effects of photographs
b, of objects u, of objects within photographs v, and noise e; its true mean is 0. Objects are paired at random, with
as many pairs as in the study. The photographs of each texture vary half as much as those of the texture before.
"""

import numpy as np

from maskrobust.lm_modules.reliance.estimates.crossed import crossed_mean

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


if __name__ == "__main__":
    for name, sizes in SIZES.items():
        for skewed in (False, True):
            print(
                f"{name}{', skewed' if skewed else ''}: {coverage(sizes, skewed=skewed, trials=2000):.1%}", flush=True
            )
