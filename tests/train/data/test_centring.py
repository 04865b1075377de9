"""Pictures to centre by: none that is asked about, and a refusal where the data have none."""

import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.train.data import Cues
from maskrobust.train.data.centring import pictures_to_centre_by
from tests.train.tiny import TINY_DATA


@pytest.mark.parametrize(("split", "other"), [("test", "train"), ("val", "train"), ("train", "val")])
def test_pictures_are_scenes_of_another_split(split, other) -> None:
    data = Cues(**TINY_DATA)
    data.setup("fit")
    found = pictures_to_centre_by(data, split, ["black", "mean+centred"])
    assert torch.equal(found, data.empty_scenes(other, 8).images)
    assert not any(torch.equal(one, each) for one in found for each in data.empty_scenes(split, 8).images)


def test_nothing_is_drawn_where_nothing_is_centred() -> None:
    assert pictures_to_centre_by(None, "test", ["black", "layer_masking"]) is None


def test_data_without_scenes_are_refused_with_the_method_to_ask_under_instead() -> None:
    data = Cues(**TINY_DATA)
    data.empty_scenes = lambda *_: None
    with pytest.raises(InputError, match=r"^'mean\+centred' takes off .*, but Cues has none; ask under 'mean' alone"):
        pictures_to_centre_by(data, "test", ["black", "mean+centred"])
