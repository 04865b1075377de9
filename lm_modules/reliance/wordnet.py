"""How alike two classes are in a hierarchy of classes, such as ImageNet's in WordNet."""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.reliance.arrays import FloatArray

DEBIAN_FOLDER = Path("/usr/share/wordnet")
"""Where Debian's package wordnet-base keeps the files of WordNet 3.0."""

Hierarchy = Mapping[str, Sequence[str]]
"""Parents of each node, any number of them; a root has none."""


def path_similarity(hierarchy: Hierarchy, nodes: Sequence[str]) -> FloatArray:
    """1 / (1 + shortest path between two nodes), the path going up to a common ancestor and down again.

    A node is its own ancestor. The definition is NLTK's `path_similarity` for WordNet's nouns (Pedersen, Patwardhan and
    Michelizzi, "WordNet::Similarity", AAAI 2004).

    Args:
        hierarchy: parents of each node.
        nodes: the K classes' nodes, in the order of the classes.

    Returns:
        (K, K) float64 in [0, 1], symmetric, 1 on the diagonal; 0 where two nodes have no common ancestor.

    Raises:
        InputError: a class's node is not a node of the hierarchy.
    """
    missing = [node for node in nodes if node not in hierarchy]
    if missing:
        raise InputError(
            f"every class must be a node of the hierarchy, but {len(missing)} of {len(nodes)} are not, the first "
            f"'{missing[0]}'; name them as it does, for WordNet as in 'n01440764'."
        )
    climbs = [_climb(hierarchy, node) for node in nodes]
    column = {ancestor: i for i, ancestor in enumerate({ancestor for climb in climbs for ancestor in climb})}
    distances = np.full((len(nodes), len(column)), np.inf)
    for row, climb in enumerate(climbs):
        distances[row, [column[ancestor] for ancestor in climb]] = list(climb.values())
    similarity = np.empty((len(nodes), len(nodes)))
    for row, own in enumerate(distances):
        common = np.isfinite(own)
        similarity[row] = 1.0 / (1.0 + (distances[:, common] + own[common]).min(axis=1))
    return similarity


def read_wordnet_nouns(folder: Path = DEBIAN_FOLDER) -> dict[str, tuple[str, ...]]:
    """The hierarchy of WordNet's nouns, named as ImageNet names its classes: "n" and eight digits.

    Parents are hypernyms and, of single things, what they are instances of. Names are positions in the file, so that
    ImageNet's are those of WordNet 3.0 alone.

    Args:
        folder: holds data.noun, as Debian's package wordnet-base, NLTK's corpora/wordnet and Princeton's archive do.

    Returns:
        Parents of each of the 82,115 nouns.

    Raises:
        MissingFileError: the folder has no such file.
        InputError: the file has another format.
    """
    path = folder / "data.noun"
    if not path.is_file():
        raise MissingFileError(
            f"the hierarchy is read from WordNet's file data.noun, but '{folder}' has none; install Debian's "
            "wordnet-base, or name the folder where it is, such as NLTK's corpora/wordnet."
        )
    try:
        with path.open(encoding="utf-8") as lines:
            return dict(_read_noun(line) for line in lines if not line.startswith(" "))
    except (ValueError, IndexError) as error:
        raise InputError(f"'{path}' must have the format of WordNet's data files, got another; replace it.") from error


def _climb(hierarchy: Hierarchy, node: str) -> dict[str, int]:
    """The fewest steps up from a node to each of its ancestors, in the order in which they are met."""
    found = {node: 0}
    waiting = deque([node])
    while waiting:
        below = waiting.popleft()
        for parent in hierarchy.get(below, ()):
            if parent not in found:
                found[parent] = found[below] + 1
                waiting.append(parent)
    return found


def _read_noun(line: str) -> tuple[str, tuple[str, ...]]:
    """One line of data.noun: offset, file, type, number of words (hexadecimal), words, number of pointers, pointers.

    A word takes two fields, a pointer four: symbol, offset, part of speech, place in the synsets; see wndb(5WN).
    """
    fields = line.split()
    start = 4 + 2 * int(fields[3], 16)
    pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
    kinds = zip(pointers[::4], pointers[1::4], strict=True)
    return f"n{int(fields[0]):08d}", tuple(f"n{offset}" for symbol, offset in kinds if symbol in ("@", "@i"))
