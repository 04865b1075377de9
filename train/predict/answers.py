"""`predict`: what a network predicts for files, whole or with holes."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from maskrobust.augment import Batch, sample_keys
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.reading import Reading, reading_for
from maskrobust.train.data.loading import loading_options, rank_and_number
from maskrobust.train.data_options import GivenVisible
from maskrobust.train.predict.pictures import Pictures, list_pictures

WHOLE = "whole"
"""In place of a masking method where nothing says what is visible."""

_SEED = 0


class Prediction(NamedTuple):
    """What a network predicts for one file.

    Attributes:
        file: the file.
        probabilities: by masking method (num_classes,) float32, in the order of `class_names`. The only method is
            "whole" where nothing said what is visible. Empty where the file could not be read.
        features: by masking method (D,) float32, what the network's last linear layer was given; empty unless asked
            for.
        visible_fraction: fraction of the pixels, of the part that the network saw, that was visible; NaN where the file
            could not be read.
        class_names: a name for each class.
        error: why the file could not be read; empty where it was.
    """

    file: Path
    probabilities: Mapping[MaskingMethod, Tensor]
    features: Mapping[MaskingMethod, Tensor]
    visible_fraction: float
    class_names: Sequence[str]
    error: str

    def likeliest(self, count: int = 5, method: MaskingMethod | None = None) -> list[tuple[str, float]]:
        """The likeliest classes with their probabilities, the likeliest first; none where the file could not be read.

        Args:
            count: how many, at least 1; all where there are fewer.
            method: one of the methods; by default the first.
        """
        if not self.probabilities:
            return []
        found = self.probabilities[method or next(iter(self.probabilities))]
        values, places = found.topk(min(count, len(found)))
        return [(self.class_names[place], value) for place, value in zip(places.tolist(), values.tolist(), strict=True)]


def predict(
    network: TrainedNetwork,
    images: str | Path | Sequence[str | Path],
    visible: GivenVisible | Path | None = None,
    *,
    methods: Sequence[MaskingMethod] | None = None,
    features: bool = False,
    batch_size: int = 32,
    num_workers: int = 0,
) -> Iterator[Prediction]:
    """What a network predicts for image files, in their order, each when its batch is computed.

    A network is shown a file as in `maskrobust evaluate --data Folder`: the square at the centre of the picture, of the
    size and the crop of the network's training. Processes that run together (torchrun) each predict a part of the
    batches.

    Args:
        network: from `load_network`. It computes on the device that it is on.
        images: image files, and folders of them, which are searched at any depth.
        visible: which pixels may be seen: "alpha", a no-data value, a folder of masks, a CSV file of boxes, one box, or
            "all"; see `maskrobust.train.data.files.reading.Reading`. None: as in the network's training, which a line
            says, and all where that says nothing.
        methods: masking methods to compare. By default the one of the training, or layer masking if it was trained
            without holes.
        features: also give features ahead of the last linear layer.
        batch_size: files in a batch, at least 1.
        num_workers: processes that read files; 0 to read them in this one.

    Returns:
        An iterator over a `Prediction` for each file; for one that cannot be read, it says why in `error`.

    Raises:
        MissingFileError: a file or a folder is missing, or a folder holds no image.
        InputError: the network does not say the size of its pictures, an argument leaves its range, or methods are
            given although everything is visible.
        UnsupportedNetworkError: a method cannot read the network.

    Examples:
        >>> for found in predict(load_network("best.ckpt"), "NEW", visible="NEW_MASKS"):
        ...     print(found.file, found.likeliest(1), found.visible_fraction)
    """
    check_at_least("batch_size", batch_size, 1)
    check_at_least("num_workers", num_workers, 0)
    given = [images] if isinstance(images, str | Path) else images
    files, reading = list_pictures(map(Path, given)), reading_for([network], Reading(visible))
    asked = chosen_methods(network, methods, is_whole=not reading.hides)
    if network.preprocessing.size is None:
        raise InputError(
            f"predict needs the size of its pictures, which '{network.name}' does not say; say it, as in "
            "load_network(name, {'size': 224}) or --preprocess '{size: 224}'."
        )
    rank, number = rank_and_number()
    starts = range(0, len(files), batch_size)[rank::number]
    batches = [range(len(files))[start : start + batch_size] for start in starts]
    pictures = Pictures(files, reading, network.preprocessing)
    read = DataLoader(pictures, batch_sampler=batches, **loading_options(num_workers))  # type: ignore[arg-type]
    names = network.class_names or [f"class {place}" for place in range(network.num_classes)]
    device = next(network.parameters()).device

    def found() -> Iterator[Prediction]:
        for places, (batch, errors) in zip(batches, read, strict=True):
            answers = iter(() if batch is None else _answers(network, asked, batch.to(device), features=features))
            for place, error in zip(places, errors, strict=True):
                answer = ({}, {}, nan) if error else next(answers)
                yield Prediction(files[place].path, *answer, names, error)

    return found()


def chosen_methods(
    network: TrainedNetwork, methods: Sequence[MaskingMethod] | None, *, is_whole: bool
) -> tuple[MaskingMethod, ...]:
    """The methods that a network is asked under, which it can be.

    Args:
        network: the network.
        methods: as the user names them; None for the one of its training.
        is_whole: whether nothing says what is visible.

    Raises:
        InputError: a method is unknown, or comes twice, or methods are given and `is_whole`.
        UnsupportedNetworkError: a method cannot read the network.
    """
    if is_whole:
        if methods is not None:
            raise InputError("methods say how to hide what is not visible, but everything is; give visible, too.")
        return (WHOLE,)
    chosen = (network.own_method or network.layer_masking,) if methods is None else tuple(methods)
    check_methods(chosen, "methods")
    for method in chosen:
        network.predictor(method)
    return chosen


_Answer = tuple[dict[MaskingMethod, Tensor], dict[MaskingMethod, Tensor], float]
"""Probabilities, features and visible fraction, as in a `Prediction`."""


@torch.inference_mode()
def _answers(
    network: TrainedNetwork, methods: Sequence[MaskingMethod], batch: Batch, *, features: bool
) -> list[_Answer]:
    """The answer about each picture of a batch, on the CPU."""
    found: list[_Answer] = [({}, {}, each) for each in batch.known.flatten(1).double().mean(dim=1).tolist()]
    for method in methods:
        ask = network.with_features("black" if method == WHOLE else method)
        logits, given = (each.cpu() for each in ask(batch.images, batch.known, sample_keys(_SEED, batch.ids)))
        for (probabilities, embedded, _), of_one, features_of_one in zip(
            found, logits.softmax(dim=1), given, strict=True
        ):
            probabilities[method] = of_one
            if features:
                embedded[method] = features_of_one
    return found
