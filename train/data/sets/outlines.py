"""The outlines of `Cues`: a closed curve for each class, whose enclosing circle says nothing about the class.

Every curve is scaled and shifted so that its smallest enclosing circle is the one asked for, after it was rotated and
deformed; the kinds are shaped so that all of them fill nearly the same fraction of that circle.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

OUTLINE_NAMES = ("ellipse", "triangle", "star", "cross", "crescent", "trefoil", "peanut", "corner")
"""The kinds of outline; `base_outlines` lists their curves in this order."""

POINTS = 120
"""Points on every curve."""

DEFORMATION_NUMBERS = 17
"""Uniform numbers that one curve takes in `deform`."""

_FREQUENCIES = 4


@cache
def base_outlines() -> NDArray[np.float64]:
    """The undeformed curves: (len(OUTLINE_NAMES), POINTS, 2), x and y, each with the unit circle around it."""
    angles = 2 * np.pi * np.arange(POINTS) / POINTS
    curves = (
        np.stack([np.cos(angles), 0.465 * np.sin(angles)], axis=1),
        _bulge(_along(_star(3, 0.5)), 0.12),
        _along(_star(5, 0.52)),
        _along(_cross(0.23)),
        _crescent(inner_radius=0.85, shift=0.565),
        _polar(1 + 0.57 * np.cos(3 * angles), angles),
        _polar(1 + 0.57 * np.cos(2 * angles), angles),
        _along(_corner(0.475)),
    )
    return np.stack([enclose(curve, np.zeros(2), 1.0) for curve in curves])


def deform(curves: NDArray[np.float64], numbers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rotate by up to 25 degrees either way and bend: a smooth displacement with few frequencies along the curve.

    Args:
        curves: (N, POINTS, 2).
        numbers: (N, DEFORMATION_NUMBERS) uniform numbers in [0, 1).

    Returns:
        (N, POINTS, 2), no longer normalised.
    """
    rotation = np.deg2rad(25) * (2 * numbers[:, 0].astype(np.float64) - 1)
    cosine, sine = np.cos(rotation), np.sin(rotation)
    matrices = np.stack([np.stack([cosine, sine], axis=1), np.stack([-sine, cosine], axis=1)], axis=1)
    phases = 2 * np.pi * np.outer(np.arange(1, _FREQUENCIES + 1), np.arange(POINTS) / POINTS)
    waves = np.concatenate([np.cos(phases), np.sin(phases)]) / np.tile(np.arange(1, _FREQUENCIES + 1), 2)[:, None]
    coefficients = 0.07 * (2 * numbers[:, 1:].astype(np.float64) - 1).reshape(-1, 2 * _FREQUENCIES, 2)
    displaced = curves + np.einsum("nfc,fp->npc", coefficients, waves)
    return np.asarray(displaced @ matrices)


def enclose(curve: NDArray[np.float64], centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Scale and shift a curve so that its smallest enclosing circle is the one given.

    Args:
        curve: (P, 2), x and y.
        centre: (2,) wanted centre.
        radius: wanted radius, in the unit of `centre`.

    Returns:
        (P, 2).
    """
    old_centre, old_radius = cv2.minEnclosingCircle(curve.astype(np.float32))
    return np.asarray((curve - np.asarray(old_centre)) * (radius / old_radius) + centre)


def rasterise(
    curve: NDArray[np.float64], centre: NDArray[np.float64], radius: float, image_size: int
) -> NDArray[np.bool_]:
    """Fill a closed curve so that the smallest enclosing circle of the filled pixels is the one asked for.

    Rounding to pixels widens blunt curves and shortens pointed ones, each kind by its own fraction of a pixel; the
    curve is therefore drawn once, its pixels' circle is measured, and it is drawn again corrected by the difference.

    Args:
        curve: (P, 2), x and y, in any unit.
        centre: (2,) wanted centre in pixels; pixel centres have integer coordinates.
        radius: wanted radius in pixels.
        image_size: side of the image in pixels.

    Returns:
        (image_size, image_size) bool, True inside; the circle around its pixel centres is as asked for up to rounding.
    """
    drawn = _fill(enclose(curve, centre, radius), image_size)
    drawn_centre, drawn_radius = enclosing_circle(drawn)
    return _fill(enclose(curve, 2 * centre - drawn_centre, 2 * radius - drawn_radius), image_size)


def enclosing_circle(object_mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """Smallest circle around the pixel centres of an object.

    Args:
        object_mask: (H, W) bool with at least one True.

    Returns:
        Centre (2,), x and y, and radius, in pixels.
    """
    points = np.argwhere(object_mask)[:, ::-1].astype(np.float32)
    centre, radius = cv2.minEnclosingCircle(points)
    return np.asarray(centre, dtype=np.float64), float(radius)


def _fill(curve: NDArray[np.float64], image_size: int) -> NDArray[np.bool_]:
    fractional_bits = 8
    canvas = np.zeros((image_size, image_size), dtype=np.uint8)
    points = np.round(curve * 2**fractional_bits).astype(np.int32)
    cv2.fillPoly(canvas, [points], color=1, shift=fractional_bits)
    return canvas.astype(np.bool_)


def _polar(radii: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


def _star(tips: int, inner_radius: float) -> NDArray[np.float64]:
    angles = np.pi * np.arange(2 * tips) / tips
    return _polar(np.where(np.arange(2 * tips) % 2 == 0, 1.0, inner_radius), angles)


def _bulge(curve: NDArray[np.float64], amount: float) -> NDArray[np.float64]:
    distances = np.linalg.norm(curve, axis=1, keepdims=True)
    return np.asarray(curve * ((1 - amount) + amount / distances))


def _cross(half_width: float) -> NDArray[np.float64]:
    a, b = half_width, 1.0
    quarter = [(a, a), (a, b), (-a, b)]
    turned = [quarter, [(-y, x) for x, y in quarter], [(-x, -y) for x, y in quarter], [(y, -x) for x, y in quarter]]
    return np.array([corner for arm in turned for corner in arm])


def _corner(width: float) -> NDArray[np.float64]:
    return np.array([(0.0, 0.0), (1.0, 0.0), (1.0, width), (width, width), (width, 1.0), (0.0, 1.0)])


def _crescent(inner_radius: float, shift: float) -> NDArray[np.float64]:
    tip_x = (1 - inner_radius**2 + shift**2) / (2 * shift)
    outer_tip = np.arccos(tip_x)
    inner_tip = np.arccos((tip_x - shift) / inner_radius)
    outer = np.linspace(outer_tip, 2 * np.pi - outer_tip, POINTS)
    inner = np.linspace(2 * np.pi - inner_tip, inner_tip, POINTS)[1:-1]
    outer_arc = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    inner_arc = np.stack([shift + inner_radius * np.cos(inner), inner_radius * np.sin(inner)], axis=1)
    return _along(np.concatenate([outer_arc, inner_arc]))


def _along(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """POINTS points at equal distances along the closed polygon of `corners` (K, 2)."""
    closed = np.concatenate([corners, corners[:1]])
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    positions = lengths[-1] * np.arange(POINTS) / POINTS
    return np.stack([np.interp(positions, lengths, closed[:, axis]) for axis in range(2)], axis=1)
