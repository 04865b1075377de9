"""Explain every image."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_info
from rich.progress import Progress

from maskrobust.augment import fold_in
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import ExplainedImage
from maskrobust.lm_modules.explanation.explaining import (
    ExplanationRequest,
    count_queries,
    counted,
    explain_image,
    within,
)
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.files.reading import Reading, reading_for
from maskrobust.train.explain.config import QUICK, ExplainConfig
from maskrobust.train.explain.pictures import Picture, list_pictures, pictures_of, read_picture, segment
from maskrobust.train.networks import load_networks
from maskrobust.train.report.examples import to_pictures
from maskrobust.train.running.processes import find_device


class ExplainedImages(NamedTuple):
    """What the networks' answers say.

    Attributes:
        networks: names of the networks.
        class_names: names of all classes.
        images: the images by name, each with its picture.
    """

    networks: tuple[str, ...]
    class_names: tuple[str, ...]
    images: dict[str, ExplainedImage]


def explain_images(config: ExplainConfig, progress: Progress) -> ExplainedImages:
    """Explain every image.

    Args:
        config: what to explain.
        progress: told about every image, and about every network's answers.

    Raises:
        MissingFileError, InputError: a file is missing or unreadable, networks have different classes, or a class is
            none.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    device = find_device(config.device)
    files = list_pictures(config.images) if config.data is None else {}
    loaded = load_networks(
        config.network,
        config.data,
        config.precision,
        classes=config.classes,
        preprocess=config.preprocess,
        image_size=config.image_size,
    )
    networks = {name: network.to(device) for name, network in loaded.items()}
    pictures, total = _pictures(config, files, reading_for(loaded.values(), Reading(config.visible)))
    class_names = check_same_classes(networks, config.data)
    targets = config.likeliest or find_classes(config.targets, class_names)
    predictors = [[network.predictor(method) for method in config.methods] for network in networks.values()]
    if config.quick:
        rank_zero_info(QUICK)
    images = {}
    task = progress.add_task("explaining images", total=total)
    for number, picture in enumerate(pictures, start=1):
        images[picture.name] = _explain(config, picture, predictors, targets, partial(progress.advance, task))
        progress.update(task, completed=number)
    return ExplainedImages(tuple(networks), class_names, images)


def _pictures(config: ExplainConfig, files: Mapping[str, Path], reading: Reading) -> tuple[Iterable[Picture], int]:
    """The pictures, of files or else of data, and at most how many."""
    if config.data is None:
        return (read_picture(name, path, config.image_size, reading) for name, path in files.items()), len(files)
    assert config.split is not None
    config.data.prepare_data()
    config.data.setup_split(config.split)
    return pictures_of(config.data, config.split, config.max_images), config.max_images


def _explain(
    config: ExplainConfig,
    picture: Picture,
    predictors: Sequence[Sequence[Predictor]],
    classes: int | Sequence[int],
    advance: Callable[[float], None],
) -> ExplainedImage:
    """Explain a picture; `advance` is told which fraction of it is done."""
    image = picture.image.to(find_device(config.device))
    partitions: dict[str, Segments] = {
        name: Segments(segment(picture, name, config).labels.to(image.device)) for name in config.segments
    }
    queries = count_queries(config.plan, image.shape[1], image.shape[2], len(partitions)) * sum(map(len, predictors))
    known = [[within(each, picture.known) for each in of] for of in predictors]
    asked = [[counted(each, lambda images: advance(images / queries)) for each in of] for of in known]
    key = int(fold_in(torch.tensor(picture.id), config.seed))
    found = explain_image(ExplanationRequest(image, asked, config.plan, key), partitions, classes)
    (found.picture,) = to_pictures(picture.image[None], picture.show_bands)
    return found


def check_same_classes(networks: Mapping[str, TrainedNetwork], data: AnnotatedDataModule | None) -> tuple[str, ...]:
    """Names of the classes that all networks have, each up to its first comma; numbers where no network has names.

    Args:
        networks: the networks, by name.
        data: whose names their first classes have.

    Raises:
        InputError: they differ in number, or in their names.
    """
    first, *others = networks.values()
    named = first.class_names
    for other in others:
        if other.num_classes != first.num_classes or (named and other.class_names and other.class_names != named):
            raise InputError(
                f"networks must have the same classes, but the {first.num_classes} of '{first.name}' differ from the "
                f"{other.num_classes} of '{other.name}'; explain them in two calls."
            )
        named = named or other.class_names
    names = [name.partition(",")[0] for name in named or map(str, range(first.num_classes))]
    return tuple(names) if data is None or named else (*data.class_names, *names[data.num_classes :])


def find_classes(wanted: Sequence[str | int], class_names: Sequence[str]) -> list[int]:
    """Positions of classes that are given by their names, or where no class has that name by their positions.

    Case does not matter where no class has the very name.

    Raises:
        InputError: one is none, or the name of several.
    """
    found = []
    for each in wanted:
        name = str(each)
        same = [position for position, other in enumerate(class_names) if other == name]
        alike = same or [position for position, other in enumerate(class_names) if other.lower() == name.lower()]
        if len(alike) > 1:
            raise InputError(
                f"targets must each be one class, but '{each}' is the name of {' and '.join(map(str, alike))}; give "
                "the number."
            )
        position = alike[0] if alike else int(name) if re.fullmatch(r"\d{1,9}", name) else -1
        if not 0 <= position < len(class_names):
            raise InputError(
                f"targets must be names or numbers of the networks' {len(class_names)} classes, got '{each}'; choose "
                f"some, such as '{class_names[0]}'."
            )
        found.append(position)
    if len(set(found)) < len(found):
        raise InputError(f"targets must be different, got {', '.join(map(str, wanted))}; name each once.")
    return found
