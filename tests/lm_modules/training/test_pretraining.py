"""`MaskedPretraining`: its loss and gradients, what reaches them, and which maps it takes."""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskrobust.augment import Batch, build_family, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network, build_outline
from maskrobust.lm_modules.networks.maps import map_layers
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.reconstruction import patch_normalised, reconstruction_loss
from tests.conftest import refused
from tests.lm_modules.masking.networks import seeded


def draw_batch(*size, count=3, seed=0, channels=3):
    size = size or (32, 40)
    images = torch.rand(count, channels, *size, generator=torch.Generator().manual_seed(seed))
    object_mask = torch.zeros(count, 1, *size, dtype=torch.bool)
    return Batch(torch.arange(count) + 5, images, object_mask, torch.full((count,), -1))


def build(architecture="small_resnet", **options):
    given = {"patch_size": 8, "decoder_width": 8, "hidden_fraction": (0.5, 0.5), **options}
    return seeded(lambda: MaskedPretraining(architecture, 2, **given))


class Pyramid(nn.Module):
    """A network that returns maps, and has a module whose maps nobody is given."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(inplace=True))
        self.deep = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.beside = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, images):
        fine = self.stem(images)
        side = self.beside(fine)
        return {"fine": fine, "side": side, "deep": self.deep(fine)}


def two_strides(axes):
    """A network of signals or volumes of one channel, with maps of strides 4 and 8."""
    convolution, norm = getattr(nn, f"Conv{axes}d"), getattr(nn, f"BatchNorm{axes}d")
    fine = nn.Sequential(convolution(1, 6, 4, 4), norm(6), nn.ReLU())
    return nn.Sequential(fine, nn.Sequential(convolution(6, 8, 3, 2, 1), nn.ReLU()))


def expected_losses(module, batch, visible):
    """The loss of each image, pixel by pixel, in the dtype of the module."""
    size, lengths = module.hparams["patch_size"], batch.images.shape[2:]
    mean, std = (
        torch.tensor(each, dtype=batch.images.dtype).reshape(-1, *[1] * len(lengths))
        for each in (module.mean, module.std)
    )
    prediction = expected_prediction(module, (batch.images - mean) / std, visible)
    losses = []
    for image, seen, drawn in zip((batch.images - mean) / std, visible[:, 0], prediction, strict=True):
        errors = []
        for place in (~seen).nonzero().tolist():
            corner = [at // size * size for at in place]
            patch = image[(slice(None), *(slice(at, at + size) for at in corner))]
            here = (slice(None), *place)
            target = (image[here] - patch.mean()) / (patch.var(correction=0) + 1e-6).sqrt()
            errors.append((drawn[here] - target).square().mean())
        losses.append(torch.stack(errors).mean())
    assert any(length % size for length in lengths)  # patches are cut off at the edge
    return torch.stack(losses)


def expected_prediction(module, normalised, visible):
    """What the decoder draws, written out, from maps that layer masking gives one by one."""
    weights = dict(module.decoder.named_parameters())
    strides, deeper = sorted(module.maps.channels), None
    axes = normalised.ndim - 2
    convolve = getattr(F, f"conv{axes}d")
    for number, path in reversed([*enumerate(module.maps.paths)]):
        found = module.network.output_of(path, normalised, visible)
        features, shown = found.as_plain(), found.visible.positions.to(normalised.dtype)
        here = convolve(features, weights[f"projections.{number}.weight"], weights[f"projections.{number}.bias"])
        here = here * shown + weights[f"tokens.{number}"].reshape(1, -1, *[1] * axes) * (1 - shown)
        if deeper is not None:
            for axis in range(2, here.ndim):
                deeper = deeper.index_select(axis, torch.arange(here.shape[axis]) // 2)
            here = here + deeper
        for layer in (0, 3, 6):
            here = convolve(here, weights[f"stages.{number}.{layer}.weight"], padding=1)
            groups = here.unflatten(1, (8, -1))
            over = tuple(range(2, groups.ndim))
            variance, centre = torch.var_mean(groups, dim=over, correction=0, keepdim=True)
            here = ((groups - centre) / (variance + 1e-5).sqrt()).flatten(1, 2)
            scale, shift = (
                weights[f"stages.{number}.{layer + 1}.{each}"].reshape(-1, *[1] * axes) for each in ("weight", "bias")
            )
            here = (here * scale + shift).clamp(min=0)
        deeper = here
    side = strides[0]
    blocks = convolve(deeper, weights["pixels.weight"], weights["pixels.bias"]).unflatten(1, (-1, *[side] * axes))
    drawn = blocks.new_zeros(*blocks.shape[:2], *(side * length for length in deeper.shape[2:]))
    for place in product(range(side), repeat=axes):
        drawn[(slice(None), slice(None), *(slice(at, None, side) for at in place))] = blocks[:, :, *place]
    return drawn


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_loss_and_gradients_are_those_of_a_plain_reference(axes):
    if axes == 2:
        module, batch = build(patch_size=12).double(), draw_batch()
    else:
        module = build(two_strides(axes), patch_size=12, mean=(0.4,), std=(0.3,)).double()
        batch = draw_batch(*(16, 16, 28)[-axes:], channels=1)
    batch = batch._replace(images=batch.images.double())
    with torch.no_grad():  # away from 0 and 1, where nothing would tell them apart
        for name, parameter in module.decoder.named_parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.3)
    family = build_family("patches", hidden_fraction=(0.5, 0.5), patch_size=12 if axes == 2 else 5)
    visible = family(sample_keys(1, batch.ids), batch)
    targets, _, _ = patch_normalised(module._normalise(batch.images), batch.known, 12)
    prediction = module(batch.images, visible)
    parameters = [each for each in module.parameters() if each.requires_grad]
    squares = (prediction - targets).square().mean(dim=1).where(~visible[:, 0], 0)
    found = squares.flatten(1).sum(1) / (~visible).flatten(1).sum(1)
    torch.testing.assert_close(reconstruction_loss(prediction, targets, ~visible), found.float())
    expected = expected_losses(module, batch, visible)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    gradients, wanted = (torch.autograd.grad(each.mean(), parameters) for each in (found, expected))
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)


def test_pixels_without_data_count_neither_in_targets_nor_in_the_loss():
    images = draw_batch(16, 16).images
    known = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    known[:, :, :, 5:] = False
    redrawn = torch.where(known, images, torch.nan)
    hidden = known & (torch.arange(16) < 3)
    losses = [
        reconstruction_loss(torch.zeros_like(images), patch_normalised(each, known, 8)[0], hidden)
        for each in (images, redrawn)
    ]
    assert torch.equal(*losses) and (losses[0] > 0).all()
    patch = images[0, :, :8, :5]
    expected = (images[0, :, :8, :3] - patch.mean()) / patch.std(correction=0)
    torch.testing.assert_close(patch_normalised(redrawn, known, 8)[0][0, :, :8, :3], expected, rtol=1e-3, atol=1e-4)
    nothing = torch.zeros_like(known)
    assert torch.equal(reconstruction_loss(images, images + 1, nothing), torch.zeros(3))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padding", ["mean", "mirror", "zeros"])
def test_hidden_pixels_change_no_bit_of_the_maps_and_the_prediction(padding, training):
    module, batch = build(layer_masking={"padding": padding}).train(training), draw_batch()
    visible = module._draw_visible(batch)
    redrawn = torch.where(visible, batch.images, draw_batch(seed=1).images)
    before, after = (module.encode(each, visible) for each in (batch.images, redrawn))
    assert all(
        torch.equal(*pair) for one, other in zip(before, after, strict=True) for pair in zip(one, other, strict=True)
    )
    assert torch.equal(module(batch.images, visible), module(redrawn, visible))
    losses = [module._losses(batch._replace(images=each), visible) for each in (batch.images, redrawn)]
    assert not torch.equal(*losses)  # through the targets


def test_whole_images_are_embedded_as_the_mean_of_the_deepest_map():
    module, batch = build().eval(), draw_batch()
    features, shown = module.encode(batch.images, batch.known)[-1]
    assert shown.all() and shown.shape == (3, 1, *features.shape[2:])
    torch.testing.assert_close(module.embed(batch.images, batch.known), features.mean((2, 3)))


@pytest.mark.parametrize(
    "architecture",
    [
        "small_resnet",
        "timm/test_convnext",
        Pyramid,
    ],
    ids=["small_resnet", "convnext", "own maps"],
)
def test_the_gradient_reaches_what_the_maps_depend_on_and_all_else_is_frozen(architecture):
    if callable(architecture):
        architecture = architecture()
    module, batch = build(architecture), draw_batch(64, 64)
    with torch.no_grad():
        for parameter in module.parameters():  # blocks may begin as the identity, whose gradient is 0
            parameter.copy_(parameter if parameter.any() else torch.full_like(parameter, 0.5))
    module._losses(batch, module._draw_visible(batch)).mean().backward()
    named = [(name, each) for name, each in module.named_parameters() if each.grad is not None]
    reached = {name for name, each in named if each.grad.any() or "tokens" in name}  # deep maps may be all visible
    trained = {name for name, each in module.named_parameters() if each.requires_grad}
    assert reached == trained
    unused = {name.removeprefix("network.") for name, _ in module.named_parameters() if name not in trained}
    assert all(name.startswith(("fc.", "head.", "classifier.", "beside.")) for name in unused)
    assert unused or not hasattr(module.network.network, "fc")


def test_maps_are_those_of_the_last_stage_of_each_stride_or_those_that_are_named():
    stages = {4: 64, 8: 128, 16: 256, 32: 512}
    found = map_layers(build_outline("resnet18", 5))
    assert (found.paths, found.channels) == (("layer1", "layer2", "layer3", "layer4"), stages)
    assert not any(name.startswith("fc") for name in found.parameters)
    mobile = map_layers(build_outline("timm/test_efficientnet", 5))
    assert all("." not in path or path.count(".") == 1 for path in mobile.paths)  # blocks, not their expansions
    named = map_layers(build_network("small_resnet", 5), ["layer3", "layer1.0.conv2"])
    assert named.paths == ("layer1.0.conv2", "layer3") and named.channels == {2: 16, 8: 64}
    assert {"layer1.0.conv1.weight", "layer2.0.conv1.weight"} <= named.parameters


@pytest.mark.parametrize("layers", [["layer9"], ["fc"], ["avgpool"], ["layer3.0", "layer3"]])
def test_layers_that_give_no_maps_are_refused_by_name(layers):
    with refused(InputError, match=f"got '{layers[0]}'; choose"):
        map_layers(build_network("small_resnet", 5), layers)
    with pytest.raises(InputError, match="got no such module"):
        map_layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)))
    with pytest.raises(InputError, match=r"must take images \(B, 1, D, H, W\), but does not"):
        map_layers(nn.Sequential(nn.Conv3d(1, 4, 4, 4), nn.Flatten(), nn.Linear(3, 4)))


def test_images_that_the_finest_map_does_not_cover_are_refused():
    module, batch = build(nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())), draw_batch(33, 32)
    with refused(InputError, match=r"\(32, 32\), got \(33, 32\); resize"):
        module(batch.images, torch.ones_like(batch.object_mask))


def test_a_reconstruction_leaves_visible_pixels_as_they_are_and_lies_in_the_unit_range():
    module, batch = build().eval(), draw_batch()
    visible, drawn = module.reconstruct(batch)
    assert torch.equal(drawn.where(visible, 0), batch.images.where(visible, 0))
    assert (~visible).any() and drawn.min() >= 0 and drawn.max() <= 1
    targets, mean, deviation = patch_normalised(module._normalise(batch.images), batch.known, 8)
    torch.testing.assert_close(targets * deviation + mean, module._normalise(batch.images))
    redrawn = batch._replace(images=torch.where(visible, batch.images, drawn))
    assert not torch.equal(redrawn.images, batch.images)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"architecture": build_network("small_resnet", 2), "mean": (0.5,), "std": (0.5,)},
            "a value for each of the 3 channels of the network's images",
        ),
        ({"decoder_width": 12}, "decoder_width must be a multiple of 8"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be above 0"),
        ({"layer_masking": {"padding": "black"}}, "padding must be one of mean, mirror"),
    ],
)
def test_arguments_out_of_range_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        build(**options)
