"""Shapes whose enclosing circle tells nothing about their class, and readers of outlines, for the controls."""

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank

SIZE = 32
NUM_CLASSES = 4


def draw_shape(label: int, row: int, column: int, radius: int) -> np.ndarray:
    """A diamond, a disc without a quarter, a ring or a plus sign, all with the very same enclosing disc."""
    down, across = np.meshgrid(np.arange(SIZE) - row, np.arange(SIZE) - column, indexing="ij")
    disc = down**2 + across**2 <= radius**2
    if label == 0:
        return abs(down) + abs(across) <= radius
    if label == 1:
        return disc & ~((down < 0) & (across < 0))
    if label == 2:
        return disc & (down**2 + across**2 > radius**2 / 4)
    return disc & (np.minimum(abs(down), abs(across)) <= 0.45 * radius)


def shape_batch(count: int, seed: int, first_id: int = 0) -> Batch:
    """Images of noise with a shape annotated on each; classes are balanced and independent of place and size."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % NUM_CLASSES)
    radii = rng.integers(5, 9, count)
    places = rng.integers(radii + 1, SIZE - 1 - radii, (2, count)).T
    masks = np.stack([draw_shape(*each) for each in zip(labels, *places.T, radii, strict=True)])
    images = torch.from_numpy(rng.random((count, 3, SIZE, SIZE), dtype=np.float32))
    ids = torch.arange(first_id, first_id + count)
    return Batch(ids, images, torch.from_numpy(masks).unsqueeze(1), torch.from_numpy(labels))


def shape_bank(count: int = 300, seed: int = 100) -> SilhouetteBank:
    """A bank of shapes of all classes."""
    return SilhouetteBank.from_batches([shape_batch(count, seed)])


def largest_piece(hidden: np.ndarray) -> np.ndarray:
    """The largest connected piece of a hole (SIZE, SIZE)."""
    pieces, count = ndimage.label(hidden, structure=np.ones((3, 3)))
    return pieces == 1 + np.bincount(pieces.ravel())[1:].argmax() if count else hidden


def read_outline(hidden: Tensor) -> Tensor:
    """Class of the shape whose drawing differs least from the hole's largest piece: (B, 1, H, W) bool -> (B,) int64."""
    return torch.tensor([_nearest_drawing(hole.tobytes()) for hole in hidden[:, 0].numpy()], dtype=torch.int64)


@cache
def _nearest_drawing(hole: bytes) -> int:
    piece = largest_piece(np.frombuffer(hole, dtype=bool).reshape(SIZE, SIZE))
    if not piece.any():
        return 0
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    place = int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2
    radius = int(max(np.ptp(rows), np.ptp(columns))) // 2
    return int(np.argmin([np.sum(draw_shape(label, *place, radius) != piece) for label in range(NUM_CLASSES)]))


def as_logits(classes: Tensor) -> Tensor:
    """Logits (B, NUM_CLASSES) whose largest entry is at `classes`."""
    return torch.nn.functional.one_hot(classes, NUM_CLASSES).float()
