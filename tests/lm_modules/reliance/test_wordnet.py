"""Similarity of classes against NLTK's own code, and WordNet's files against numbers from NLTK's book."""

import numpy as np
import pytest
from nltk.corpus.reader.wordnet import Synset

from maskrobust.lm_modules.reliance.wordnet import DEBIAN_FOLDER, path_similarity, read_wordnet_nouns
from tests.conftest import require_component

ANIMALS = {
    "animal": (),
    "pet": ("animal",),
    "mammal": ("animal",),
    "canine": ("mammal",),
    "dog": ("canine", "pet"),
    "wolf": ("canine",),
    "cat": ("mammal", "pet"),
    "goldfish": ("animal", "pet"),
    "vehicle": (),
    "car": ("vehicle",),
}


class Node(Synset):
    """A node of any hierarchy, compared by NLTK's code for WordNet's."""

    def __init__(self, name: str, hierarchy: dict[str, tuple[str, ...]]) -> None:
        self._name, self._hierarchy = name, hierarchy

    def _hypernyms(self):
        return [Node(parent, self._hierarchy) for parent in self._hierarchy[self._name]]

    def _instance_hypernyms(self):
        return []

    def _needs_root(self):
        return False


def nltk_similarity(hierarchy, nodes):
    compared = [Node(name, hierarchy) for name in nodes]
    return np.array([[one.path_similarity(other) or 0.0 for other in compared] for one in compared])


def random_hierarchy(count, seed):
    """Nodes with none to three parents among those before them."""
    rng = np.random.default_rng(seed)
    return {
        str(node): tuple(str(parent) for parent in rng.permutation(node)[: rng.integers(0, 4)]) for node in range(count)
    }


def test_similarity_is_nltks_on_a_hierarchy_made_by_hand():
    names = list(ANIMALS)
    similarity = path_similarity(ANIMALS, names)
    assert similarity.dtype == np.float64
    assert np.array_equal(similarity, nltk_similarity(ANIMALS, names))
    by_name = dict(zip(names, similarity[names.index("dog")], strict=True))
    assert by_name["dog"] == 1.0 and by_name["canine"] == by_name["pet"] == 1 / 2
    assert by_name["wolf"] == by_name["cat"] == by_name["goldfish"] == by_name["mammal"] == 1 / 3
    assert by_name["car"] == by_name["vehicle"] == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_similarity_is_nltks_on_any_hierarchy(seed):
    hierarchy = random_hierarchy(30, seed)
    nodes = [str(node) for node in np.random.default_rng(seed).permutation(30)[:20]]
    similarity = path_similarity(hierarchy, nodes)
    assert np.array_equal(similarity, nltk_similarity(hierarchy, nodes))
    assert np.array_equal(similarity, similarity.T)
    assert (similarity.diagonal() == 1.0).all() and similarity.min() >= 0.0


def test_a_class_outside_the_hierarchy_is_refused():
    with pytest.raises(ValueError, match="1 of 2 are not, the first 'cow'"):
        path_similarity(ANIMALS, ["dog", "cow"])


def test_wordnets_nouns_are_as_similar_as_nltks_book_says():
    require_component(DEBIAN_FOLDER / "data.noun", "apt install wordnet-base")
    nouns = read_wordnet_nouns()
    assert len(nouns) == 82_115
    assert nouns["n01440764"] == ("n01439121",)  # tench: a cyprinid
    right_whale, minke_whale, orca, tortoise, novel = "n02063662", "n02065407", "n02071294", "n01670092", "n06367879"
    whales = path_similarity(nouns, [right_whale, minke_whale, orca, tortoise, novel])[0]
    assert whales == pytest.approx([1.0, 0.25, 0.16666666666666666, 0.07692307692307693, 0.043478260869565216])
    dog, cat = "n02084071", "n02121620"
    assert path_similarity(nouns, [dog, cat])[0, 1] == pytest.approx(0.2)


def test_parents_are_hypernyms_and_what_a_thing_is_an_instance_of(tmp_path):
    lines = [
        "  1 a licence",
        "00000100 03 n 01 entity 0 001 ~ 00000200 n 0000 | that which is",
        "00000200 03 n 02 river 0 stream 1 002 @ 00000100 n 0000 ~i 00000300 n 0000 | water",
        "00000300 17 n 0a " + "rhine 0 " * 10 + "003 @i 00000200 n 0000 #p 00000100 n 0000 + 00000400 v 0101 | a @ b",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines) + "\n")
    expected = {"n00000100": (), "n00000200": ("n00000100",), "n00000300": ("n00000200",)}
    assert read_wordnet_nouns(tmp_path) == expected


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.noun, but '.*' has none; install Debian's wordnet-base"):
        read_wordnet_nouns(tmp_path)


@pytest.mark.parametrize("content", ["not a data file\n", "00000100 03 n\n", "00000100 03 n 01 x 0 001 @\n"])
def test_a_file_of_another_format_is_refused(tmp_path, content):
    (tmp_path / "data.noun").write_text(content)
    with pytest.raises(ValueError, match="must have the format of WordNet's data files"):
        read_wordnet_nouns(tmp_path)
