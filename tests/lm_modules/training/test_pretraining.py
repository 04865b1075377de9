"""`MaskedPretraining`: its loss and gradients, what reaches them, and which maps it takes."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from maskrobust.augment import Batch, patches, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network, build_outline
from maskrobust.lm_modules.networks.maps import map_layers
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.reconstruction import patch_normalised, reconstruction_loss
from tests.conftest import assert_one_sentence


def draw_batch(height=32, width=40, count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, height, width, generator=generator)
    object_mask = torch.zeros(count, 1, height, width, dtype=torch.bool)
    return Batch(torch.arange(count) + 5, images, object_mask, torch.full((count,), -1))


def build(architecture="small_resnet", **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        defaults = {"patch_size": 8, "decoder_width": 8, "hidden_fraction": (0.5, 0.5)}
        return MaskedPretraining(architecture, 2, **{**defaults, **options})


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


def expected_losses(module, batch, visible):
    """The loss of each image, pixel by pixel, in the dtype of the module."""
    size, (height, width) = module.hparams["patch_size"], batch.images.shape[2:]
    mean, std = (torch.tensor(each, dtype=batch.images.dtype)[:, None, None] for each in (module.mean, module.std))
    prediction = expected_prediction(module, (batch.images - mean) / std, visible)
    losses = []
    for image, seen, drawn in zip((batch.images - mean) / std, visible[:, 0], prediction, strict=True):
        errors = []
        for y, x in (~seen).nonzero().tolist():
            top, left = y // size * size, x // size * size
            patch = image[:, top : top + size, left : left + size]
            target = (image[:, y, x] - patch.mean()) / (patch.var(correction=0) + 1e-6).sqrt()
            errors.append((drawn[:, y, x] - target).square().mean())
        losses.append(torch.stack(errors).mean())
    assert (height % size, width % size) != (0, 0)  # patches are cut off at the edge
    return torch.stack(losses)


def expected_prediction(module, normalised, visible):
    """What the decoder draws, written out, from maps that layer masking gives one by one."""
    weights = dict(module.decoder.named_parameters())
    strides, deeper = sorted(module.maps.channels), None
    for number, path in reversed([*enumerate(module.maps.paths)]):
        found = module.network.output_of(path, normalised, visible)
        features, shown = found.as_plain(), found.visible.positions.to(normalised.dtype)
        here = F.conv2d(features, weights[f"projections.{number}.weight"], weights[f"projections.{number}.bias"])
        here = here * shown + weights[f"tokens.{number}"].reshape(1, -1, 1, 1) * (1 - shown)
        if deeper is not None:
            rows, columns = (torch.arange(side) // 2 for side in here.shape[2:])
            here = here + deeper[:, :, rows][..., columns]
        for layer in (0, 3, 6):
            here = F.conv2d(here, weights[f"stages.{number}.{layer}.weight"], padding=1)
            groups = here.unflatten(1, (8, -1))
            variance, centre = torch.var_mean(groups, dim=(2, 3, 4), correction=0, keepdim=True)
            here = ((groups - centre) / (variance + 1e-5).sqrt()).flatten(1, 2)
            norm = f"stages.{number}.{layer + 1}"
            here = here * weights[f"{norm}.weight"][:, None, None] + weights[f"{norm}.bias"][:, None, None]
            here = here.clamp(min=0)
        deeper = here
    drawn = F.conv2d(deeper, weights["pixels.weight"], weights["pixels.bias"]).unflatten(1, (3, strides[0], strides[0]))
    return drawn.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


def test_loss_and_gradients_are_those_of_a_plain_reference():
    module, batch = build(patch_size=12).double(), draw_batch()
    batch = batch._replace(images=batch.images.double())
    with torch.no_grad():  # away from 0 and 1, where nothing would tell them apart
        for name, parameter in module.decoder.named_parameters():
            parameter.add_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name))), alpha=0.3)
    visible = patches(sample_keys(1, batch.ids), 32, 40, hidden_fraction=(0.5, 0.5), patch_size=12)
    targets, _, _ = patch_normalised(module._normalise(batch.images), batch.known, 12)
    prediction = module(batch.images, visible)
    parameters = [each for each in module.parameters() if each.requires_grad]
    found = (prediction - targets).square().mean(dim=1).where(~visible[:, 0], 0).sum((1, 2)) / (~visible).sum((1, 2, 3))
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
    visible = module._draw_visible(batch, module._keys(batch, 3))
    redrawn = torch.where(visible, batch.images, draw_batch(seed=1).images)
    before, after = (module.encode(each, visible) for each in (batch.images, redrawn))
    assert all(
        torch.equal(*pair) for one, other in zip(before, after, strict=True) for pair in zip(one, other, strict=True)
    )
    assert torch.equal(module(batch.images, visible), module(redrawn, visible))
    losses = [module._losses(batch._replace(images=each), module._keys(batch, 3)) for each in (batch.images, redrawn)]
    assert not torch.equal(*losses)  # through the targets


@pytest.mark.parametrize(
    "architecture",
    [
        "small_resnet",
        "timm/test_convnext",
        "timm/test_efficientnet",
        lambda: timm.create_model("test_resnet", features_only=True),
        Pyramid,
    ],
    ids=["small_resnet", "convnext", "efficientnet", "features_only", "own maps"],
)
def test_the_gradient_reaches_what_the_maps_depend_on_and_all_else_is_frozen(architecture):
    if callable(architecture):
        architecture = architecture()
    module, batch = build(architecture), draw_batch(64, 64)
    with torch.no_grad():
        for parameter in module.parameters():  # blocks may begin as the identity, whose gradient is 0
            parameter.copy_(parameter if parameter.any() else torch.full_like(parameter, 0.5))
    module._losses(batch, module._keys(batch, 0)).mean().backward()
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
    with pytest.raises(InputError, match=f"got '{layers[0]}'; choose") as refusal:
        map_layers(build_network("small_resnet", 5), layers)
    assert_one_sentence(refusal)
    with pytest.raises(InputError, match="got no such module"):
        map_layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1)))


def test_images_that_the_finest_map_does_not_cover_are_refused():
    module, batch = build(nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU())), draw_batch(33, 32)
    with pytest.raises(InputError, match=r"\(32, 32\), got \(33, 32\); resize") as refusal:
        module(batch.images, torch.ones_like(batch.object_mask))
    assert_one_sentence(refusal)


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
        ({"decoder_width": 12}, "decoder_width must be a multiple of 8"),
        ({"hidden_fraction": (0.9, 0.1)}, "hidden_fraction"),
        ({"std": (0.0, 1.0, 1.0)}, "std must be above 0"),
        ({"layer_masking": {"padding": "black"}}, "layer_masking.padding must be one of mean, mirror"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        build(**options)
