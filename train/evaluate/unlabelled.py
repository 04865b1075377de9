"""Images without labels: what a network takes each of them for with nothing hidden stands for its label."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from maskrobust.augment import Batch
from maskrobust.augment.batch import check_all_known
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import check_finite
from maskrobust.lm_modules.reliance.results import Row

OWN_PREDICTIONS = "none: each network's predictions with nothing hidden stand for them"
NEED_LABELS = ("clean_accuracy", "used_share", "reliance", "probe_accuracy", "majority_fraction")
"""Measures that say nothing where a network's own prediction stands for the label."""


def predictions_of(network: TrainedNetwork, batches: Iterable[Batch]) -> dict[int, int]:
    """The output that a network gives for images (on its device) with nothing hidden, by sample id.

    Raises:
        InputError: its logits are not finite, or pixels hold no data.
    """
    seen: dict[int, int] = {}
    with torch.inference_mode():
        for batch in batches:
            check_all_known(batch, "evaluate without labels")
            logits = network(batch.images)
            check_finite(logits, network.name, "pictures with nothing hidden")
            seen |= zip(batch.ids.tolist(), logits.argmax(dim=1).tolist(), strict=True)
    return seen


def select_own_outputs(network: TrainedNetwork, seen: Mapping[int, int]) -> tuple[TrainedNetwork, dict[int, int]]:
    """The network with the classes first that it sees in some images with nothing hidden, and which it sees in each.

    Args:
        network: with its outputs in their own order.
        seen: its `predictions_of` every image.

    Returns:
        The network; and the position of its prediction among its classes by sample id, in [0, number of classes that
        it sees).
    """
    outputs = sorted(set(seen.values()))
    return network.select_outputs(outputs), {each: outputs.index(output) for each, output in seen.items()}


def without_labels(row: Row) -> Row:
    """The row, undefined where its measure needs labels."""
    if row.measure not in NEED_LABELS:
        return row
    undefined = replace(row, value=None, low=None, high=None, undefined_because="The images have no labels.")
    return replace(undefined, reading="undefined" if row.compared_with and row.measure == "reliance" else "")
