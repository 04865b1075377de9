"""Draw scores over an image: blue speaks against the class, orange for it, with borders of segments.

Blue and orange are told apart with every kind of colour blindness (Okabe and Ito, "Color universal design", 2008).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, rankable

FOR_CLASS = (213, 94, 0)
AGAINST_CLASS = (0, 114, 178)

_STRONGEST_COLOUR = 0.85
_FADED = 0.85
_LEVELS = 32

Overlay = NDArray[np.uint8]
"""(H, W, 4) uint8, red, green, blue and opacity."""


def score_overlay(segments: NDArray[np.integer[Any]], scores: FloatArray, largest: float) -> Overlay:
    """Scores as colours, with the borders of the segments.

    Args:
        segments: (H, W) from 0.
        scores: (M,), drawn the more opaque, in 32 levels, the nearer to `largest` their magnitude is.
        largest: magnitude of the strongest colour, at least 0.
    """
    strength = np.clip(np.abs(scores) / largest, 0, 1) if largest > 0 else np.zeros_like(scores)
    colours = np.empty((len(scores), 4), dtype=np.uint8)
    colours[:, :3] = np.where((scores > 0)[:, np.newaxis], FOR_CLASS, AGAINST_CLASS)
    colours[:, 3] = np.round(255 * _STRONGEST_COLOUR * np.round(strength * _LEVELS) / _LEVELS)
    drawn: Overlay = colours[segments]
    drawn[segment_borders(segments)] = (255, 255, 255, 130)
    return drawn


def faded_overlay(shown: BoolArray) -> Overlay:
    """White over what is not shown, (H, W) bool."""
    drawn = np.full((*shown.shape, 4), 255, dtype=np.uint8)
    drawn[..., 3] = np.where(shown, 0, round(255 * _FADED))
    return drawn


def strongest(segments: NDArray[np.integer[Any]], scores: FloatArray, fraction: float) -> BoolArray:
    """(H, W) bool, True on the segments of the highest scores, which together cover nearest to a fraction of it.

    At least one segment is shown.
    """
    sizes = np.bincount(segments.ravel(), minlength=len(scores))
    order = np.argsort(-rankable(scores), kind="stable")
    after = sizes[order].cumsum()
    shown = np.zeros(len(scores), dtype=bool)
    shown[order[2 * after - sizes[order] <= 2 * fraction * segments.size]] = True
    shown[order[0]] = True
    return shown[segments]  # type: ignore[no-any-return]


def segment_borders(segments: NDArray[np.integer[Any]]) -> BoolArray:
    """(H, W) bool, True where the pixel to the right or below belongs to another segment."""
    right = np.zeros(segments.shape, dtype=bool)
    below = right.copy()
    right[:, :-1] = segments[:, 1:] != segments[:, :-1]
    below[:-1] = segments[1:] != segments[:-1]
    return right | below


def centres(segments: NDArray[np.integer[Any]], chosen: NDArray[np.integer[Any]]) -> list[tuple[float, float]]:
    """A point well inside of each chosen segment, (row, column) as fractions of height and width."""
    places = []
    for each in chosen:
        depth = ndimage.distance_transform_cdt(np.pad(segments == each, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), segments.shape)
        places.append(((row + 0.5) / segments.shape[0], (column + 0.5) / segments.shape[1]))
    return places


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) without its colours, and paler."""
    luminance = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    return np.repeat(np.round(0.6 * luminance + 0.4 * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def laid_over(picture: NDArray[np.uint8], overlay: Overlay) -> NDArray[np.uint8]:
    """A picture (H, W, 3) with an overlay drawn on it."""
    opacity = overlay[..., 3:].astype(np.float64) / 255
    return np.round(picture * (1 - opacity) + overlay[..., :3] * opacity).astype(np.uint8)
