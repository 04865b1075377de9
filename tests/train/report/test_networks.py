from itertools import pairwise

import pytest

from maskrobust.train.report.networks import colour_number, networks_of_reliance, short_names
from tests.train.report.everything import CHECKPOINTS, make_reliance


def test_networks_have_colours_of_their_own_until_they_run_out():
    numbers = [colour_number(position) for position in range(13)]
    assert numbers[:12] == list(range(1, 13)) and numbers[12] == 1
    assert all(later != earlier for earlier, later in pairwise(numbers))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a/version_0/last.ckpt"], ["last.ckpt"]),
        (["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"], ["a", "b"]),
        (["runs/a.ckpt", "runs/b.ckpt"], ["a.ckpt", "b.ckpt"]),
        (["a/b/x.ckpt", "a/x.ckpt"], ["b/x.ckpt", "x.ckpt"]),
        (["/one/x.pt", "two/x.pt", "/one/y.pt"], ["/one/x.pt", "two/x.pt", "/one/y.pt"]),
        (["run-1/x", "run-12/x"], ["run-1", "run-12"]),
    ],
)
def test_paths_are_called_by_the_parts_in_which_they_differ(paths, names):
    assert list(short_names(paths).items()) == list(zip(paths, names, strict=True))


def test_checkpoints_are_numbered_in_order_and_keep_their_whole_path():
    networks = networks_of_reliance(make_reliance())
    assert [(network.number, network.name) for network in networks] == list(enumerate(CHECKPOINTS, start=1))
    assert networks[1].title == "random_patches_black/version_12"
