"""How far LIME's scores from few queries are from those of many: balanced against independent draws."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import skimage.data
import torch
from torch import Tensor

from maskrobust.lm_modules.explanation.answers import ask
from maskrobust.lm_modules.explanation.explainers.linear import lime
from maskrobust.lm_modules.explanation.sampling import draw_balanced, draw_independent
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.methods import MaskingMethod, Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.train.explain.pictures import list_pictures, read_picture

METHODS: tuple[MaskingMethod, ...] = ("black", "layer_masking")
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
"""Of scikit-image, that are explained where no others are given."""

_ACROSS = 7  # patches in a row and in a column


def measure_explain_error(
    network: str,
    preprocess: Mapping[str, Any],
    pictures: Mapping[str, Tensor],
    samples: int,
    reference: int,
    draws: int,
    batch: int,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """One row for each masking method, segmentation and picture: relative errors of LIME's scores.

    The likeliest class's log-odds are explained, by ridge regression with `lime`'s defaults. All queries show each
    segment with probability 1/2. With c the scores of a draw and r those of the reference, independent queries of
    another key, an error is the root mean square of |c - r| over |r|, over the draws.

    Args:
        network: as `load_network` takes it.
        preprocess: values of its `Preprocessing` to change; it sees the pictures at their size.
        pictures: (3, H, W) float in [0, 1] by name, all of one size.
        samples: of a balanced draw, a power of two and at least twice the number of segments.
        reference: independent queries that stand for all.
        draws: of each kind, of whose errors the mean square is taken.
        batch: queries in a forward pass.
        device: that asks.

    Yields:
        network, method, segments (slic or patches), picture, count (of segments), and errors: "balanced" of `samples`
        balanced queries, "independent" of as many, and "twice independent" of twice as many independent ones.
    """
    size = tuple(next(iter(pictures.values())).shape[1:])
    trained = load_network(network, {**preprocess, "size": size, "crop": 1.0}).to(device)
    for (name, picture), method in itertools.product(pictures.items(), METHODS):
        image = picture.to(device)
        with torch.no_grad():
            label = int(trained(image[None])[0].argmax())
        for partition, segments in (
            ("slic", Segments.superpixels(image[None], "slic")),
            ("patches", Segments.patches(image[None], -(-size[0] // _ACROSS))),
        ):
            asked = _Asked(trained.predictor(method), image, segments, label, batch)
            errors = _errors(asked, samples, reference, draws)
            yield {
                "network": network,
                "method": method,
                "segments": partition,
                "picture": name,
                "count": segments.count(0),
                "errors": dict(zip(("balanced", "independent", "twice independent"), errors, strict=True)),
            }


class _Asked(NamedTuple):
    """One image, and how a network is asked about it."""

    predict: Predictor
    image: Tensor
    segments: Segments
    label: int
    batch: int

    def scores(self, z: Tensor, *sizes: int) -> list[FloatArray]:
        """LIME's from the first queries, for each number of them."""
        queries = self.segments.queries(0, z)
        answers = ask(self.predict, self.image, queries, batch_size=self.batch, scale="log_odds")[:, [self.label]]
        return [lime(z[:size], answers[:size]).scores for size in sizes]


def _errors(asked: _Asked, samples: int, reference: int, draws: int) -> list[float]:
    count = asked.segments.count(0)
    (truth,) = asked.scores(draw_independent(0, reference, count), reference)
    squares = []
    for key in range(1, draws + 1):
        found = asked.scores(draw_balanced(key, samples, count), samples)
        found += asked.scores(draw_independent(key, 2 * samples, count), samples, 2 * samples)
        squares.append([np.sum((each - truth) ** 2) / np.sum(truth**2) for each in found])
    errors: list[float] = np.sqrt(np.mean(squares, axis=0)).tolist()
    return errors


def explained_pictures(paths: Sequence[Path], image_size: int) -> dict[str, Tensor]:
    """Pictures (3, image_size, image_size) by name, of files and folders; `PHOTOGRAPHS` where none are given."""
    shipped = [Path(skimage.data.__file__).parent / name for name in PHOTOGRAPHS]
    return {name: read_picture(name, path, image_size).image for name, path in list_pictures(paths or shipped).items()}
