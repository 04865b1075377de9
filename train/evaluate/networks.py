"""The networks of an evaluation: loaded, shown the data's pictures, and answering with the data's classes."""

import re
from collections.abc import Mapping
from pathlib import Path

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.class_matching import match_classes
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.measurement import check_plans
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.lm_modules.trained_network import TrainedNetwork
from maskrobust.train.arguments import read_options
from maskrobust.train.evaluate.config import EvaluationConfig

_LARGEST_FILE = 16 * 2**20


def load_networks(config: EvaluationConfig) -> dict[str, TrainedNetwork]:
    """Every network by its name, its first classes being those of the data, in label order.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or does not know the data's classes, or cannot be
            asked what the configuration asks.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    given = None if config.classes is None else read_classes(config.classes)
    return {name: _load(name, config, given) for name in config.network}


def _load(name: str, config: EvaluationConfig, given: Mapping[str, int | str] | None) -> TrainedNetwork:
    network = load_network(name, config.preprocess)
    check_plans(network, config.plans)
    if config.preprocess is None or "crop" not in config.preprocess:
        network = network.shown(network.preprocessing.after_crop(config.data.crop_fraction))
    network.precision = config.precision
    outputs = match_classes(config.data.class_names, network, given)
    return network.answering(outputs, only=config.answers == "present")


def read_classes(path: Path) -> dict[str, int | str]:
    """The output of each class, from a file: its index, WordNet id or class name by the data's name of the class.

    Args:
        path: JSON (.json), YAML (.yaml, .yml), or a text of two columns, parted by a tab or else by the first space.

    Raises:
        MissingFileError, InputError: there is no such file, it is larger than 16 MiB, or says something else.
    """
    if not path.is_file():
        raise MissingFileError(f"classes must be a file, but '{path}' does not exist; check the path.")
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


def answer_similarities(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork]
) -> dict[str, FloatArray | None]:
    """Similarity (outputs, K) in WordNet of each network's answers with the data's K classes; None without WordNet.

    A network that does not say what its outputs are has the data's classes, which must then be named by WordNet ids.

    Raises:
        MissingFileError, InputError: WordNet cannot be read, or an output or a class is not named by one of its ids.
    """
    if config.wordnet is None:
        return dict.fromkeys(networks)
    nouns = read_wordnet_nouns(config.wordnet)
    nodes = {name: network.wordnet_ids or config.data.class_names for name, network in networks.items()}
    by_nodes = {each: path_similarity(nouns, each)[:, : config.data.num_classes] for each in set(nodes.values())}
    return {name: by_nodes[each] for name, each in nodes.items()}
