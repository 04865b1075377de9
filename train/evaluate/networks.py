"""The networks of an evaluation: loaded, shown the data's pictures, and answering with the data's classes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_info

from maskrobust.lm_modules.networks.class_matching import first_few, known_classes
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.measurement import check_plans
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.train.data import AnnotatedDataModule, EvaluationImages
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.networks import load_for, read_classes, select_data_outputs
from maskrobust.train.storage.plain_text import printable


def load(config: EvaluationConfig) -> tuple[dict[str, TrainedNetwork], AnnotatedDataModule]:
    """Every network by its name, its first classes being those of the data, in label order; and the data.

    Returns:
        The networks; and the data, which lack the classes that a network does not know where these are to be left out.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or does not know the data's classes, or cannot be
            asked what the configuration asks.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    given = None if config.classes is None else read_classes(config.classes)
    networks, data = {}, config.data
    for name in config.network:
        networks[name] = load_for(
            name, data, config.precision, preprocess=config.preprocess, are_outputs_given=given is not None
        )
        check_plans(networks[name], config.plans)
    classes = data.class_names
    if config.unknown_classes == "leave_out" and isinstance(data, EvaluationImages):
        known = {name: known_classes(classes, network, given) for name, network in networks.items()}
        data = _known_to_all(data, known.values())
    only = config.answers == "present"
    for name, network in networks.items():
        if data.class_names == classes:
            networks[name] = select_data_outputs(network, data, given, only=only)
        else:
            networks[name] = network.select_outputs([known[name][each] for each in data.class_names], only=only)
        networks[name].pass_size = data.batch_size if config.compile else None
    return networks, data


def _known_to_all(data: EvaluationImages, known: Iterable[Mapping[str, int]]) -> EvaluationImages:
    """The images of those classes that every network knows; of all, to be refused, where none is."""
    names = [name for name in data.class_names if not all(name in each for each in known)]
    if not 0 < len(names) < len(data.class_names):
        return data
    known_to_all = data.without_classes(names)
    images = len(data.files("val"))
    rank_zero_info(
        f"{printable(first_few(names))}: {len(names)} of {len(data.class_names)} classes left out, which are not one "
        f"output of every network, with {images - len(known_to_all.files('val'))} of {images} images"
    )
    return known_to_all


def answer_similarities(
    wordnet: Path | None, networks: Mapping[str, TrainedNetwork], data: AnnotatedDataModule
) -> dict[str, FloatArray | None]:
    """Similarity (outputs, K) in WordNet of each network's answers with the data's K classes; None without WordNet.

    A network that does not say what its outputs are has the data's classes, which must then be named by WordNet ids.

    Raises:
        MissingFileError, InputError: WordNet cannot be read, or an output or a class is not named by one of its ids.
    """
    if wordnet is None:
        return dict.fromkeys(networks)
    nouns = read_wordnet_nouns(wordnet)
    nodes = {name: network.wordnet_ids or data.class_names for name, network in networks.items()}
    by_nodes = {each: path_similarity(nouns, each)[:, : data.num_classes] for each in set(nodes.values())}
    return {name: by_nodes[each] for name, each in nodes.items()}
