"""How often the words for networks are wrong, by simulation: what docs/glossary.md says of shape choices.

python docs/studies/shape_words.py --trials 400 [--only NAME] [--grids 40]

Logits of a network are drawn, and go through the measures, the intervals and the words of `evaluate`. Behind a hole
they are the sum of the picture's own class (`rest`), what the picture does besides (standard deviation 1), the class of
the hole's shape (`follows`), what this outline does besides (`outlines`), and noise (.5). Two holes of like area of two
other classes are drawn as `evaluate` draws them. `rim`: what lies beside the object tells the class, as outline minus
circle would count it. A grid is three networks under four ways of hiding, on the same pictures.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, Context
from maskrobust.lm_modules.reliance.measurement import result_rows
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.evaluate.summary import with_readings
from maskrobust.train.report.headline import decisions
from maskrobust.train.report.results import Results

ASKED = {HEADLINE, "clean_accuracy", "commonest_answer"}
GRID = [(f"network {number}", way) for number in range(3) for way in ("black", "mean", "inpainting", "layer_masking")]


@dataclass(frozen=True)
class World:
    """Pictures, and a network: `wrong` words and `right` ones are those of `State`."""

    name: str
    wrong: tuple[str, ...] = ("reads", "some", "misled")
    right: tuple[str, ...] = ("hardly",)
    pictures: int = 200
    bank: int = 0  # outlines of other pictures, as of a validation split; 0 for those of the pictures themselves
    classes: int = 4
    frequencies: tuple[float, ...] = ()
    follows: float = 0.0
    outlines: float = 0.0
    rim: float = 0.0
    rest: float = 1.5
    noise: float = 0.5
    always: float = 0.0  # how much more the first class is liked behind holes
    clean: float = 6.0
    scale: float = 1.0
    further: int = 0  # outputs that are no class of the data, and win behind holes
    objects: tuple[int, int] = (0, 0)  # how many, and pictures of each
    known: bool = True  # whether it is known which pictures show one object
    pull: float = 0.0  # how much more a class that is random for each object and hole is liked


def reader(name: str, follows: float, **others: Any) -> World:
    """A world whose network follows shapes."""
    return World(name, ("hardly", "misled"), ("reads", "some"), follows=follows, **{"outlines": 0.3, **others})


WEAK, MEDIUM, STRONG = 0.3, 0.7, 2.0
RARE = (0.9, 0.04, 0.03, 0.03)
WORLDS = [
    *[World(f"blind, {n} pictures", pictures=n) for n in (40, 200, 1000)],
    World("blind, 1,000 classes", classes=1000, clean=9.0),
    *[World(f"rim alone, {n} pictures", pictures=n, rim=4.0) for n in (40, 200)],
    World("rim alone, outlines differ", rim=4.0, outlines=0.7),
    *[World(f"outlines differ, {n} pictures", pictures=n, outlines=1.5) for n in (40, 100)],
    World("outlines differ, 100 pictures, 100 outlines of others", pictures=100, bank=100, outlines=1.5),
    World("outlines differ, 12 outlines of others", bank=12, outlines=1.5),
    World("outlines differ less, 12 outlines of others", bank=12, outlines=0.5),
    *[reader(f"weak reader, {n} pictures", WEAK, pictures=n) for n in (40, 200)],
    *[reader(f"medium reader, {n} pictures", MEDIUM, pictures=n) for n in (40, 200)],
    reader("strong reader", STRONG),
    reader("medium reader, 1,000 classes", MEDIUM, classes=1000, clean=9.0),
    *[reader(f"medium reader, logits x {scale:g}", MEDIUM, scale=scale) for scale in (10.0, 0.1)],
    World("follows a tiny bit", ("reads", "misled"), follows=0.08, noise=0.0, pictures=1000),
    World("misled", ("reads", "some", "hardly"), ("misled",), follows=-1.2, outlines=0.3),
    reader("medium reader, rim against it", MEDIUM, rim=-2.0),
    World("90/4/3/3, blind with rim", pictures=1000, frequencies=RARE, rim=4.0),
    reader("90/4/3/3, medium reader", MEDIUM, pictures=1000, frequencies=RARE, clean=3.5),
    World("nothing learnt", ("reads", "some", "hardly", "misled"), ("none",), clean=0.0),
    reader("further outputs win, medium reader", MEDIUM, further=2),
    World("8 objects, 60 pictures each", classes=8, objects=(8, 60), pull=6.0),
    World("8 objects, 60 pictures each, unknown", classes=8, objects=(8, 60), pull=6.0, known=False),
    World("40 objects, 12 pictures each", classes=8, objects=(40, 12), pull=6.0),
    World("40 objects, 12 pictures each, unknown", classes=8, objects=(40, 12), pull=6.0, known=False),
]


@dataclass(frozen=True)
class Split:
    """Labels (N,) and objects (N,) of pictures, those (M,) of outlines, and of each picture two outlines (N, 2)."""

    labels: np.ndarray
    objects: np.ndarray
    outline_labels: np.ndarray
    outline_objects: np.ndarray
    holes: np.ndarray
    valid: np.ndarray


def split_of(world: World, rng: np.random.Generator) -> Split:
    """Pictures; the first outline of each is random among other classes, the second of a third, alike in area."""
    count, (number, views) = world.pictures, world.objects
    labels = rng.choice(world.classes, count, p=world.frequencies or None)
    objects = np.arange(count)
    if views:
        objects = np.arange(number).repeat(views)
        labels = objects % world.classes
    bank, of_bank = (
        (rng.choice(world.classes, world.bank), -1 - np.arange(world.bank)) if world.bank else (labels, objects)
    )
    areas, holes = rng.normal(size=len(bank)), np.zeros((len(labels), 2), dtype=np.int64)
    valid = np.zeros(len(labels), dtype=np.bool_)
    for row, label in enumerate(labels):
        others = np.flatnonzero(bank != label)
        if len(others):
            j = rng.choice(others)
            distance = np.abs(areas - areas[j]) + 1e9 * ((bank == label) | (bank == bank[j]))
            holes[row], valid[row] = (j, distance.argmin()), distance.min() < 1e8
    return Split(labels, objects, bank, of_bank, holes, valid)


def answers_of(world: World, split: Split, rng: np.random.Generator) -> Outcomes:
    """What a network of the world answers."""
    count, outputs = len(split.labels), world.classes + world.further
    rows, asked = np.arange(count), np.stack([split.labels, *split.outline_labels[split.holes].T], axis=1)
    picture = rng.normal(size=(count, outputs))
    picture[:, 0] += world.always
    outline = world.outlines * rng.normal(size=(len(split.outline_labels), outputs))

    def behind(own: float, hole: int | None = None) -> np.ndarray:
        logits = picture + world.noise * rng.normal(size=picture.shape)
        logits[:, world.classes :] += 30.0
        logits[rows, split.labels] += own
        if world.pull:
            favourites = rng.integers(0, world.classes, split.objects.max() + 1)
            logits[rows, favourites[split.objects]] += world.pull
        if hole is not None:
            logits[rows, asked[:, 1 + hole]] += world.follows
            logits += outline[split.holes[:, hole]]
        return world.scale * logits

    logits = {
        "clean": world.scale * (picture + world.clean * np.eye(outputs)[split.labels]),
        "silhouette": behind(world.rim + world.follows),
        "circle": behind(0.0),
        "swap_j": behind(world.rest, 0),
        "swap_k": behind(world.rest, 1),
    }
    numbers = split.objects if world.known else rows
    of_bank = split.outline_objects if world.known or world.bank else np.arange(len(split.outline_objects))
    lent = np.where(split.valid[:, np.newaxis], of_bank[split.holes], -1)
    classes = np.where(split.valid[:, np.newaxis], asked[:, 1:], -1)
    return Outcomes(
        num_classes=world.classes,
        ids=rows,
        objects=numbers,
        labels=split.labels,
        predictions={name: each.argmax(axis=1) for name, each in logits.items()},
        object_fraction=np.full(count, 0.2),
        swap_label_j=classes[:, 0],
        swap_label_k=classes[:, 1],
        swap_object_j=lent[:, 0],
        swap_object_k=lent[:, 1],
        object_valid=np.ones(count, dtype=np.bool_),
        swap_valid=split.valid,
        log_odds={name: log_odds(each, asked) for name, each in logits.items()},
    )


def log_odds(logits: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """(N, 3) float32 of the asked classes against all other outputs."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    own = np.take_along_axis(shifted, asked, axis=1)
    rest = shifted.sum(axis=1, keepdims=True) - own
    return np.asarray(np.log(np.maximum(own, 1e-300)) - np.log(np.maximum(rest, 1e-300)), dtype=np.float32)


def words(world: World, asked: list[tuple[str, str]], rng: np.random.Generator) -> list[str]:
    """What is said of each network under each way of hiding; "none" where nothing is."""
    split, context = split_of(world, rng), Context(ReliancePlan())
    runs = {key: answers_of(world, split, rng) for key in asked}
    rows = [
        row
        for (network, way), run in runs.items()
        for row in result_rows(network, way, {0: run}, context, wanted=lambda measure: measure.name in ASKED)
    ]
    content = {
        "networks": list(dict(asked)),
        "methods": list(dict.fromkeys(way for _, way in asked)),
        "own_methods": {},
    }
    chance = {network: at_chance(run) for (network, _), run in runs.items()}
    found = decisions(Results("reliance", content, with_readings(rows, chance)))
    return [found[key].state if key in found else "none" for key in asked]


def simulate(world: World, trials: int, asked: list[tuple[str, str]]) -> str:
    """In how many of the trials any word is wrong, and how many words are right, in percent."""
    counts, any_wrong = Counter[str](), 0
    for trial in range(trials):
        said = words(world, asked, np.random.default_rng(trial))
        counts.update(said)
        any_wrong += any(word in world.wrong for word in said)
    right = sum(counts[word] for word in world.right) / counts.total()
    return f"wrong {100 * any_wrong / trials:5.1f}  right {100 * right:5.1f}  {dict(counts)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--grids", type=int, default=0)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    for world in WORLDS:
        if world.name.startswith(given.only):
            few = 4 if world.classes >= 1000 else 1
            print(f"{world.name:55s} {simulate(world, given.trials // few, GRID[:1])}", flush=True)
            if given.grids:
                print(f"{'  grid of 12':55s} {simulate(world, given.grids // few, GRID)}", flush=True)
