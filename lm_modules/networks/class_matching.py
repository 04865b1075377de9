"""Match the classes of the data to the outputs of a network."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

_WORDNET_ID = re.compile(r"n\d{8}")
_LONGEST_NAME = 500

Outputs = Mapping[str, list[int]]
"""Outputs by what they may be called."""


class OutputNames(NamedTuple):
    """Names of a network's outputs, in their order.

    Attributes:
        class_names: names of the classes as people write them; None where they are not known.
        wordnet_ids: such as "n01440764"; None where they are not known.
    """

    class_names: tuple[str, ...] | None = None
    wordnet_ids: tuple[str, ...] | None = None


def imagenet_names(num_outputs: int) -> OutputNames:
    """The classes of ImageNet-1k for 1000 outputs, and of timm's larger subsets for theirs; no names otherwise.

    The subsets are told apart by their size: 11221 and 21843 of ImageNet-21k, 11821 of 12k, 21841 of 22k. Source of
    names and order: `timm.data.ImageNetInfo`.
    """
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_outputs})
    if subset is None:
        return OutputNames()
    info = ImageNetInfo(subset)
    return OutputNames(tuple(info.label_descriptions()), tuple(info.label_names()))  # type: ignore[no-untyped-call]


def are_wordnet_ids(names: Sequence[str]) -> bool:
    """Whether every name is "n" and eight digits."""
    return all(map(_WORDNET_ID.fullmatch, names))


def named_outputs(names: Sequence[str] | None) -> OutputNames:
    """The names of outputs, which are WordNet ids as well where all of them look so."""
    if names is None:
        return OutputNames()
    return OutputNames(tuple(names), tuple(names) if are_wordnet_ids(names) else None)


def read_class_names(content: object, count: int, source: str) -> tuple[str, ...]:
    """Class names that a file holds.

    Args:
        content: as read from the file.
        count: how many there must be.
        source: the file, for messages.

    Raises:
        InputError: it is not a list of that many strings of at most 500 characters.
    """
    if not isinstance(content, list | tuple) or len(content) != count:
        raise InputError(f"'{source}' must name its {count} classes in a list, but does not; write it again.")
    if not all(isinstance(each, str) and 0 < len(each) <= _LONGEST_NAME for each in content):
        raise InputError(
            f"'{source}' must name its classes in strings of 1 to {_LONGEST_NAME} characters, but does not; write it "
            "again."
        )
    return tuple(content)


def match_classes(
    classes: Sequence[str], network: TrainedNetwork, given: Mapping[str, int | str] | None = None
) -> list[int]:
    """The output of a network for each class of the data.

    A class is matched by its WordNet id; or by its name as the network writes it; or else by a name in which case,
    spaces and underscores do not matter, and of a network's "tench, Tinca tinca" the first synonym is enough; or by the
    index of an output where every class of the data is one. A network that says nothing of its classes takes as many as
    it has in their order.

    Args:
        classes: names of the data's classes, in label order.
        network: whose outputs are looked for.
        given: by the data's class the index, WordNet id or class name of an output, in place of the class's own name;
            classes of other data may be among them.

    Returns:
        An index in [0, network.num_classes) for each class.

    Raises:
        InputError: naming the classes that match no output, several outputs, or the same one as another class.
    """
    found = _outputs_of(classes, network, given)
    unclear = [name for name, outputs in found.items() if len(outputs) != 1]
    if unclear:
        raise InputError(
            f"each class must be one output of '{network.name}', but {first_few(unclear)} of the data's {len(classes)} "
            f"match none or several; name them by WordNet id or class name, give --classes a file with the output of "
            "each class, or leave them out of the data."
        )
    outputs = [outputs[0] for outputs in found.values()]
    often = [output for output, count in Counter(outputs).items() if count > 1]
    if often:
        alike = [name for name, output in zip(classes, outputs, strict=True) if output == often[0]]
        raise InputError(
            f"each class must be an output of its own, but {first_few(alike)} are all output {often[0]} of "
            f"'{network.name}'; leave one of them out, or correct --classes."
        )
    return outputs


def first_few(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _outputs_of(
    classes: Sequence[str], network: TrainedNetwork, given: Mapping[str, int | str] | None
) -> dict[str, list[int]]:
    """Every output that each class of the data may mean; see `match_classes`."""
    if given is None and network.class_names is None and network.wordnet_ids is None:
        if len(classes) == network.num_classes:
            return {name: [output] for output, name in enumerate(classes)}
        given = _as_indices(classes, network.num_classes)
        if given is None:
            raise InputError(
                f"'{network.name}' has {network.num_classes} classes but the data have {len(classes)}, and it does not "
                f"say what its outputs are; give --classes a file with the output of each class."
            )
    kinds = _kinds(network)
    is_known = any(_outputs_for(name, network.num_classes, kinds) for name in classes)
    if given is None and network.class_names is not None and not is_known:
        given = _as_indices(classes, network.num_classes)
    values = {name: name if given is None else given.get(name) for name in classes}
    return {name: _outputs_for(value, network.num_classes, kinds) for name, value in values.items()}


def _as_indices(classes: Sequence[str], num_outputs: int) -> dict[str, int | str] | None:
    """The classes as indices of outputs, where all of them are some."""
    if not all(re.fullmatch(r"[0-9]{1,6}", name) and int(name) < num_outputs for name in classes):
        return None
    return {name: int(name) for name in classes}


def _outputs_for(value: int | str | None, num_outputs: int, kinds: Sequence[Outputs]) -> list[int]:
    """Every output that an index, a WordNet id or a name may mean, those of the surest kind of match alone."""
    if isinstance(value, int):
        return [value] if 0 <= value < num_outputs else []
    if value is None:
        return []
    ids, names, alike = kinds
    return ids.get(_plain(value)) or names.get(value) or alike.get(_plain(value)) or []


def _kinds(network: TrainedNetwork) -> tuple[Outputs, Outputs, Outputs]:
    """Outputs by WordNet id, by name, and by name or first synonym in plain form; the surest kind first."""
    ids, names, alike = (defaultdict[str, list[int]](list) for _ in range(3))
    for output, wordnet_id in enumerate(network.wordnet_ids or ()):
        ids[_plain(wordnet_id)].append(output)
    for output, name in enumerate(network.class_names or ()):
        names[name].append(output)
        for each in {_plain(name), _plain(name.partition(",")[0])}:
            alike[each].append(output)
    return ids, names, alike


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()
