"""Reading a network: what is read is what the network does."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from maskrobust.lm_modules.masking import LayerMasking, Masked
from maskrobust.lm_modules.masking.rules import normalisation
from tests.lm_modules.masking.cases import MEMORY_FORMATS
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise


class Twice(nn.Module):
    """One convolution used twice, and one batch norm of which two layers share the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.conv = nn.Conv2d(16, 16, 3, 1, 1)
        self.bn1, self.bn2 = nn.BatchNorm2d(16), nn.BatchNorm2d(16)
        self.bn2.weight = self.bn1.weight
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.bn2(self.conv(F.relu(self.bn1(self.conv(x)))))
        return self.fc(self.pool(x).flatten(1))


class DropsOut(nn.Module):
    """What it computes depends on the mode at the time it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.stem(x), p=0.5, training=self.training)
        x = x + 1 if self.training else x
        return self.fc(torch.flatten(self.pool(x), 1))


def test_wrapping_leaves_the_network_and_its_modes_as_they_are() -> None:
    network = build("small_resnet").train()
    network.layer1.eval()
    network.fc.weight.requires_grad_(False)
    modes = {name: module.training for name, module in network.named_modules()}
    forward, parameters = network.forward, list(network.parameters())
    masked = LayerMasking(network)
    assert masked.network is network and masked.training
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert network.forward == forward
    assert all(kept is given for kept, given in zip(masked.parameters(), parameters, strict=True))
    assert not network.fc.weight.requires_grad
    assert not LayerMasking(build("small_resnet")).training


def test_each_mode_runs_what_the_network_does_in_it() -> None:
    masked, images, visible = LayerMasking(DropsOut()), draw_images(), holes()
    assert torch.equal(masked.eval()(images, visible), masked(images, visible))
    everything = torch.ones_like(visible)
    assert torch.equal(masked(images, everything), masked.network(images))
    assert not torch.equal(masked.train()(images, visible), masked(images, visible))
    torch.manual_seed(0)
    logits = masked(images, everything)
    torch.manual_seed(0)
    torch.testing.assert_close(logits, masked.network(images))


def test_a_reused_module_and_shared_weights_are_read_as_they_are() -> None:
    network, images, visible = Twice().eval(), draw_images(), holes()
    masked = LayerMasking(network)
    assert torch.equal(masked(images, torch.ones_like(visible)), network(images))
    assert list(masked.state_dict()) == list(network.state_dict())
    unrolled = Twice().eval()
    unrolled.load_state_dict(network.state_dict())
    unrolled.conv_again = nn.Conv2d(16, 16, 3, 1, 1)
    unrolled.conv_again.load_state_dict(network.conv.state_dict())
    unrolled.bn2.weight = nn.Parameter(network.bn1.weight.clone())
    layers = [unrolled.stem, unrolled.conv, unrolled.bn1, nn.ReLU(), unrolled.conv_again, unrolled.bn2]
    sequence = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), unrolled.fc).eval()
    assert torch.equal(masked(images, visible), LayerMasking(sequence)(images, visible))
    masked(images, visible).sum().backward()
    LayerMasking(sequence)(images, visible).sum().backward()
    torch.testing.assert_close(network.conv.weight.grad, unrolled.conv.weight.grad + unrolled.conv_again.weight.grad)
    torch.testing.assert_close(network.bn1.weight.grad, unrolled.bn1.weight.grad + unrolled.bn2.weight.grad)


def test_layers_replaced_after_wrapping_take_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    true_norm = normalisation.masked_batch_norm
    monkeypatch.setattr(
        normalisation, "masked_batch_norm", lambda module, *rest: seen.append(module) or true_norm(module, *rest)
    )
    images, visible = draw_images(), holes()
    expected = LayerMasking(build("small_resnet")).train()(images, visible)
    assert seen == []
    masked = nn.SyncBatchNorm.convert_sync_batchnorm(LayerMasking(build("small_resnet")).train())
    logits = masked(images, visible)
    assert len(seen) == sum(isinstance(module, nn.SyncBatchNorm) for module in masked.modules()) > 5
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


class ReadsConvolutionTwice(nn.Module):
    """A convolution's result goes to a batch norm and past it; another one's to a batch norm alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (randomise(nn.BatchNorm2d(8)) for _ in range(3))
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.bn3(x + self.bn2(self.conv(F.relu(self.bn1(x)))))
        return self.fc(self.pool(x).flatten(1))


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_a_batch_norm_is_folded_into_a_convolution_that_nothing_else_reads(memory_format: torch.memory_format) -> None:
    network = ReadsConvolutionTwice().eval().to(memory_format=memory_format)
    masked, images, visible = LayerMasking(network, engine="dense"), draw_images(size=32), holes(32)
    assert {folding.step.layer for folding in masked.read().folded.values()} == {"bn2"}
    kept = []
    for _ in range(2):
        expected = masked(images, visible)
        with torch.no_grad():
            torch.testing.assert_close(masked(images, visible), expected, rtol=1e-5, atol=1e-5)
        network.conv.weight.data.mul_(2)  # unseen by the tensor's version
    expected = masked(images, visible)
    with torch.no_grad():
        network.conv.register_forward_hook(lambda _module, _inputs, output: kept.append((output, output.clone())))
        torch.testing.assert_close(masked(images, visible), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(*outputs) for outputs in kept) and len(kept) == 1


def plain_output(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    outputs = []
    with network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: outputs.append(output.clone())):
        network(images)
    return outputs[-1]


@pytest.mark.parametrize("layer", ["stem", "conv", "bn2"])
@torch.no_grad()
def test_the_output_of_a_layer_used_twice_is_that_of_its_last_use(layer) -> None:
    network, images = Twice().eval(), draw_images()
    masked = LayerMasking(network).output_of(layer, images, torch.ones_like(holes()))
    torch.testing.assert_close(masked.features, plain_output(network, layer, images))


@pytest.mark.parametrize("name", ["basic_resnet", "dilated"])
@torch.no_grad()
def test_any_module_is_read_whether_or_not_it_holds_others(name) -> None:
    network, images = build(name), draw_images()
    masked, everything = LayerMasking(network), torch.ones_like(holes())
    for layer in ("conv1", "layer1", "layer2.0", "layer2.0.downsample", "layer4", "avgpool", "fc"):
        output = masked.output_of(layer, images, everything)
        features = output.features if isinstance(output, Masked) else output
        torch.testing.assert_close(features, plain_output(network, layer, images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_output_of_the_head_is_the_prediction() -> None:
    masked = LayerMasking(build("small_resnet"), engine="dense")
    logits = masked(draw_images(), holes())
    torch.testing.assert_close(masked.output_of("fc", draw_images(), holes()), logits, rtol=1e-5, atol=1e-5)


def test_the_output_of_what_is_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'layer9'; name another"):
        LayerMasking(build("small_resnet")).output_of("layer9", draw_images(), holes())


class Binary(nn.Conv2d):
    """Computes with the signs of its weight."""

    def _conv_forward(self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(input, weight.sign(), bias)


def spectral(network: nn.Sequential) -> None:
    parametrizations.spectral_norm(network[0])


def weight_as_attribute(network: nn.Sequential) -> None:
    weight = network[0].weight.detach() + 1
    del network[0].weight
    network[0].weight = weight


def forward_of_its_own(network: nn.Sequential) -> None:
    first, plain = network[0], network[0].forward
    first.forward = lambda x: plain(x) * 2


def compiled(network: nn.Sequential) -> None:
    network[0].compile(backend="eager")


@pytest.mark.parametrize("change", [spectral, weight_as_attribute, forward_of_its_own, compiled, None])
@pytest.mark.parametrize("is_wrapped_first", [False, True])
def test_a_convolution_that_computes_otherwise_than_its_class_keeps_its_batch_norm(
    change: Callable[[nn.Sequential], None] | None, is_wrapped_first: bool, fresh_compiler: None
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        Binary(3, 4, 3) if change is None else nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    nn.init.uniform_(network[1].running_mean)
    nn.init.uniform_(network[1].running_var, 2, 4)
    network.eval()
    if change is not None and not is_wrapped_first:
        change(network)
    masked = LayerMasking(network)
    if change is not None and is_wrapped_first:
        change(network)
    images, visible = torch.randn(2, 3, 12, 12), torch.ones(2, 1, 12, 12, dtype=torch.bool)
    visible[:, :, :4] = False  # with everything visible the network itself is called
    expected = masked(images, visible)  # unfolded, as there are gradients
    with torch.no_grad():
        assert_close(masked(images, visible), expected)
