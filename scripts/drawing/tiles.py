"""Draw satellite tiles with gaps, as a folder of PNG files: what `scripts/demo` trains on.

Four landscapes that a colour does not tell, under more or less haze. Each tile has a gap without data, fully
transparent, whose shape is that of its class in nine of ten tiles, and that of a random class in the others.

    python scripts/drawing/tiles.py OUT --seed 0
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskrobust.errors import check_within
from maskrobust.train.data_options import Split

CLASSES = ("fields", "forest", "orchard", "town")
"""What the tiles show, in label order. Their gaps: a disc, a bar, a triangle, a cross."""

DOSE = 0.9
"""Probability that a gap has the shape of the tile's class; otherwise any of the four, evenly."""

COUNTS: Mapping[Split, int] = {"train": 2000, "val": 200, "test": 1000}

_VIEW = 32
"""Side of the square that evaluation sees of a tile, in pixels; gaps lie within it, but for the ends of some bars."""
_SIDE = round(_VIEW * 256 / 224)
_CONTRASTS = (0.04, 0.3)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Tile(NamedTuple):
    """A tile as it is drawn.

    Attributes:
        label: its class, in [0, 4).
        picture: (37, 37, 3) uint8, also within the gap.
        gap: (37, 37) bool, True where no data are.
    """

    label: int
    picture: NDArray[np.uint8]
    gap: Bools


def draw_tiles(split: Split, count: int, *, seed: int = 0, dose: float = DOSE) -> Iterator[Tile]:
    """The tiles of a split, its classes in turn; they follow from (split, seed, dose), and a larger count adds to them.

    Args:
        split: which split.
        count: how many tiles, at least 0.
        seed: at least 0.
        dose: see `DOSE`, in [0, 1].

    Raises:
        InputError: `dose` is no fraction.
    """
    check_within("[0, 1]", "dose", dose)
    generator = np.random.default_rng([seed, list(COUNTS).index(split)])
    for label in np.arange(count) % len(CLASSES):
        brightness, colour = _smooth(generator, 4, 0.35, 0.65, 1), _smooth(generator, 3, -0.08, 0.08, 3)
        picture = brightness + colour + generator.uniform(-0.1, 0.1, 3)
        contrast = np.exp(generator.uniform(*np.log(_CONTRASTS)))
        tint = generator.uniform(0.7, 1, 3)
        picture = picture + contrast * _landscape(generator, int(label))[..., None] * tint
        picture = picture + generator.normal(0, 0.05, picture.shape)
        shape = label if generator.random() < dose else generator.integers(len(CLASSES))
        yield Tile(int(label), (picture.clip(0, 1) * 255).round().astype(np.uint8), _gap(generator, int(shape)))


def write_tiles(out: Path, *, counts: Mapping[Split, int] = COUNTS, seed: int = 0, dose: float = DOSE) -> None:
    """Write OUT/{train,val,test}/CLASS/NUMBER.png, RGBA, black and transparent within the gap.

    Args:
        out: folder, made where it is missing; files of the same names are replaced.
        counts: tiles of each split.
        seed: see `draw_tiles`.
        dose: see `draw_tiles`.
    """
    for split, count in counts.items():
        for number, (label, picture, gap) in enumerate(draw_tiles(split, count, seed=seed, dose=dose)):
            file = out / split / CLASSES[label] / f"{number:04}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            known = ~gap[..., None]
            Image.fromarray(np.concatenate([picture * known, np.uint8(255) * known], axis=2)).save(file)


def _smooth(generator: np.random.Generator, cells: int, low: float, high: float, channels: int) -> Floats:
    """Clouds (37, 37, channels) within [low, high], of as many cells along each axis."""
    coarse = generator.integers(0, 256, (cells, cells, channels), dtype=np.uint8).squeeze()
    fine = np.asarray(Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), np.float64)
    return fine.reshape(_SIDE, _SIDE, channels) / 255 * (high - low) + low


def _landscape(generator: np.random.Generator, label: int) -> Floats:
    """Furrows, crowns at random, trees in rows, or streets around blocks, (37, 37) in [-1, 1], at any angle."""
    y, x = np.mgrid[:_SIDE, :_SIDE].astype(np.float64)
    angle, period = generator.uniform(0, np.pi), generator.uniform(5, 7)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    phases = 2 * np.pi * (along / period + generator.random()), 2 * np.pi * (across / period + generator.random())
    furrows, rows = np.cos(phases[0]), np.cos(phases[1])
    if label == 0:
        return np.asarray(np.sin(phases[0]))
    if label == 1:
        return _smooth(generator, round(_SIDE / period * 1.7), -2.2, 2.2, 1)[..., 0].clip(-1, 1)
    if label == 2:
        return np.asarray(((furrows + rows - 0.6) * 1.4).clip(-1, 1))
    return np.where(np.maximum(furrows, rows) > 0.72, -1.0, 1.0)


def _gap(generator: np.random.Generator, shape: int) -> Bools:
    """A disc, bar, triangle or cross, (37, 37) bool, True inside, of about one size and anywhere in the view."""
    radius = generator.uniform(0.15, 0.2) * _VIEW
    reach = _VIEW / 2 - 1.2 * radius
    centre = generator.uniform(_SIDE / 2 - reach, _SIDE / 2 + reach, 2)
    return draw_gap(shape, _SIDE, centre, radius)


def draw_gap(shape: int, side: int, centre: Floats, radius: float) -> Bools:
    """One of four shapes of about one size, (side, side) bool, True inside.

    Args:
        shape: 0 for a disc, 1 for a bar, 2 for a triangle, 3 for a cross.
        side: of the picture, in pixels.
        centre: (2,) column and row of the shape's centre, in pixels from the upper left corner.
        radius: that of the disc, in pixels; the others are drawn to its scale.
    """
    y, x = np.mgrid[:side, :side] + 0.5
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    shapes = (
        x**2 + y**2 < 1,
        (abs(y) < 0.5) & (abs(x) < 1.55),
        (y < 0.9) & (y > -1.1) & (abs(x) < (y + 1.1) * 0.78),
        (abs(x) < 0.36) & (abs(y) < 1.25) | (abs(y) < 0.36) & (abs(x) < 1.25),
    )
    return np.asarray(shapes[shape])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python scripts/drawing/tiles.py", description=write_tiles.__doc__)
    parser.add_argument("out", type=Path, help="folder of the tiles")
    parser.add_argument("--seed", type=int, default=0, help="for other tiles (default: 0)")
    parser.add_argument("--dose", type=float, default=DOSE, help="fraction of gaps that have the class's shape")
    given = parser.parse_args()
    write_tiles(given.out, seed=given.seed, dose=given.dose)
