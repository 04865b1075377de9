"""The wrapper adds nothing to the network's state: keys, copies and files are those of the network."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise


class Trunk(nn.Module):
    """Its part is called like the wrapper's, and holds the same names as the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4))
        self.add_module("0", nn.Conv2d(4, 4, 3, 1, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.get_submodule("0")(self.network(x)))


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert list(first) == list(second)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("make", [lambda: build("small_resnet"), lambda: build("basic_resnet"), Trunk])
def test_the_state_dict_is_the_networks_and_loads_both_ways(make) -> None:
    network, other = make(), randomise(make(), seed=1)
    assert_equal(LayerMasking(network).state_dict(), network.state_dict())
    plain, wrapped = make(), LayerMasking(make())
    plain.load_state_dict(LayerMasking(other).state_dict())
    wrapped.load_state_dict(other.state_dict())
    assert_equal(plain.state_dict(), other.state_dict())
    assert_equal(wrapped.state_dict(), other.state_dict())


def test_inside_another_module_only_the_outer_name_is_added() -> None:
    def outer() -> nn.Module:
        return nn.ModuleDict({"before": nn.Linear(2, 2), "masked": LayerMasking(Trunk()), "after": nn.Linear(2, 2)})

    first, second = outer(), outer()
    keys = [f"masked.{name}" for name in Trunk().state_dict()]
    expected = ["before.weight", "before.bias", *keys, "after.weight", "after.bias"]
    assert list(first.state_dict()) == expected
    given = first.state_dict()
    second.load_state_dict(given)
    assert list(given) == expected
    assert_equal(second.state_dict(), first.state_dict())


@pytest.mark.parametrize("wrapped", [False, True])
def test_missing_and_unknown_keys_are_noticed(wrapped: bool) -> None:
    state = build("small_resnet").state_dict()
    state["surplus"] = state.pop("fc.bias")
    target = LayerMasking(build("small_resnet")) if wrapped else build("small_resnet")
    result = target.load_state_dict(state, strict=False)
    assert [name.removeprefix("network.") for name in result.missing_keys] == ["fc.bias"]
    assert [name.removeprefix("network.") for name in result.unexpected_keys] == ["surplus"]
    with pytest.raises(RuntimeError, match=r"fc\.bias"):
        target.load_state_dict(state)


@torch.no_grad()
def test_a_deep_copy_is_independent() -> None:
    masked, images, visible = LayerMasking(build("small_resnet")), draw_images(), holes()
    before, twin = masked(images, visible), copy.deepcopy(masked)
    assert torch.equal(twin(images, visible), before)
    for parameter in twin.parameters():
        parameter.zero_()
    assert torch.equal(masked(images, visible), before)
    assert not twin(images, visible).any()


@torch.no_grad()
def test_a_saved_wrapper_computes_the_same() -> None:
    masked, images, visible = LayerMasking(build("small_resnet"), merge="union"), draw_images(), holes()
    file = io.BytesIO()
    torch.save(masked, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again(images, visible), masked(images, visible))
