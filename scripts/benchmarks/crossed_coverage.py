"""Simulate how often intervals over objects crossed with scenes and seeds hold the truth.

    python scripts/benchmarks/crossed_coverage.py --trials 1000

The pull of pair (i, j) in scene s of seed k is a_k + b_s + (u_i + u_j + v_is + v_js) / 2 + e_kijs, with effects of
seeds a, of scenes b, of objects u, of objects within scenes v, and noise e; the mean that an interval should hold is 0.
Objects are paired with those of like size, 15 % of all pairs, at least one for every two objects. Scenes of further
kinds vary half as much as those of the kind before.
"""

import argparse
import itertools
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.crossed import crossed_mean

LEVELS = (0.95, 0.992)


class Effects(NamedTuple):
    """Standard deviations of the effects; `skewed`: those of objects and scenes are log-normal instead of normal."""

    objects: float
    scenes: float
    within: float
    noise: float
    seeds: float = 0.3
    skewed: bool = False


class Design(NamedTuple):
    """How many of each there are; `scenes` are shared out among `kinds`."""

    objects: int
    scenes: int
    kinds: int = 1
    seeds: int = 1


EFFECTS = {
    "all vary": Effects(1.0, 0.3, 0.6, 0.3),
    "objects vary": Effects(1.0, 0.0, 0.0, 0.5),
    "scenes vary": Effects(0.5, 1.0, 0.3, 0.2),
    "all vary, skewed": Effects(1.0, 0.3, 0.6, 0.3, skewed=True),
}


DESIGNS = (
    *itertools.starmap(Design, itertools.product((8, 20, 100), (2, 4, 8, 16))),
    *(Design(*each) for each in itertools.product((20, 100), (8, 24), (1, 4), (2, 3, 5, 8))),
)


def draw(effects: Effects, design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (seeds, P, scenes), pairs (P, 2), and kinds of scenes."""
    sizes = rng.normal(size=design.objects)
    first, second = np.triu_indices(design.objects, 1)
    count = max(design.objects // 2, round(0.15 * len(first)))
    chosen = np.argsort(np.abs(sizes[first] - sizes[second]))[:count]
    pairs = np.stack([first[chosen], second[chosen]], axis=1)

    def drawn(number: int) -> np.ndarray:
        normal = rng.normal(size=number)
        return (np.exp(0.8 * normal) - np.exp(0.32)) if effects.skewed else normal

    of_objects = effects.objects * drawn(design.objects)[:, None]
    of_objects = of_objects + effects.within * rng.normal(size=(design.objects, design.scenes))
    kinds = np.arange(design.scenes) % design.kinds
    of_seeds = effects.seeds * rng.normal(size=(design.seeds, 1, 1)) * (design.seeds > 1)
    values = of_seeds + effects.scenes * drawn(design.scenes) / 2.0**kinds + of_objects[pairs].sum(axis=1) / 2.0
    return values + effects.noise * rng.normal(size=values.shape), pairs, kinds


def coverage(effects: Effects, design: Design, trials: int, seed: int = 0) -> tuple[list[float], float, int]:
    """Fractions of trials whose interval holds 0, at each of `LEVELS`; median width of the first; trials without."""
    rng = np.random.default_rng(seed)
    held: list[list[bool]] = []
    widths = []
    for _ in range(trials):
        values, pairs, kinds = draw(effects, design, rng)
        try:
            mean = crossed_mean(values, pairs, kinds)
        except InputError:
            continue  # counted as a trial without an interval
        bounds = [mean.interval(level) for level in LEVELS]
        held.append([each.low <= 0.0 <= each.high for each in bounds])
        widths.append(bounds[0].high - bounds[0].low)
    return np.mean(held, axis=0).tolist(), float(np.median(widths)), trials - len(held)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print(
        "| effects | objects | scenes | kinds | seeds | 95 % holds | 99.2 % holds | median width (95 %) | no interval |"
    )
    print("|---" * 9 + "|")
    for (name, effects), design in itertools.product(EFFECTS.items(), DESIGNS):
        (usual, strict), width, none = coverage(effects, design, trials)
        sizes = " | ".join(map(str, design))
        print(
            f"| {name} | {sizes} | {100 * usual:.1f} % | {100 * strict:.1f} % | {width:.2f} | "
            f"{100 * none / trials:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
