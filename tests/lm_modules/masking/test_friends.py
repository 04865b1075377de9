"""What users of torch do with a network beside calling it, done with a masked one."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.fx.experimental.optimization import fuse
from torch.testing import assert_close

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError, masking_rule
from maskrobust.lm_modules.networks.architectures import SmallResNet
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


# --- changing a network -----------------------------------------------------------------------------------------------


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


class Flipped(nn.Module):
    """Calls a function without a rule."""

    def forward(self, x):
        return x.flip(2)


@pytest.mark.usefixtures("registries")
@torch.no_grad()
def test_layers_put_in_after_the_network_was_wrapped_are_masked_by_their_rules():
    network = build("small_resnet")
    masking_rule(Flipped)(lambda _operation, x: x)
    masked = LayerMasking(network)
    masked.layer1, masked.fc = Flipped(), nn.Linear(network.fc.in_features, 2)
    assert network.fc is masked.fc and masked(IMAGES, VISIBLE).shape == (3, 2)
    assert dict(masked.named_parameters()).keys() == dict(network.named_parameters()).keys()


LATE = """
import torch
from torch import nn
from maskrobust import LayerMasking

network = nn.Sequential(nn.Conv2d(3, 4, 3, 1, 1), nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
masked = LayerMasking(network)

from timm.layers.space_to_depth import SpaceToDepth

class Own(SpaceToDepth):
    pass

network[1] = Own()
images, visible = torch.rand(2, 3, 8, 8), torch.rand(2, 1, 8, 8) < 0.3
print([row.rule for row in masked.plan(images, visible)], torch.equal(masked(images, visible), network(images)))
"""


def test_a_layer_of_timm_that_is_put_in_later_has_its_rule():
    """Also where timm was not imported yet when the network was wrapped."""
    found = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=True)
    assert found.stdout == "['convolution', 'space_to_depth', 'adaptive_average_pool'] False\n"


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


def test_a_network_whose_norms_are_folded_into_convolutions_is_masked_as_before():
    network = randomise(seeded(lambda: SmallResNet(3, width=16))).double().eval()
    folded = fuse(network)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    images, visible = draw_images(size=32).double(), holes(32)
    assert_close(LayerMasking(folded)(images, visible), LayerMasking(network)(images, visible))


def test_importing_the_library_changes_no_class_of_another_one():
    """Nor does wrapping, but for the classes with a rule that the network has."""
    found = subprocess.run([sys.executable, "-c", CHANGED], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
