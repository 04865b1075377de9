"""What a user is told of a first mistake with layer masking, and what is taken although it may be one."""

import warnings

import pytest
import torch
from torch import nn

from maskrobust import LayerMasking, apply_fill, predictor, visible_from
from maskrobust.errors import InputError


class Small(nn.Sequential):
    """A classifier of three channels and four classes."""

    def __init__(self):
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), pool)


def drawn(channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, 12, 12, generator=generator).to(dtype)
    return images, torch.rand(2, 1, 12, 12, generator=generator) < 0.6


MISTAKES = {
    "None": (lambda: LayerMasking(None), r"network must be a torch\.nn\.Module, got NoneType"),
    "a name": (lambda: LayerMasking("resnet18"), r"network must be a torch\.nn\.Module, got str"),
    "a class": (lambda: LayerMasking(Small), r"network must be a torch\.nn\.Module, got the class Small"),
    "bytes": (
        lambda: LayerMasking(Small())(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), drawn()[1]),
        r"images must be floating point.*, got torch\.uint8; divide by 255 and normalise\.$",
    ),
    "integers, everything visible": (
        lambda: LayerMasking(Small().eval())(
            torch.zeros(2, 3, 12, 12, dtype=torch.int64), torch.ones(2, 1, 12, 12) > 0
        ),
        r"images must be floating point.*, got torch\.int64; divide by 255 and normalise\.$",
    ),
    "half": (
        lambda: LayerMasking(Small())(*drawn(dtype=torch.float16)),
        r"images must have the dtype of the network's weights, torch\.float32, got torch\.float16; convert them",
    ),
    "double without a mask": (
        lambda: LayerMasking(Small().eval())(drawn(dtype=torch.float64)[0]),
        r"images must have the dtype of the network's weights, torch\.float32, got torch\.float64; convert them",
    ),
    "grey": (
        lambda: LayerMasking(Small())(*drawn(1)),
        r"images must have the 3 channels of the network's first convolution, got 1; repeat grey",
    ),
    "four bands": (
        lambda: LayerMasking(Small().eval())(*drawn(4)),
        r"images must have the 3 channels of the network's first convolution, got 4",
    ),
    "NumPy": (
        lambda: LayerMasking(Small())(drawn()[0].numpy(), drawn()[1]),
        r"images must be a torch tensor, got numpy",
    ),
    "a list": (
        lambda: LayerMasking(Small())(drawn()[0], [[True]]),
        r"visible must be a torch tensor, got builtins\.list",
    ),
    "padding": (
        lambda: LayerMasking(Small(), padding="mirrored"),
        r"padding must be one of mean, mirror, zeros, got 'mirrored'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(name):
    make, sentence = MISTAKES[name]
    with pytest.raises((TypeError, InputError), match=f"^{sentence}") as caught:
        make()
    assert str(caught.value).count("\n") == 0 and "; " in str(caught.value)


def test_another_dtype_than_the_weights_is_right_where_autocast_or_the_network_sees_to_it():
    class Casting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Small().double()

        def forward(self, images):
            return self.inner(images.to(torch.float64))

    images, visible = drawn()
    assert LayerMasking(Casting())(images, visible).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert LayerMasking(Small())(images.bfloat16(), visible).isfinite().all()


@pytest.mark.parametrize("sizes", [None, torch.tensor([(6, 12), (6, 12)])])
def test_images_that_are_all_too_small_are_told_in_one_sentence_with_the_error_of_torch(sizes):
    masked = LayerMasking(nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReflectionPad2d(3), nn.Conv2d(4, 4, 7)).eval())
    images, visible = drawn()
    with pytest.raises(InputError, match=r"^Sequential takes images of 224 x 224 pixels, but none of 6 x 12 \(.*\); r"):
        masked(
            images if sizes is not None else images[:, :, :6],
            visible if sizes is not None else visible[:, :, :6],
            sizes=sizes,
        )


def test_an_error_of_the_network_itself_stays_what_it_is():
    class Failing(Small):
        def forward(self, images):
            if images.shape[0] == 2:
                raise RuntimeError("the network's own")
            return super().forward(images)

    with pytest.raises((RuntimeError, InputError), match="the network's own"):
        LayerMasking(Failing())(*drawn())


def test_bytes_as_floats_are_warned_of_where_they_are_visible():
    """They are not refused: some networks take such numbers."""
    images, visible = drawn()
    masked = LayerMasking(Small().eval())
    with pytest.warns(UserWarning, match=r"images should be normalised .*, got a pixel of .*; divide bytes by 255"):
        masked(80 * images, visible)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked(3 * images, visible)
        masked(torch.where(visible, images, 255.0), visible)
        masked(torch.where(visible, images, torch.nan), visible)


def test_a_mask_that_hides_every_pixel_is_a_question_everywhere_but_not_where_it_is_made_of_data():
    """It is the last point of a curve, and the empty coalition of SHAP: the answer is finite, and that of no image."""
    images, _ = drawn()
    images = images.sigmoid()
    nothing, keys = torch.zeros(2, 1, 12, 12, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    mean, network = (0.5, 0.5, 0.5), Small().eval()
    answers = {
        "LayerMasking": LayerMasking(network)(images, nothing),
        "fill": apply_fill("mean", images, nothing, keys=keys, mean=mean),
        "predictor": predictor(network, "black", mean, mean)(images, nothing, keys),
        "masked predictor": predictor(LayerMasking(network), "layer_masking", mean, mean)(images, nothing, keys),
    }
    for name, answer in answers.items():
        assert answer.isfinite().all() and torch.equal(answer[0], answer[1]), name
    with pytest.raises(InputError, match="image 0 of the batch has no visible pixel"):
        visible_from(images, padding_mask=~nothing)
