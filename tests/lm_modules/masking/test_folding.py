"""A batch norm that is folded into its convolution is folded once, and anew whenever a weight changes."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking, batch_norm
from tests.lm_modules.masking.networks import draw_images, holes, randomise

IMAGES, VISIBLE = draw_images(3, 32), holes(32)


def make_network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stem = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False)
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
        return randomise(nn.Sequential(*stem, nn.BatchNorm2d(8), nn.ReLU(), *head)).eval()


@torch.no_grad()
def in_place(network: nn.Sequential) -> None:
    network[0].weight.mul_(2.0)


@torch.inference_mode()
def in_inference_mode(network: nn.Sequential) -> None:
    network[3].weight.mul_(2.0)


def through_data(network: nn.Sequential) -> None:
    network[0].weight.data.mul_(0.999)  # unseen by the tensor's version, as of an average of weights


def as_data(network: nn.Sequential) -> None:
    network[0].weight.data = network[0].weight.data * 2.0


def by_another_convolution(network: nn.Sequential) -> None:
    network[0] = copy.deepcopy(network[0])
    network[0].weight.data.mul_(2.0)


def by_loading(network: nn.Sequential) -> None:
    network.load_state_dict({name: value * 1.5 for name, value in network.state_dict().items()})


def statistics(network: nn.Sequential) -> None:
    network[1].running_mean.add_(1.0)


def eps(network: nn.Sequential) -> None:
    network[4].eps = 0.5


def dtype(network: nn.Sequential) -> None:
    network.double()
    network.float()
    network[0].weight.data.mul_(2.0)


CHANGES = (
    in_place,
    in_inference_mode,
    as_data,
    through_data,
    by_another_convolution,
    by_loading,
    statistics,
    eps,
    dtype,
)


def test_weights_are_folded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folded: list[nn.Module] = []
    true_fold = batch_norm._folded
    monkeypatch.setattr(batch_norm, "_folded", lambda *modules: folded.append(modules[0]) or true_fold(*modules))
    masked = LayerMasking(make_network())
    with torch.inference_mode():
        first = masked(IMAGES, VISIBLE)
        assert len(folded) == 2
    with torch.no_grad():
        assert torch.equal(masked(IMAGES, VISIBLE), first) and len(folded) == 2


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_weights_counts_in_the_next_pass(change: Callable[[nn.Sequential], None]) -> None:
    masked = LayerMasking(make_network())
    with torch.inference_mode():
        before = masked(IMAGES, VISIBLE)
    change(masked.network)
    after, fresh = logits(masked), logits(LayerMasking(masked.network))
    assert torch.equal(after, fresh) and not torch.equal(after, before)


def test_an_optimiser_that_writes_through_data_counts_after_training() -> None:
    masked = LayerMasking(make_network())
    before = logits(masked)
    masked.train()(IMAGES, VISIBLE).sum().backward()
    for parameter in masked.parameters():
        parameter.data.sub_(0.1 * parameter.grad)
    masked.eval()
    assert torch.equal(logits(masked), logits(LayerMasking(masked.network)))
    assert not torch.equal(logits(masked), before)


@torch.inference_mode()
def logits(masked: LayerMasking) -> Tensor:
    return masked(IMAGES, VISIBLE)
