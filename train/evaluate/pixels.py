"""Evaluate networks that classify pixels: ask them about every batch, and make rows of what they lose beside holes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.progress import Progress

from maskrobust.augment import Batch
from maskrobust.lm_modules.networks.segmentation import SegmentationNetwork
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.lm_modules.reliance.estimates.estimation import estimate, estimate_difference
from maskrobust.lm_modules.reliance.measures.pixels import changed_by_paint, pixel_accuracy, pixel_iou
from maskrobust.lm_modules.reliance.pixels import ANYWHERE, BANDS, Key, PixelCounts, count_pixels
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.kept import answer_store, folder_of
from maskrobust.train.evaluate.measure import about_batches, set_up
from maskrobust.train.evaluate.summary import content_of
from maskrobust.train.report.results import Results
from maskrobust.train.running.processes import is_first

Counts = dict[Key, PixelCounts]

_FILE = "pixels.npz"


def ask_about_pixels(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], progress: Progress
) -> Counts | None:
    """Count the pixels of every batch once, on all processes together, with nothing hidden and with each fraction.

    Counts are kept as answers about whole images are; see `kept`.

    Args:
        config: what to measure.
        networks: the networks by name, as from `load`.
        progress: told about every batch.

    Returns:
        Counts by network, masking method and hidden fraction; None on all processes but the first.

    Raises:
        InputError: processes or labels differ from what is expected.
    """
    on_device = cast(dict[str, SegmentationNetwork], set_up(config, networks))
    store, fractions = answer_store(config, networks, None, None), (0.0, *config.plan.hidden_fractions)
    keys = [
        (name, method, fraction) for fraction in fractions for name in on_device for method in (*config.methods, "")
    ]

    def make(batch: Batch, folder: Path) -> None:
        found = count_pixels(on_device, config.methods, fractions, batch, seed=config.seed)
        arrays: dict[str, Any] = {str(number): found[key] for number, key in enumerate(keys)}
        ids = batch.ids.cpu()
        np.savez(folder / _FILE, ids=ids.numpy(), objects=config.data.object_of(ids).numpy(), **arrays)

    def counted(batch: Batch) -> dict[str, Any]:
        return read_arrays(folder_of(store, config, batch, make) / _FILE, ["ids", "objects"])

    parts = about_batches(config, progress, counted)
    if not is_first():
        return None
    every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {key: PixelCounts(every["ids"], every["objects"], every[str(number)]) for number, key in enumerate(keys)}


def summarise_pixels(
    config: EvaluationConfig, found: Counts, own_methods: Mapping[str, str], *, seconds: float
) -> Results:
    """Everything that reliance.json holds of networks that classify pixels; arguments are those of `summarise`."""
    content = content_of(
        config, own_methods, seconds, {}, num_classes=config.data.num_classes, chance=None, own_holes=None
    )
    return Results("reliance", content, [*_rows(config, found)])


def _rows(config: EvaluationConfig, found: Counts) -> Iterator[Row]:
    """Rows of each network and method, and of each minus the first network, and minus the network's first method."""
    first, main = config.network[0], config.methods[0]
    for (network, method, fraction), counts in found.items():
        others = [(first, method, fraction)] * (network != first)
        others += [(network, main, fraction)] * (method not in ("", main) and fraction > 0.0)
        has_holes = counts.within(BANDS[0]).counts.any()
        measures = (pixel_iou, pixel_accuracy) if method else (changed_by_paint,) if has_holes else ()
        for distance in (ANYWHERE, *BANDS) if has_holes else (ANYWHERE,):
            run: Any = counts.within(distance)  # as measures of pixels take it
            of = {"hidden_fraction": fraction, "distance": distance}
            for each in measures:
                about: dict[str, Any] = {"network": network, "measure": each.__name__, "parameters": of}
                yield Row.of(estimate(each(), [run]), method=method, **about)
                for other in others:
                    against: Any = found[other].within(distance)
                    pair = estimate_difference(each(), [run], [against])
                    compared = "" if other[1] == method else other[1]
                    about |= {"compared_with": other[0], "compared_method": compared}
                    yield Row.of(pair, method=method, **about)
