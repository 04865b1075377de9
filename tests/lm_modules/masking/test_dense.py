"""Networks that return maps: hidden pixels do not matter, and coverage says how much each position reads of others."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking
from tests.conftest import require_component
from tests.lm_modules.masking.cases import draw_visible, tensors_of
from tests.lm_modules.masking.dense_networks import DENSE_NETWORKS, SmallUNet, bilinear, transposed

HEIGHT, WIDTH = 64, 96


def holes():
    """A corner; the rim below and a bar across."""
    visible = torch.ones(2, 1, HEIGHT, WIDTH, dtype=torch.bool)
    visible[0, :, :20, :30] = False
    visible[1, :, 50:] = False
    visible[1, :, 10:16, 10:50] = False
    return visible


def draw_images(size=(HEIGHT, WIDTH), batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", DENSE_NETWORKS)
def test_a_network_that_returns_maps_is_masked(name):
    images, visible, network = draw_images(), holes(), DENSE_NETWORKS[name]().eval()
    masked, redrawn = LayerMasking(network), torch.where(visible, images, float("nan"))
    watched = images.clone().requires_grad_()
    with torch.no_grad():
        outputs, others = tensors_of(masked(images, visible)), tensors_of(masked(redrawn, visible))
        plain, whole = tensors_of(network(images)), tensors_of(masked(images, torch.ones_like(visible)))
        spoilt = tensors_of(network(redrawn))
    sum(output.square().sum() for output in tensors_of(masked(watched, visible))).backward()
    coverages = tensors_of(masked.coverage(visible))

    assert all(map(torch.equal, others, outputs)) and all(map(torch.equal, whole, plain))
    assert watched.grad is not None and not watched.grad.masked_select(~visible).any() and watched.grad.any()
    for output, coverage, reached in zip(outputs, coverages, spoilt, strict=True):
        assert coverage.shape == (2, 1, *output.shape[2:]) and ((coverage >= 0) & (coverage <= 1)).all()
        # NaN in the hole of the plain network reaches all that reads the hole.
        assert torch.equal(coverage == 1, reached.isfinite().all(dim=1, keepdim=True))
        assert not output.masked_select(coverage == 0).any() and output.isfinite().all()


@pytest.mark.parametrize(("enlarge", "hidden"), [(transposed, (0, 0)), (bilinear, (5, 13))])
def test_coverage_is_one_exactly_where_no_hidden_pixel_has_a_gradient(enlarge, hidden):
    network = SmallUNet(enlarge, pool=nn.AvgPool2d(2)).double().eval()
    for name, module in [*network.named_modules()]:
        if isinstance(module, nn.ReLU):  # which has no gradient where it is 0
            network.set_submodule(name, nn.Softplus())
    visible = torch.ones(1, 1, 12, 36, dtype=torch.bool)
    visible[..., hidden[0], hidden[1]] = False
    images = draw_images((12, 36), batch=1).double().requires_grad_()
    total = network(images).sum(dim=1)
    gradients = [torch.autograd.grad(each, images, retain_graph=True)[0] for each in total.flatten()]
    reads_hidden = torch.stack([gradient.masked_select(~visible).any() for gradient in gradients])
    coverage = LayerMasking(network).coverage(visible)
    assert torch.equal(coverage.flatten() == 1, ~reads_hidden)
    assert (coverage == 1).any() and (coverage < 1).any()


def test_a_norm_without_running_statistics_reads_all_images_of_the_batch():
    masked = LayerMasking(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval())
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert (masked.coverage(visible) == 1).all()
    visible[0, :, :2] = False
    coverage = masked.coverage(visible)
    assert (coverage[1] < 1).all() and ((coverage > 0) == visible).all()


def test_the_coverage_of_a_window_is_the_visible_fraction_of_the_pixels_under_it():
    visible = draw_visible(9, 7)
    network = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2, padding=2, dilation=2), nn.MaxPool2d(2, ceil_mode=True))
    coverage = LayerMasking(network.eval()).coverage(visible)

    def mean_under(numbers, inside, kernel, **options):
        covered, counted = (F.unfold(each, kernel, **options).sum(dim=1) for each in (numbers, inside))
        return covered / counted

    dilated = mean_under(visible.float(), torch.ones(6, 1, 9, 7), 3, stride=2, padding=2, dilation=2).view(6, 1, 5, 4)
    below = (0, 0, 0, 1)  # the last window of the pool runs over the end
    expected = mean_under(F.pad(dilated, below), F.pad(torch.ones(6, 1, 5, 4), below), 2, stride=2).view(6, 1, 3, 2)
    torch.testing.assert_close(coverage, expected)
    with torch.autocast("cpu", torch.bfloat16):  # in which fractions would be too coarse
        assert torch.equal(LayerMasking(network).coverage(visible), coverage)
    assert (coverage[3] == 0).all() and (coverage[4] == 1).all()


def test_one_hidden_pixel_of_a_large_field_is_not_lost_to_rounding():
    layers = [nn.Conv2d(1, 1, 3, padding=1) for _ in range(40)]
    visible = torch.ones(1, 1, 3, 120, dtype=torch.bool)
    visible[..., 0] = False
    visible[..., 0, 0] = False
    coverage = LayerMasking(nn.Sequential(*layers)).coverage(visible)
    assert torch.equal(coverage[0, 0, 1] == 1, torch.arange(120) > 40)
    almost_all = ~visible
    coverage = LayerMasking(nn.Sequential(*layers)).coverage(almost_all)
    assert torch.equal(coverage[0, 0, 1] == 0, torch.arange(120) > 40)


def test_what_reads_the_whole_image_is_covered_as_the_image_is():
    visible = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    visible[0, :, :2] = False
    classifier = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 5))
    assert LayerMasking(classifier).coverage(visible).flatten().tolist() == [0.5, 1.0]


def test_nan_at_a_visible_pixel_is_refused_naming_the_image():
    images, visible = draw_images(), holes()
    images[1, 0, 30, 30] = torch.nan
    for shown in (visible, torch.ones_like(visible)):
        with pytest.raises(InputError, match=r"NaN at a visible pixel of image 1 .* visible_from"):
            LayerMasking(SmallUNet(bilinear).eval())(images, shown)


def test_a_network_of_hugging_face_is_masked_and_returns_what_it_returns(monkeypatch):
    """In a folder of their own: torchmetrics imports transformers, for seconds, wherever it is installed."""
    folder = Path(sys.prefix) / "transformers"
    require_component(folder / "transformers", f"{sys.executable} -m pip install --target {folder} 'transformers>=5'")
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    import transformers

    config = transformers.ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[1, 1])
    network = transformers.ConvNextForImageClassification(config).eval()
    images, visible = draw_images(), holes()
    visible[1] = True
    with torch.no_grad():
        output = LayerMasking(network)(images, visible)
        redrawn = LayerMasking(network)(torch.where(visible, images, torch.nan), visible)
        plain = network(images)
    assert type(output) is type(plain) and type(output.logits) is Tensor
    assert torch.equal(output.logits, redrawn.logits)
    torch.testing.assert_close(output.logits[1], plain.logits[1])
    assert not torch.allclose(output.logits[0], plain.logits[0])
