"""The networks of an evaluation: loaded, shown the data's pictures, and answering with the data's classes."""

from collections.abc import Mapping

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.measurement import check_plans
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.lm_modules.trained_network import TrainedNetwork
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.networks import answering_data, load_for, read_classes


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
    network = load_for(name, config.data, config.precision, preprocess=config.preprocess)
    check_plans(network, config.plans)
    answering = answering_data(network, config.data, given, only=config.answers == "present")
    answering.pass_size = config.data.batch_size if config.compile else None
    return answering


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
