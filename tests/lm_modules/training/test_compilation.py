"""The compiled step: one graph or an error, the eager numbers, and checkpoints with the same keys."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.masking.networks import seeded

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture
def cheap_backend(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


def build(network):
    return MaskRobustClassifier(network, 3, masking="layer_masking")


def draw(batch_size=4):
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(batch_size, 3, 32, 32, generator=generator)
    return images, torch.rand(batch_size, 1, 32, 32, generator=generator) < 0.5


def small_network():
    return seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *head(4)))


def head(channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


def test_a_compiled_step_has_the_gradients_of_an_eager_one():
    """Inductor, the backend of a training, takes a second or more for each kernel: it gets a network with few."""
    classifier = build(head(3)).double()
    twin = copy.deepcopy(classifier)
    classifier.compile_training()
    images = draw()[0].double()
    for each in (classifier, twin):
        each(images).square().sum().backward()
    for compiled, eager in zip(classifier.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(compiled.grad, eager.grad, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(classifier.state_dict(), twin.state_dict(), rtol=1e-8, atol=1e-10)


def test_a_copy_computes_with_its_own_weights(cheap_backend):
    classifier = build(small_network())
    classifier.compile_training()
    expected = classifier(*draw())
    twin = copy.deepcopy(classifier)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(twin(*draw()), torch.zeros(4, 3))
    torch.testing.assert_close(classifier(*draw()), expected)


def test_evaluation_stays_eager(monkeypatch):
    def refuse(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(torch, "compile", lambda *_args, **_options: refuse)
    classifier, plain = build(small_network()).eval(), build(small_network()).eval()
    classifier.compile_training()
    assert torch.equal(classifier(*draw()), plain(*draw()))
    with pytest.raises(AssertionError, match="compiled"):
        classifier.train()(*draw())


class Branching(nn.Module):
    """Takes the way that its input tells, which no single graph can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(x.mean(dim=(2, 3)) + (1 if x.sum() > 0 else 2))


def test_what_does_not_compile_is_one_sentence_and_never_eager(cheap_backend):
    classifier = MaskRobustClassifier(Branching(), 3)
    classifier.compile_training()
    with pytest.raises(ValueError, match=r"one graph of Branching, but cannot \(.+\); compute it without [^\n]*$"):
        classifier(draw()[0])


def test_batches_of_many_sizes_end_in_an_error_not_in_eager_steps(cheap_backend):
    classifier = build(head(3))
    classifier.compile_training()
    for batch_size in range(2, 10):
        classifier(draw(batch_size)[0])
    with pytest.raises(ValueError, match=r"one graph of Sequential, but cannot \(.*limit"):
        classifier(draw(10)[0])
