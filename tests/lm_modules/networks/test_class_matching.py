"""Classes of the data and outputs of a network, by id, by name, by index and by a file."""

import pytest
from timm.data import ImageNetInfo
from torch import nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.class_matching import imagenet_names, known_classes, match_classes
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

IMAGENET = imagenet_names(1000)


def network(
    outputs: int = 1000, names: tuple[str, ...] | None = None, ids: tuple[str, ...] | None = None
) -> TrainedNetwork:
    return TrainedNetwork("net", nn.Identity(), Preprocessing(), outputs, class_names=names, wordnet_ids=ids)


def imagenet() -> TrainedNetwork:
    return network(1000, IMAGENET.class_names, IMAGENET.wordnet_ids)


def test_wordnet_ids_are_found_where_timm_has_them() -> None:
    ids = ["n02124075", "n01440764", "n15075141"]
    assert match_classes(ids, imagenet()) == [ImageNetInfo().label_names().index(each) for each in ids] == [285, 0, 999]


def test_names_are_found_whatever_their_case_and_spaces_and_by_their_first_synonym() -> None:
    classes = ["Goldfish", "tiger_cat", "Egyptian  cat", "goldenRetriever", "tench, Tinca tinca"]
    assert match_classes(classes, imagenet()) == [1, 282, 285, 207, 0]


def test_of_two_outputs_of_one_name_none_is_taken_unless_it_is_written_as_the_networks() -> None:
    assert match_classes(["cardigan"], imagenet()) == [474]  # the garment; 264 is "Cardigan, Cardigan Welsh corgi"
    assert match_classes(["maillot", "maillot, tank suit"], imagenet()) == [638, 639]
    with pytest.raises(InputError, match="'Cardigan'"):
        match_classes(["Cardigan"], imagenet())


def test_numbers_are_indices_where_all_are() -> None:
    assert match_classes(["7", "3"], imagenet()) == [7, 3]
    assert match_classes(["3", "0"], network(10)) == [3, 0]
    assert match_classes(["1", "0"], network(2, ("0", "1"))) == [1, 0]  # names of the network's own come first
    for classes in (["7", "bird"], ["7", "1000"], ["7", "-1"]):
        with pytest.raises(InputError, match="'net'"):
            match_classes(classes, imagenet())


def test_a_network_that_says_nothing_takes_as_many_classes_in_their_order() -> None:
    assert match_classes(["b", "a", "c"], network(3)) == [0, 1, 2]
    with pytest.raises(InputError, match="'net' has 4 classes but the data have 3"):
        match_classes(["b", "a", "c"], network(4))


def test_a_file_says_index_id_or_name_and_may_know_more_classes() -> None:
    given: dict[str, int | str] = {"one": 5, "two": "n02124075", "three": "tench", "other": 5}
    assert match_classes(["two", "one", "three"], imagenet(), given) == [285, 5, 0]
    assert match_classes(["one"], network(10), given) == [5]


def test_classes_that_are_not_one_output_are_unknown() -> None:
    assert [*known_classes(["unicorn", "tench", "crane"], imagenet())] == ["tench"]
    assert known_classes(["tench", "unicorn"], imagenet(), {"unicorn": 5}) == {"unicorn": 5}
    with pytest.raises(InputError, match="does not say what its outputs are"):
        known_classes(["tench"], network(10))


@pytest.mark.parametrize(
    ("classes", "given", "named"),
    [
        (["tench", "unicorn", "griffin"], None, "'unicorn', 'griffin' of the data's 3"),
        (["crane"], None, "'crane'"),
        (["tench", "n01440764"], None, "'tench', 'n01440764' are all output 0"),
        (["tench"], {}, "'tench'"),
        (["tench"], {"tench": 1000}, "'tench'"),
        (["tench", "eel"], {"tench": 4, "eel": 4}, "output 4"),
        ([f"class {place}" for place in range(5)], None, "and 2 more"),
    ],
)
def test_what_matches_none_or_several_or_the_same_output_is_named(
    classes: list[str], given: dict[str, int | str] | None, named: str
) -> None:
    with pytest.raises(InputError) as refusal:
        match_classes(classes, imagenet(), given)
    assert named in str(refusal.value) and "\n" not in str(refusal.value)
