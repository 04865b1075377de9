"""What users of torch do with a network beside calling it, done with a masked one."""

import copy
import subprocess
import sys

import pytest
import timm
import torch
from captum.attr import LayerDeepLift, LayerIntegratedGradients
from torch import nn
from torch.autograd import forward_ad
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise, seeded

SIZE = 32
IMAGES, VISIBLE = draw_images(size=SIZE), holes(SIZE)


class Small(nn.Module):
    """Two convolutions, a norm that is kept apart, and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6)
        self.second, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)

    def forward(self, images):
        return self.head(torch.relu(self.second(torch.relu(self.norm(self.first(images))))).mean((2, 3)))


@pytest.fixture
def small():
    return randomise(seeded(Small)).eval()


# --- training ---------------------------------------------------------------------------------------------------------


def test_timms_checkpointing_has_the_same_gradients_and_statistics():
    network = seeded(lambda: timm.create_model("resnet10t", num_classes=4)).train()
    masked = LayerMasking(network)
    twin = copy.deepcopy(masked)
    twin.network.set_grad_checkpointing()
    results = []
    for each in (masked, twin):
        images = IMAGES.clone().requires_grad_()
        each(images, VISIBLE).square().sum().backward()
        results.append([images.grad, *(parameter.grad for parameter in each.parameters())])
    assert_close(*results, rtol=1e-4, atol=1e-5)
    assert results[1][0].abs().max() > 0 and (results[1][0][~VISIBLE.expand_as(IMAGES)] == 0).all()
    means = [[each for name, each in one.named_buffers() if name.endswith("mean")] for one in (masked, twin)]
    for plain, once_more in zip(*means, strict=True):  # torch updates them in the second computation, too
        assert once_more.isfinite().all() and once_more.shape == plain.shape


def test_averages_of_weights_are_masked_as_weights(small):
    masked = LayerMasking(small)
    average = AveragedModel(masked, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    kept = timm.utils.ModelEmaV3(masked, decay=0.5)
    by_hand = {name: tensor.clone() for name, tensor in masked.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        with torch.no_grad():
            for parameter in masked.parameters():
                parameter.add_(torch.rand(parameter.shape, generator=generator) / 10)
        average.update_parameters(masked)
        kept.update(masked, step)
        for name, tensor in masked.state_dict().items():
            # The first of torch's averages is a copy.
            by_hand[name] = tensor.clone() if step == 0 else torch.lerp(by_hand[name].float(), tensor.float(), 0.5)
    network = copy.deepcopy(small)
    network.load_state_dict(by_hand)
    assert_close(average(IMAGES, VISIBLE), LayerMasking(network)(IMAGES, VISIBLE))
    assert kept.module.state_dict().keys() == small.state_dict().keys()
    assert not torch.allclose(kept.module(IMAGES, VISIBLE), masked(IMAGES, VISIBLE))


@pytest.mark.parametrize("padding", ["mean", "mirror"])
@pytest.mark.parametrize("detach_padding", [False, True])
def test_forward_mode_has_the_derivative_along_a_direction(small, padding, detach_padding):
    masked = LayerMasking(small.double(), padding=padding, detach_padding=detach_padding)
    images, direction = IMAGES.double(), draw_images(size=SIZE, seed=1).double()
    jacobian = torch.autograd.functional.jacobian(lambda images: masked(images, VISIBLE).sum(0), images)
    expected = (jacobian * direction).sum((2, 3, 4)).T
    for gradients in (torch.enable_grad(), torch.no_grad()):
        with gradients:
            _, along = torch.func.jvp(lambda images: masked(images, VISIBLE), (images,), (direction,))
            with forward_ad.dual_level():
                dual = masked(forward_ad.make_dual(images, direction), VISIBLE)
                tangent = forward_ad.unpack_dual(dual).tangent
        assert_close(along, expected)
        assert_close(tangent, expected)


@pytest.mark.parametrize("padding", ["mean", "mirror", "zeros"])
def test_vmap_has_the_gradients_of_each_image(small, padding):
    masked = LayerMasking(small.double().eval(), padding=padding)
    images, parameters = IMAGES.double(), dict(masked.named_parameters())

    def loss(parameters, image, shown):
        return torch.func.functional_call(masked, parameters, (image[None], shown[None])).square().sum()

    of_all = torch.vmap(torch.func.grad(loss), (None, 0, 0))(parameters, images, VISIBLE)
    for index in range(len(images)):
        alone = masked(images[index : index + 1], VISIBLE[index : index + 1]).square().sum()
        assert_close([each[index] for each in of_all.values()], [*torch.autograd.grad(alone, parameters.values())])


@torch.no_grad()
@pytest.mark.parametrize("padding", ["mean", "mirror", "zeros"])
def test_a_tensor_that_a_hook_puts_in_keeps_its_values(small, padding):
    masked, features = LayerMasking(small, padding=padding), torch.randn(len(IMAGES), 6, 16, 16)
    patched = features.to(memory_format=torch.channels_last)
    with_hook = small.second.register_forward_pre_hook(lambda *_: (patched,))
    masked(IMAGES, VISIBLE)
    with_hook.remove()
    assert torch.equal(patched, features)


# --- explaining -------------------------------------------------------------------------------------------------------


class UnderMask(nn.Module):
    """A network of the images alone, as explainers take one, of which each layer is computed from one map."""

    def __init__(self, masked):
        super().__init__()
        self.masked = masked

    def forward(self, images):
        return self.masked(images, VISIBLE[:1].expand(len(images), -1, -1, -1))


def plain(features):
    return (features.as_plain() if isinstance(features, Masked) else features).detach()


def layer_of(masked, images):
    """Features of `second`, with what follows from them by hand: the mean over visible positions, and the head."""
    output = masked.output_of("second", images, VISIBLE[:1].expand(len(images), -1, -1, -1))
    shown = output.visible.positions
    assert shown[0].any() and not shown[0].all()

    def head(features):
        return masked.network.head((torch.relu(features) * shown).sum((2, 3)) / shown.sum((2, 3)))

    return output.as_plain().detach(), head, shown


def test_captums_integrated_gradients_of_a_layer_are_the_sum_by_hand(small):
    masked, steps = LayerMasking(small), 5
    explainer = LayerIntegratedGradients(UnderMask(masked), small.second)
    given = explainer.attribute(IMAGES, torch.zeros_like(IMAGES), target=2, n_steps=steps, method="riemann_middle")
    features, head, _ = layer_of(masked, IMAGES)
    baseline, _, _ = layer_of(masked, torch.zeros_like(IMAGES))
    total = torch.zeros_like(features)
    for step in range(steps):
        leaf = (baseline + (step + 0.5) / steps * (features - baseline)).requires_grad_()
        head(leaf)[:, 2].sum().backward()
        total += leaf.grad / steps
    assert_close(plain(given), total * (features - baseline), rtol=1e-4, atol=1e-6)


def test_a_tensor_that_a_hook_puts_in_the_place_of_features_has_their_mask(small):
    masked, kept = LayerMasking(small), []
    expected = masked(IMAGES, VISIBLE)
    with small.second.register_forward_hook(lambda _module, _args, output: kept.append(output)):
        masked(IMAGES, VISIBLE)
    doubled = 2 * kept[0]
    assert type(doubled) is torch.Tensor
    for given in (kept[0], doubled / 2):
        with small.second.register_forward_hook(lambda *_, given=given: given):
            assert_close(masked(IMAGES, VISIBLE), expected)
        with small.norm.register_forward_pre_hook(lambda _module, args: (args[0].as_plain(),)):
            assert_close(masked(IMAGES, VISIBLE), expected)
    assert type(doubled) is torch.Tensor
    with (
        small.second.register_forward_hook(lambda *_: doubled[:, :, :4]),
        pytest.raises(UnsupportedNetworkError, match=r"at layer 'second' of Small, a hook returns a plain tensor.*\.$"),
    ):
        masked(IMAGES, VISIBLE)
    assert len(small.second._forward_hooks) == len(small.norm._forward_pre_hooks) == 0


def test_captums_deep_lift_of_a_layer_accounts_for_the_whole_difference(small):
    network = nn.Sequential(
        small.first, nn.ReLU(), small.second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), small.head
    )
    under = UnderMask(LayerMasking(network))
    given = plain(LayerDeepLift(under, network[2]).attribute(IMAGES, torch.zeros_like(IMAGES), target=2))
    difference = (under(IMAGES) - under(torch.zeros_like(IMAGES)))[:, 2]
    assert_close(given.sum((1, 2, 3)), difference.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_part_that_a_checkpoint_computes_again_is_masked_again(reentrant):
    def gradients(run):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(4, momentum=1.0)  # the last pass decides
        stem, part = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.ReLU())
        network = Function(lambda x, stem, part: run(part, stem(x)).mean((2, 3)), stem, part)
        LayerMasking(network)(IMAGES, VISIBLE).square().sum().backward()
        return [norm.running_mean, norm.running_var, *(each.grad for each in network.parameters())]

    plain = gradients(lambda part, x: part(x))
    assert_close(gradients(lambda part, x: checkpoint(part, x, use_reentrant=reentrant)), plain)


@pytest.mark.parametrize("reentrant", [False, True])
def test_norms_in_a_checkpoint_move_their_running_statistics_as_often_as_torchs(reentrant):
    """Twice, also the last one, although torch's recomputation ends at the last tensor that was saved."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norms = (
                nn.Conv2d(3, 4, 3),
                nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(4, momentum=0.5)),
            )

        def forward(self, x):
            return checkpoint(self.norms, self.conv(x), use_reentrant=reentrant).mean((2, 3))

    images, visible = torch.randn(2, 3, 9, 9), torch.ones(2, 1, 9, 9, dtype=torch.bool)
    visible[:, :, 2:5, 3:7] = False
    for mask in (None, visible):
        network = Checkpointed()
        twice, (first, second) = copy.deepcopy(network), network.norms
        LayerMasking(network)(images, mask).square().sum().backward()
        plain = LayerMasking(nn.Sequential(twice.conv, *twice.norms))
        for _ in range(2):
            plain(images, mask)
        for norm, expected in zip((first, second), twice.norms, strict=True):
            assert_close(norm.running_mean, expected.running_mean)
            torch.testing.assert_close(norm.running_var, expected.running_var)


# --- changing a network -----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_convolution_that_torch_has_folded_its_norm_into_is_masked_like_both(small):
    folded = copy.deepcopy(small)
    folded.first, folded.norm = fuse_conv_bn_eval(folded.first, folded.norm), nn.Identity()
    expected = LayerMasking(small)(IMAGES, VISIBLE)
    assert_close(LayerMasking(folded)(IMAGES, VISIBLE), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_a_module_that_was_compiled_by_itself_is_masked(small):
    network, calls = nn.Sequential(small, nn.Softmax(1)).eval(), []
    masked, alone = LayerMasking(network), network(IMAGES)
    expected = masked(IMAGES, VISIBLE)

    def compile_counted(graph, _inputs):
        calls.append(1)
        return graph

    small.compile(backend=compile_counted)
    assert_close(masked(IMAGES, VISIBLE), expected)
    assert not calls
    assert_close(network(IMAGES), alone)
    assert calls


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_of_a_compiled_network_the_one_within_is_masked_and_a_warning_says_so(small):
    network = nn.Sequential(small.first, nn.ReLU(), nn.MaxPool2d(2), small.second).eval()
    with pytest.warns(UserWarning, match=r"compile the masked network instead, as in torch\.compile\(LayerMasking"):
        masked = LayerMasking(torch.compile(network))
    assert masked.network is network
    expected = masked(IMAGES, VISIBLE)
    network[3] = torch.compile(network[3])
    assert torch.equal(LayerMasking(network)(IMAGES, VISIBLE), expected)


@torch.no_grad()
def test_a_layer_put_in_after_the_network_was_wrapped_is_masked():
    network = build("small_resnet")
    masked = LayerMasking(network)
    masked.fc = nn.Linear(network.fc.in_features, 2)
    assert network.fc is masked.fc and masked(IMAGES, VISIBLE).shape == (3, 2)
    assert dict(masked.named_parameters()).keys() == dict(network.named_parameters()).keys()


CHANGED = """
import timm.layers, torch
from torch import nn

def attributes():
    kinds = [nn.Module]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return {kind: dict(vars(kind)) for kind in kinds}

before = attributes()
import maskrobust
from maskrobust import LayerMasking
LayerMasking(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), timm.layers.LayerNorm2d(4)))
after = attributes()
names = [(kind, name) for kind in before for name in before[kind]]
print([f"{kind.__name__}.{name}" for kind, name in names if after[kind].get(name) is not before[kind][name]])
"""


def test_importing_the_library_changes_no_class_of_another_one():
    """Nor does wrapping, but for the classes with a rule that the network has."""
    found = subprocess.run([sys.executable, "-c", CHANGED], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
