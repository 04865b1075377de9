"""The networks of an evaluation: loaded, shown the data's pictures, and answering with the data's classes."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytorch_lightning.utilities import rank_zero_info

from maskrobust.lm_modules.networks.class_matching import first_few, known_classes
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.measurement import check_plans
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.train.data import EvaluationImages
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.networks import answering_data, load_for, read_classes
from maskrobust.train.storage.plain_text import printable


def load_networks(config: EvaluationConfig) -> tuple[EvaluationConfig, dict[str, TrainedNetwork]]:
    """Every network by its name, its first classes being those of the data, in label order.

    Returns:
        The configuration, whose data lack the classes that a network does not know where these are to be left out; and
        the networks.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or does not know the data's classes, or cannot be
            asked what the configuration asks.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    given = None if config.classes is None else read_classes(config.classes)
    networks = {}
    for name in config.network:
        networks[name] = load_for(
            name, config.data, config.precision, preprocess=config.preprocess, are_outputs_given=given is not None
        )
        check_plans(networks[name], config.plans)
    classes = config.data.class_names
    if config.unknown_classes == "leave_out" and isinstance(config.data, EvaluationImages):
        known = {name: known_classes(classes, network, given) for name, network in networks.items()}
        config = replace(config, data=_known_to_all(config.data, known.values()))
    only = config.answers == "present"
    for name, network in networks.items():
        if config.data.class_names == classes:
            networks[name] = answering_data(network, config.data, given, only=only)
        else:
            networks[name] = network.select_outputs([known[name][each] for each in config.data.class_names], only=only)
        networks[name].pass_size = config.data.batch_size if config.compile else None
    return config, networks


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
