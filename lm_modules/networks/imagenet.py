"""What the outputs of ImageNet networks mean."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from maskrobust.errors import InputError

_WORDNET_ID = re.compile(r"n\d{8}")
_LONGEST_NAME = 500


class OutputNames(NamedTuple):
    """Names of a network's outputs, in their order.

    Attributes:
        class_names: as people write them; None where they are not known.
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
