"""Load the networks of a command, match them to the data's images and classes, and prepare to ask them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_info

from maskrobust.augment import HoleBank, SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.loading import load_network, load_segmentation_network
from maskrobust.lm_modules.networks.class_matching import match_classes
from maskrobust.lm_modules.networks.trained_network import Precision, TrainedNetwork
from maskrobust.lm_modules.reliance.measurement import Measurement, NetworkAndMethod, Plans, under_methods
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.files.reading import reading_for
from maskrobust.train.data_options import Split
from maskrobust.train.storage.files import read_pairs


def load_for(
    name: str,
    data: AnnotatedDataModule | None,
    precision: Precision,
    *,
    preprocess: Mapping[str, Any] | None = None,
    are_outputs_given: bool = False,
    image_size: int | None = None,
    may_crop: bool = False,
    of_pixels: bool = False,
) -> TrainedNetwork:
    """Load a network by its name.

    A line says if it sees pictures in another size, and one if the mean and standard deviation of a file are assumed.

    Random weights have as many outputs as the data have classes, unless a file gives each class an output.

    Args:
        name: see `load_network`.
        data: whose pictures they are; None for pictures from files.
        precision: precision of its computation.
        preprocess: changes to its preprocessing.
        are_outputs_given: whether a file gives each class an output.
        image_size: side of pictures from files, in pixels.
        may_crop: whether pictures are read for this network alone, so that `preprocess` may have a crop.
        of_pixels: whether it is one that classifies pixels.

    Raises:
        MissingFileError, InputError: the network cannot be loaded, or a crop is given.
    """
    if "crop" in (preprocess or {}) and not may_crop:
        raise InputError(
            "a crop is made where a photograph is read, and is the same for all networks; leave it out of --preprocess."
        )
    num_classes = None if data is None or are_outputs_given else data.num_classes or None
    if of_pixels:
        return load_segmentation_network(name).configured(precision=precision)
    network = load_network(name, preprocess, num_classes=num_classes).configured(precision=precision)
    assumed = network.origin is not None and network.origin.colours_are_assumed
    if assumed and not {"mean", "std"} <= {*(preprocess or {})}:
        rank_zero_info(
            f"{name}: the file says no mean and standard deviation, so {network.preprocessing.mean} and "
            f"{network.preprocessing.std} are assumed; --preprocess '{{mean: [...], std: [...]}}' changes them"
        )
    size, given = network.preprocessing.size, getattr(data, "image_size", image_size)
    if size is not None and given is not None and size != (given, given) and "size" not in (preprocess or {}):
        rank_zero_info(f"{name}: pictures of {given} pixels are shown at {size[0]} x {size[1]}, as in its training")
    return network


def load_networks(
    names: Sequence[str],
    data: AnnotatedDataModule | None,
    precision: Precision,
    *,
    classes: Path | None = None,
    only_present: bool = False,
    **options: Any,
) -> dict[str, TrainedNetwork]:
    """Networks by their names, with the classes of the data, if there are any, as their first ones, in label order.

    Args:
        names: see `load_network`.
        data: whose pictures they are; None for pictures from files.
        precision: precision of the computation.
        classes: the file that gives each class of the data an output; see `read_classes`.
        only_present: leave outputs out that are no class of the data.
        options: preprocess, image_size and of_pixels; see `load_for`.

    Raises:
        MissingFileError, InputError: a file or a network cannot be loaded, or a network lacks a class of the data.
    """
    given = None if classes is None else read_classes(classes)
    found = {name: load_for(name, data, precision, are_outputs_given=given is not None, **options) for name in names}
    if data is None:
        return found
    for name, network in found.items():
        if len(network.preprocessing.mean) != data.bands:
            raise InputError(
                f"'{name}' takes images of {len(network.preprocessing.mean)} bands, but these have {data.bands}; name "
                "another network, or other data."
            )
    if data.reading is not None:
        data.reading = reading_for(found.values(), data.reading)
    return {
        name: network.select_outputs(match_classes(data.class_names, network, given), only=only_present)
        for name, network in found.items()
    }


def read_classes(path: Path) -> dict[str, int | str]:
    """The output of each class, from a CSV file: its index, WordNet id or class name by the data's name of the class.

    Args:
        path: a CSV file whose first line is `class,output`; see `read_pairs`.

    Raises:
        MissingFileError, InputError: there is no such file, or it says something else.
    """
    outputs = read_pairs(path, "class", "output")
    return {name: int(each) if re.fullmatch("[0-9]{1,6}", each) else each for name, each in outputs.items()}


def measurement_of(
    networks: Mapping[str, TrainedNetwork], plans: Plans, bank: SilhouetteBank | None, data: AnnotatedDataModule,
    split: Split, seed: int, device: torch.device, own: HoleBank | None = None,
) -> Measurement[NetworkAndMethod]:  # fmt: skip
    """What asks networks about a split under every masking method.

    Args:
        networks: the networks by name, on the device.
        plans: what they are asked.
        bank: objects whose silhouettes are swapped in; None for plans without objects.
        data: whose split is measured; its scenes do not wait for `setup`.
        split: split of the images, and of as many empty scenes as any plan asks about, where there are some.
        seed: decides every draw.
        device: the device that the networks are on.
        own: images that lend their own holes; None for plans without own holes.
    """
    count = max(plan.scenes for plan in plans.values())
    scenes = data.empty_scenes(split, count) if count else None
    scenes = None if scenes is None else scenes._replace(images=scenes.images.to(device))
    asked, object_of = under_methods(networks, plans), data.object_of
    return Measurement(asked, bank, data.num_classes, seed=seed, object_of=object_of, scenes=scenes, own=own)
