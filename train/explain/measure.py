"""Every image explained and kept, so that a command that was stopped goes on where it was."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import Progress

from maskrobust.augment import fold_in
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explaining import Arrays, count_asked, explain_image
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.trained_network import TrainedNetwork
from maskrobust.train.claim.stored import fingerprint
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.data.image_files import id_of
from maskrobust.train.explain.config import ExplainConfig
from maskrobust.train.explain.pictures import Picture, list_pictures, read_picture, segment
from maskrobust.train.explain.stored import digest, read_explained, write_explained


class Explained(NamedTuple):
    """What the networks' answers say.

    Attributes:
        networks: their names.
        class_names: of all classes.
        images: by the image's name the arrays of `explain_image`, and "picture" (S, S, 3) uint8.
    """

    networks: tuple[str, ...]
    class_names: tuple[str, ...]
    images: dict[str, Arrays]


def explain_images(config: ExplainConfig, progress: Progress) -> Explained:
    """Explain every image, and keep each as soon as it is done; those that an earlier call has done are read.

    Args:
        config: what to explain.
        progress: told about every image, and about every network's answers.

    Raises:
        MissingFileError, InputError: a file is missing or unreadable, networks have different classes, a class is
            none, or --out holds explanations with other settings.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    files = list_pictures(config.images)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {name: network_for_pictures(name).to(device) for name in config.network}
    class_names = check_same_classes(networks)
    classes = config.likeliest or find_classes(config.classes, class_names)
    predictors = [[network.predictor(method) for method in config.methods] for network in networks.values()]
    weights = {name: f"{digest(each.state_dict())} {each.preprocessing}" for name, each in networks.items()}
    images = {}
    for name, path in progress.track(files.items(), description="explaining images"):
        picture = read_picture(name, path, config.image_size)
        partitions = {each: segment(picture, each, config) for each in config.segments}
        settings = fingerprint(_settings(config, picture, partitions, weights))
        kept = config.out / "images" / f"{name}.npz"
        found = read_explained(kept, settings)
        if found is None:
            steps = count_asked(config.plan, len(partitions), len(predictors) * len(config.methods))
            task = progress.add_task(name, total=steps)
            found = explain_image(
                picture.pixels.to(device) / 255,
                {each: Segments(segments.labels.to(device)) for each, segments in partitions.items()},
                predictors,
                config.plan,
                classes,
                int(fold_in(torch.tensor([id_of(Path(path.name))]), config.seed)),
                partial(progress.advance, task),
            )
            found["picture"] = picture.pixels.permute(1, 2, 0).numpy()
            write_explained(kept, found, settings)
            progress.remove_task(task)
        images[name] = found
    return Explained(tuple(networks), class_names, images)


def _settings(
    config: ExplainConfig, picture: Picture, partitions: Mapping[str, Segments], weights: Mapping[str, str]
) -> dict[str, object]:
    """All that the explanations of an image follow from, as plain values."""
    pixels = {"picture": picture.pixels} | {name: segments.labels for name, segments in partitions.items()}
    return {
        "weights": weights,
        "pixels": digest(pixels),
        "methods": config.methods,
        "classes": config.classes,
        "seed": config.seed,
        **{name: value for name, value in vars(config.plan).items() if name != "batch_size"},
    }


def network_for_pictures(name: str) -> TrainedNetwork:
    """A network by name that cuts from pictures what its preprocessing wants less than they show already.

    Raises:
        MissingFileError, InputError: see `load_network`.
    """
    network = load_network(name)
    return network.shown(network.preprocessing.after_crop(AnnotatedDataModule.crop_fraction))


def check_same_classes(networks: Mapping[str, TrainedNetwork]) -> tuple[str, ...]:
    """Names of the classes that all networks have, each up to its first comma; numbers where no network has names.

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
    return tuple(name.partition(",")[0] for name in named or map(str, range(first.num_classes)))


def find_classes(wanted: Sequence[str | int], class_names: Sequence[str]) -> list[int]:
    """Positions of classes that are given by their names or positions.

    Raises:
        InputError: one is none.
    """
    positions = {name.lower(): position for position, name in reversed([*enumerate(class_names)])}
    found = []
    for each in wanted:
        position = positions.get(str(each).lower(), int(each) if re.fullmatch(r"\d{1,9}", str(each)) else -1)
        if not 0 <= position < len(class_names):
            raise InputError(
                f"classes must be names or numbers of the networks' {len(class_names)} classes, got '{each}'; choose "
                f"some, such as '{class_names[0]}'."
            )
        found.append(position)
    if len(set(found)) < len(found):
        raise InputError(f"classes must be different, got {', '.join(map(str, wanted))}; name each once.")
    return found
