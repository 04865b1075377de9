"""The folder that `maskrobust export` writes: weights as safetensors, and config.json.

Folders come from strangers: a class that one names is never imported, and names, sizes and options are checked.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.networks.architectures import build_network, build_own_network
from maskrobust.lm_modules.networks.class_matching import OutputNames, are_wordnet_ids, read_class_names
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.networks.weights import building_from, check_layer_masking, check_options, load_tensors
from maskrobust.tensor_files import read_safetensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"

MOST_OUTPUTS = 100_000
"""Most outputs that a network of a file may have."""

_FORMAT = 1
_LONGEST_NAME = 200


def write_export(network: TrainedNetwork, folder: Path) -> None:
    """Write weights and config.json into an existing folder.

    Args:
        network: a network as `load_network` returns it.
        folder: folder for both files.

    Raises:
        InputError: the network does not say what it is made of.
    """
    origin = network.origin
    if origin is None:
        raise InputError(f"an export needs a network from load_network, got '{network.name}'; load it by its name.")
    content = {
        "format": _FORMAT,
        "maskrobust": version("maskrobust"),
        "own_class" if origin.is_own_class else "architecture": origin.architecture,
        "architecture_options": origin.options,
        "layer_masking": origin.layer_masking,
        "num_classes": network.num_classes,
        "class_names": network.class_names,
        "wordnet_ids": network.wordnet_ids,
        "preprocessing": asdict(network.preprocessing),
        "training": origin.training,
    }
    (folder / CONFIG).write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    plain = network.network.network if isinstance(network.network, LayerMasking) else network.network
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in plain.state_dict().items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS)


def load_export(name: str, folder: str, own: str | None = None) -> TrainedNetwork:
    """The network that `write_export` wrote.

    Args:
        name: what it is called by.
        folder: folder of the export.
        own: the class or function of a network that is not named by its architecture, as the user has named it.

    Raises:
        MissingFileError: the folder has no such files; of a folder of a run its best or newest checkpoint is named.
        InputError: they hold something else, or name a class, which is not imported because a file names it.
    """
    path = Path(folder, CONFIG)
    for each in (path, Path(folder, WEIGHTS)):
        if not each.is_file():
            if checkpoints := _checkpoints_of_run(Path(folder)):
                raise MissingFileError(
                    f"'{Path(folder)}' is the folder of a run, which may hold several; name a checkpoint in it, such "
                    f"as '{checkpoints[-1]}'."
                )
            raise MissingFileError(
                f"'{Path(folder)}' must hold {CONFIG} and {WEIGHTS}, but has no {each.name}; export it."
            )
    content = _read_config(path)
    count = content["num_classes"]
    if not isinstance(count, int) or not 2 <= count <= MOST_OUTPUTS:
        raise InputError(f"'{path}' must have 2 to {MOST_OUTPUTS} classes, got {count!r}; export the network again.")
    origin, names = _read_origin(content, path), _read_names(content, count, str(path))
    shown = Preprocessing().with_changes(content["preprocessing"])
    weights = read_safetensors(Path(folder, WEIGHTS))
    if own is None and origin.is_own_class:
        raise InputError(
            f"'{folder}' holds a network of the class '{origin.architecture}', which is not imported because a file "
            f"names it; if you trust it, name it yourself, as in {origin.architecture}:{folder}."
        )
    network = None if own is None else build_own_network(own, count)
    with building_from(folder):
        network = network or build_network(origin.architecture, count, dict(origin.options))
        load_tensors(network, weights, folder)
    if origin.layer_masking:
        network = LayerMasking(network, **origin.layer_masking)
    may_have_more = origin.is_own_class
    return TrainedNetwork(name, network, shown, count, origin=origin, may_have_more=may_have_more, **names._asdict())


def _checkpoints_of_run(folder: Path) -> list[Path]:
    """The checkpoints in the folder of a run, or of one of its versions; the best of the newest version comes last."""
    found = [path for inside in ("", "checkpoints/", "*/checkpoints/") for path in folder.glob(f"{inside}*.ckpt")]

    def order(path: Path) -> tuple[float, bool, float]:
        return path.parent.stat().st_mtime, path.stem == "best", path.stat().st_mtime

    return sorted(found, key=order)


def _read_config(path: Path) -> dict[str, Any]:
    needed = {"format": int, "num_classes": int, "preprocessing": dict, "architecture_options": dict,
              "layer_masking": dict, "training": dict}  # fmt: skip
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"it is not of format {_FORMAT}")
        wrong = [name for name, kind in needed.items() if not isinstance(content.get(name), kind)]
        if wrong:
            raise ValueError(f"it has no valid {wrong[0]}")
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(f"'{path}' is not that of an exported network ({reason}); export it again.") from error
    return content


def _read_origin(content: Mapping[str, Any], path: Path) -> Origin:
    own = content.get("own_class")
    name = content.get("architecture") if own is None else own
    if not isinstance(name, str) or not re.fullmatch(r"[\w./-]+", name) or len(name) > _LONGEST_NAME:
        raise InputError(f"'{path}' must name an architecture, but does not; export the network again.")
    check_options(content["architecture_options"], path)
    check_layer_masking(content["layer_masking"])
    return Origin(name, content["architecture_options"], own is not None, content["layer_masking"], content["training"])


def _read_names(content: Mapping[str, Any], count: int, source: str) -> OutputNames:
    names, ids = (
        None if content.get(key) is None else read_class_names(content[key], count, source)
        for key in ("class_names", "wordnet_ids")
    )
    if ids is not None and not are_wordnet_ids(ids):
        raise InputError(f"'{source}' must have WordNet ids such as n01440764, but has others; export it again.")
    return OutputNames(names, ids)
