"""Load the networks of a command, and match them to the data's images and classes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.class_matching import match_classes
from maskrobust.lm_modules.networks.trained_network import Precision, TrainedNetwork
from maskrobust.train.arguments import read_options
from maskrobust.train.data.base import AnnotatedDataModule

_LARGEST_FILE = 16 * 2**20


def load_for(
    name: str,
    data: AnnotatedDataModule | None,
    precision: Precision,
    *,
    preprocess: Mapping[str, Any] | None = None,
    are_outputs_given: bool = False,
    image_size: int | None = None,
) -> TrainedNetwork:
    """Load a network by its name, for pictures that the data may have cropped already.

    Its own crop is reduced by the crop that the data have made. A line says if it sees them in another size.

    Random weights have as many outputs as the data have classes, unless a file gives each class an output.

    Args:
        name: see `load_network`.
        data: whose pictures they are; None for pictures from files.
        precision: precision of its computation.
        preprocess: changes to its preprocessing; a crop among them is left as it is.
        are_outputs_given: whether a file gives each class an output.
        image_size: side of pictures from files, in pixels.

    Raises:
        MissingFileError, InputError: the network cannot be loaded.
    """
    num_classes = None if data is None or are_outputs_given else data.num_classes or None
    network = load_network(name, preprocess, num_classes=num_classes).configured(precision=precision)
    size, given = network.preprocessing.size, getattr(data, "image_size", image_size)
    if size is not None and given is not None and size != (given, given) and "size" not in (preprocess or {}):
        rank_zero_info(f"{name}: pictures of {given} pixels are shown at {size[0]} x {size[1]}, as in its training")
    if preprocess is not None and "crop" in preprocess:
        return network
    cut = AnnotatedDataModule.crop_fraction if data is None else data.crop_fraction
    return network.configured(preprocessing=network.preprocessing.after_crop(cut))


def select_data_outputs(
    network: TrainedNetwork,
    data: AnnotatedDataModule,
    given: Mapping[str, int | str] | None = None,
    *,
    only: bool = False,
) -> TrainedNetwork:
    """The network with the data's classes first, in label order.

    Args:
        network: the network with its outputs in their own order.
        data: whose classes.
        given: outputs of the classes by their names; None to find them.
        only: leave the other outputs out.

    Raises:
        InputError: the network does not know the data's classes.
    """
    return network.select_outputs(match_classes(data.class_names, network, given), only=only)


def read_classes(path: Path) -> dict[str, int | str]:
    """The output of each class, from a file: its index, WordNet id or class name by the data's name of the class.

    Args:
        path: JSON (.json), YAML (.yaml, .yml), or a text of two columns, parted by a tab or else by the first space.

    Raises:
        MissingFileError, InputError: there is no such file, it is larger than 16 MiB, or says something else.
    """
    if not path.is_file():
        raise MissingFileError(f"outputs of classes are named in a file, but '{path}' does not exist; check the path.")
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"'{path}' must name an output for each class, but is larger than 16 MiB; give another file.")
    content = read_options(str(path)) if path.suffix in (".json", ".yaml", ".yml") else _read_columns(path)
    wrong = [name for name, value in content.items() if not isinstance(value, int | str) or isinstance(value, bool)]
    if wrong:
        raise InputError(
            f"'{path}' must give each class the index, WordNet id or class name of an output, got "
            f"{content[wrong[0]]!r} for '{wrong[0]}'; correct it there."
        )
    return {str(name): value for name, value in content.items()}


def _read_columns(path: Path) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise InputError(f"'{path}' must be a text in UTF-8, but is not; write it again.") from error
    for number, line in enumerate(lines, start=1):
        fields = [each.strip() for each in line.split("\t" if "\t" in line else None, 1)]
        if not line.strip():
            continue
        if len(fields) < 2:
            raise InputError(f"each line of '{path}' must name a class and its output, got '{line}' in line {number}.")
        if fields[0] in found:
            raise InputError(f"'{path}' must name each class once, but names '{fields[0]}' twice; correct it there.")
        found[fields[0]] = int(fields[1]) if re.fullmatch("[0-9]{1,6}", fields[1]) else fields[1]
    return found
