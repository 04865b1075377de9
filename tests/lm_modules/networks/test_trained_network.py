"""`TrainedNetwork`: what it predicts, for which classes, and from which view of a picture."""

import pytest
import torch
from torch import nn

from maskrobust.augment import apply_fill
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.methods import normalise
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

NAMES = ("ant", "bee", "cat", "dog", "eel")
IDS = tuple(f"n0000000{place}" for place in range(5))
SHOWN = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.25), (32, 32), 0.9)


def draw():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallResNet(5).eval()


def trained(network=None):
    return TrainedNetwork("five", network or draw(), SHOWN, 5, class_names=NAMES, wordnet_ids=IDS)


def question():
    images = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    visible = torch.ones(2, 1, 48, 48, dtype=torch.bool)
    visible[:, :, 10:30, 15:35] = False
    return images, visible, torch.arange(2)


@torch.no_grad()
def test_a_picture_is_brought_to_size_filled_and_normalised():
    images, visible, keys = question()
    shown, seen = SHOWN.view(images, visible)
    filled = apply_fill("mean", shown, seen, keys=keys, mean=SHOWN.mean)
    expected = draw()(normalise(filled, SHOWN.mean, SHOWN.std))
    torch.testing.assert_close(trained().predictor("mean")(images, visible, keys), expected)
    torch.testing.assert_close(trained()(images), draw()(normalise(SHOWN.resize(images), SHOWN.mean, SHOWN.std)))


@torch.no_grad()
@pytest.mark.parametrize("own", [None, "mean", "mirror"])
@pytest.mark.parametrize("method", ["layer_masking", "layer_masking_mirror"])
def test_hidden_pixels_cannot_matter_under_layer_masking(own, method):
    images, visible, keys = question()
    network = trained(LayerMasking(draw(), padding=own) if own else None)
    predict = network.predictor(method)
    torch.testing.assert_close(predict(images, visible, keys), trained().predictor(method)(images, visible, keys))
    redrawn = torch.where(visible, images, torch.nan)
    assert torch.equal(predict(images, visible, keys), predict(redrawn, visible, keys))
    extract = network.feature_extractor(method, "layer2")
    assert torch.equal(extract(images, visible, keys), extract(redrawn, visible, keys))


@torch.no_grad()
def test_the_datas_classes_come_first_and_the_others_after_them_or_not_at_all():
    images, visible, keys = question()
    network = trained()
    logits = network(images)
    some, only = network.select_outputs([3, 1]), network.select_outputs([3, 1], only=True)
    assert torch.equal(some(images), logits[:, [3, 1, 0, 2, 4]]) and torch.equal(only(images), logits[:, [3, 1]])
    assert some.class_names == ("dog", "bee", "ant", "cat", "eel") and only.wordnet_ids == (IDS[3], IDS[1])
    assert (some.num_classes, only.num_classes) == (5, 2)
    asked = network.predictor("black")(images, visible, keys)
    assert torch.equal(only.predictor("black")(images, visible, keys), asked[:, [3, 1]])
    again = only.select_outputs([0])
    assert again.class_names is not None and again.class_names[0] == "ant" and again.num_classes == 5


@pytest.mark.parametrize("outputs", [[1, 1], [5], [-1]])
def test_outputs_that_are_not_there_or_come_twice_are_refused(outputs):
    with pytest.raises(InputError, match="'five'"):
        trained().select_outputs(outputs)


def test_names_must_be_one_for_each_output():
    with pytest.raises(InputError, match="class_names"):
        TrainedNetwork("five", draw(), SHOWN, 5, class_names=NAMES[:4])


class Answering(nn.Module):
    """Returns what it is given."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _images):
        return self.answer


@pytest.mark.parametrize("answer", [torch.zeros(2, 6), torch.zeros(2, 4), torch.zeros(2), (torch.zeros(2, 5),)])
@pytest.mark.parametrize("answers", [None, [1, 0]])
def test_what_is_no_logit_for_each_output_is_refused(answer, answers):
    images, visible, keys = question()
    network = TrainedNetwork("five", Answering(answer), SHOWN, 5, answers=answers)
    with pytest.raises(InputError, match="'five' must return"):
        network(images)
    with pytest.raises(InputError, match="'five' must return"):
        network.predictor("black")(images, visible, keys)


@torch.no_grad()
def test_bf16_is_near_float32_and_gives_float32():
    images, visible, keys = question()
    network = trained()
    exact = network.predictor("black")(images, visible, keys)
    network.precision = "bf16"
    rough = network.select_outputs([0, 1, 2, 3, 4]).predictor("black")(images, visible, keys)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, atol=0.1, rtol=0.1)


class Transposed(nn.Module):
    """Layer masking has no rule for what it does."""

    def forward(self, images):
        return torch.fft.fft(images).real.mean(dim=(2, 3))


def test_a_network_that_layer_masking_cannot_read_is_asked_with_fills():
    images, visible, keys = question()
    network = TrainedNetwork("own", Transposed(), Preprocessing(), 3)
    assert network.predictor("black")(images, visible, keys).shape == (2, 3)
    with pytest.raises(UnsupportedNetworkError):
        network.predictor("layer_masking")
    with pytest.raises(InputError, match="linear"):
        network.feature_extractor("black")
