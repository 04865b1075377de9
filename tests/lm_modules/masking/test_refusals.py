"""The table of rules: what has none or cannot be masked is refused, in which words, and that the remedy works."""

import ast
import contextlib
import inspect
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.layers.space_to_depth import SpaceToDepth
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import get_overridable_functions, get_testing_overrides
from torch.utils._python_dispatch import _get_current_dispatch_mode

import maskrobust
from maskrobust.lm_modules.masking import LayerMasking, Masked, UnsupportedNetworkError, masking_rule, rules
from maskrobust.lm_modules.masking.rules.pointwise import pointwise
from maskrobust.lm_modules.masking.table import ANSWERED, RULES, Rule, name_of
from maskrobust.lm_modules.masking.timm_layers import space_to_depth
from maskrobust.lm_modules.masking.visible_map import MaskingOptions, VisibleMap
from tests.conftest import refused
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import draw_images, holes

pytestmark = pytest.mark.usefixtures("registries")


class Flip(nn.Module):
    """An operation of one's own that moves positions."""

    def forward(self, x):
        return x.flip(2)


class Doubled(nn.ReLU):
    """Not the operation that its base class is."""

    def forward(self, x):
        return torch.logcumsumexp(super().forward(x), 1)


class TwoInputs(nn.Module):
    """Wants more than images."""

    def forward(self, images, scale):
        return F.relu(images) + scale


def plus_one(x: Tensor) -> Tensor:
    return torch.relu(x) + 1


def scripted(x):
    return torch.jit.script(plus_one)(x)


def classifier(*layers):
    trunk = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), *layers)
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def calling(function):
    return lambda: classifier(Function(function))


def of_layers(*layers):
    return lambda: classifier(*layers)


REFUSED = [
    # network, what the message names
    (calling(lambda x: x.flip(2)), ["torch.Tensor.flip", "'0.1'", "masking_rule(torch.Tensor.flip)", "Sequential"]),
    (of_layers(Doubled()), ["torch.logcumsumexp", "'0.1'", "masking_rule(torch.logcumsumexp)"]),
    (calling(lambda x: F.interpolate(x, (8, 8), mode="area")), ["interpolates", "area", "'0.1'", "masking_rule"]),
    (calling(lambda x: F.interpolate(x, (8, 8), mode="bilinear", antialias=True)), ["antialias=True", "'0.1'"]),
    (of_layers(nn.ConstantPad2d(1, 1.0)), ["pads", "constant 1.0", "'0.1'", "masking_rule"]),
    (calling(lambda x: F.pad(x, (*[0] * 6, 1, 1))), ["pads", "'0.1'", "rule of its own"]),
    (of_layers(nn.MaxPool2d(2, return_indices=True)), ["max_pool2d_with_indices", "'0.1'", "masking_rule"]),
    (of_layers(nn.LayerNorm((16, 128, 128))), ["layer norm", "(16, 128, 128)", "'0.1'", "group norm"]),
    (of_layers(nn.LayerNorm(128)), ["layer norm", "'0.1'", "permute"]),
    (of_layers(nn.Linear(128, 16)), ["linear layer", "'0.1'", "permute"]),
    (
        of_layers(nn.InstanceNorm2d(16, track_running_stats=True)),
        ["instance norm", "track_running_stats", "'0.1'", "masking_rule"],
    ),
    (calling(lambda x: x.argmax()), ["over the channels only, got axis None", "'0.1'"]),
    (calling(lambda x: x.mean()), ["axes None", "'0.1'"]),
    (calling(lambda x: x.sum((1, 2, 3))), ["axes (1, 2, 3)", "'0.1'"]),
    (calling(lambda x: x.mean((0, 2, 3))), ["reduces", "'0.1'"]),
    (calling(lambda x: x.norm(1, (1, 2))), ["reduces", "axes (1, 2)", "'0.1'"]),
    (calling(lambda x: x.unbind()), ["splits channels only", "'0.1'"]),
    (calling(lambda x: x.squeeze()), ["squeezes", "got None; name the axis", "'0.1'"]),
    (calling(F.glu), ["halves of the channels, got axis -1", "nn.GLU(1)", "'0.1'"]),
    (calling(lambda x: torch.where(x > 0)[0]), ["no positions of a condition", "two values", "'0.1'"]),
    (calling(lambda x: x.max()), ["axes None", "'0.1'"]),
    (calling(lambda x: x[0]), ["keeps all images", "rule of its own"]),
    (calling(lambda x: x[x > 0]), ["index of slices and numbers", "torch.where", "'0.1'"]),
    (
        calling(lambda x: F.layer_norm(x.reshape(len(x), 2, -1), (x.numel() // len(x) // 2,)).view_as(x)),
        ["over all positions", "'0.1'", "group norm"],
    ),
    (calling(lambda x: x.permute(2, 0, 1, 3)), ["images ahead of height", "(2, 0, 1, 3)", "masking_rule"]),
    (calling(lambda x: torch.cat([x, x], 0)), ["axis 0", "'0.1'"]),
    (calling(lambda x: torch.stack([x, x.detach().new_ones(x.shape)], 1)), ["masked features", "'0.1'"]),
    (calling(lambda x: x + x.permute(0, 2, 3, 1)), ["order of axes", "'0.1'"]),
    (calling(lambda x: x + x[:, 0]), ["order of axes", "'0.1'"]),
    (calling(lambda x: torch.cat(x.unbind(2), 1)), ["splits channels only", "rule of its own"]),
    (calling(lambda x: torch.cat(x.split(1, dim=0), 1)), ["images", "rule of its own"]),
    (calling(lambda x: x.unsqueeze(0)), ["features (B, C, H, W)", "'1'"]),
    (calling(lambda x: F.conv2d(x, x[:, :, :3, :3])), ["conv2d", "masked features first", "'0.1'"]),
    (calling(lambda x: F.conv2d(x.new_ones(x.shape), x[:, :, :3, :3])), ["conv2d", "masked features first", "'0.1'"]),
    (
        calling(
            lambda x: F.linear(x.flatten(2).mT, x.flatten(2).mT.flatten(0, 1))
        ),  # tokens, times those of all images
        ["linear", "masked features first", "rule of its own", "'0.1'"],
    ),
    (
        calling(
            lambda x: F.layer_norm(
                x.mT.mT, x.shape[-1:], F.adaptive_avg_pool2d(x, (1, x.shape[-1] // 2)).sum(1).view(-1)
            )
        ),
        ["layer_norm", "masked features first", "'0.1'"],
    ),
    (calling(lambda x: torch.zeros_like(x).add_(x)), ["Tensor.add_", "tensor without a mask", "out of place", "'0.1'"]),
    (calling(lambda x: torch.add(x, x, out=torch.ones_like(x))), ["torch.add", "out=", "assign", "'0.1'"]),
    (calling(torch.ops.aten.relu), ["torch.ops.aten.relu", "masking_rule(torch.ops.aten.relu)"]),
    (calling(lambda x: x.as_subclass(Tensor)), ["as_subclass", "without a mask", "masking_rule", "'0.1'"]),
    (calling(lambda x: x.H + 0), ["torch.Tensor.H", "'0.1'"]),
    (calling(np.asarray), ["torch.Tensor.__array__", "'0.1'"]),
    (TwoInputs, ["TwoInputs", "scale", "images alone"]),
    (calling(scripted), ["without their mask", "torch.jit.script", "'0.1'"]),
    (calling(torch.vmap(torch.neg)), ["without their mask", "torch.vmap", "'0.1'"]),
    (calling(torch.func.grad(lambda y: y.square().sum())), ["without their mask", "torch.func", "'0.1'"]),
    (calling(lambda x: torch.func.jvp(torch.tanh, (x,), (x,))[0]), ["_make_dual", "'0.1'"]),
    (calling(lambda x: torch.as_tensor(x, dtype=torch.float64)), ["without their mask", "torch.tensor", "'0.1'"]),
]


def refuse(act, named):
    """In one sentence that holds these words."""
    with refused(UnsupportedNetworkError, *named):
        act()


@pytest.mark.parametrize(("make", "named"), REFUSED, ids=[" ".join(named[:2]) for _, named in REFUSED])
@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated")
def test_what_cannot_be_masked_is_refused_when_wrapped_in_one_sentence(make, named):
    refuse(lambda: LayerMasking(make()), named)


class Hesitant(nn.Module):
    """Flips where a buffer says so, which no pass without values can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("flips", torch.zeros((), dtype=torch.bool))

    def forward(self, x):
        return x.flip(2) if self.flips else x


def test_what_wrapping_does_not_reach_is_refused_when_it_is_met():
    network = classifier(Hesitant()).eval()
    masked = LayerMasking(network)
    assert masked(draw_images(size=32), holes(32)).isfinite().all()
    network[0][1].flips.fill_(True)
    refuse(lambda: masked(draw_images(size=32), holes(32)), ["torch.Tensor.flip", "'0.1'", "masking_rule"])


class TossesACoin(nn.Module):
    """Calls a function behind a number that no pass without values can have."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x) if torch.rand(()) < 2 else x


@pytest.mark.parametrize("function", [scripted, torch.vmap(torch.neg), torch.tensor])
@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated", "ignore:To copy construct from a tensor")
def test_what_loses_the_mask_where_wrapping_does_not_reach_is_refused_when_it_is_met(function):
    masked = LayerMasking(classifier(TossesACoin(function)).eval())
    refuse(lambda: masked(draw_images(size=32), holes(32)), ["without their mask", "torch.jit.script", "'0.1'"])


def moved_into_a_plain_tensor(x):
    y = torch.empty(0)
    y.set_(x)
    return y


class Chooses(nn.Module):
    """Calls a function on images of some sizes alone, or in a mode that no wrapping tries."""

    def __init__(self, function, chooses) -> None:
        super().__init__()
        self.function, self.chooses = function, chooses

    def forward(self, x):
        return self.function(x) if self.chooses(self, x) else x


CHOICES = {
    "small images": (lambda _, x: x.shape[-1] < 10, 16, False),
    "gradients in eval mode": (lambda module, _: torch.is_grad_enabled() and not module.training, 24, True),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("function", [scripted, torch.vmap(torch.neg), torch.tensor, moved_into_a_plain_tensor])
@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated", "ignore:To copy construct from a tensor")
def test_what_loses_the_mask_in_a_kind_of_pass_that_wrapping_does_not_try_is_refused(function, choice):
    chooses, size, differentiates = CHOICES[choice]
    masked = LayerMasking(classifier(Chooses(function, chooses)).eval())
    with torch.set_grad_enabled(not differentiates):
        assert masked(draw_images(size=24), holes(24)).isfinite().all()
    for _ in range(2):
        with torch.set_grad_enabled(differentiates):
            refuse(lambda: masked(draw_images(size=size), holes(size)), ["without their mask", "'0.1'"])


class KnowsTheGuard(nn.Module):
    """Keeps whether what torch computes below its functions is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.is_guarded = []

    def forward(self, x):
        self.is_guarded.append(_get_current_dispatch_mode() is not None)
        return x


def test_only_passes_in_a_mode_that_wrapping_could_not_try_are_guarded_each_time():
    cumulative = nn.BatchNorm2d(16, momentum=None)  # asks for a value, how many batches there were, in training mode
    masked = LayerMasking(classifier(layer := KnowsTheGuard(), cumulative))
    for training, expected in ((False, [True, False, False]), (True, [True] * 3), (False, [True, False, False])):
        masked.train(training)
        for _ in range(3):
            masked(draw_images(size=32), holes(32))
        assert [layer.is_guarded.pop() for _ in range(3)][::-1] == expected
        masked = LayerMasking(masked.network)
    layer.train()  # alone
    for _ in range(2):
        masked(draw_images(size=32), holes(32))
    assert layer.is_guarded[-2:] == [True] * 2


def flip(_operation, x, *_args):
    visible = x.visible.derive("flip", lambda positions: positions.flip(2))
    return Masked(x.with_hidden_zero().flip(2), visible)


@pytest.mark.parametrize(
    ("target", "layer"), [(torch.flip, Function(lambda x: x.flip(2))), (Tensor.flip, Flip()), (Flip, Flip())]
)
def test_one_decorated_function_makes_a_network_supported(target, layer):
    network, images, visible = classifier(layer, nn.Conv2d(16, 16, 3, padding=1)).eval(), draw_images(), holes()
    with pytest.raises(UnsupportedNetworkError, match="flip"):
        LayerMasking(network)
    masking_rule(target)(flip)
    masked = LayerMasking(network)
    logits = masked(torch.where(visible, images, torch.nan), visible)
    assert logits.isfinite().all() and torch.equal(logits, masked(images, visible))
    assert torch.equal(masked(images, torch.ones_like(visible)), network(images))
    plain = LayerMasking(classifier(nn.Conv2d(16, 16, 3, padding=1)).eval())
    weights = dict(network.state_dict())
    plain.network.load_state_dict({name: weights[name.replace("0.1.", "0.2.")] for name in plain.state_dict()})
    assert not torch.equal(logits, plain(images, visible))


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated")
def test_the_remedies_of_refusals_can_be_run():
    remedies = set()
    for make, _ in REFUSED:
        with pytest.raises(UnsupportedNetworkError) as refusal:
            LayerMasking(make())
        found = re.search(r"add one with (maskrobust\.masking_rule\(.+\))\.$", str(refusal.value))
        if found is None:
            continue
        rule = eval(found[1], {"maskrobust": maskrobust, "torch": torch})
        rule(lambda _operation, x, *_args, **_kwargs: x if isinstance(x, Masked) else None)
        remedies.add(found[1])
        with contextlib.suppress(UnsupportedNetworkError):  # of what follows
            LayerMasking(make())
            continue
        with pytest.raises(UnsupportedNetworkError) as next_refusal:
            LayerMasking(make())
        assert found[1] not in str(next_refusal.value)
    assert len(remedies) > 6


def test_features_of_another_pass_are_refused():
    kept = []
    masked = LayerMasking(classifier(Function(lambda x: kept[0] + x if kept else x)))
    with masked.network[0][0].register_forward_hook(lambda _module, _args, output: seen.append(output)):
        seen = []
        masked(draw_images(size=32), holes(32))
        kept += seen
        refuse(lambda: masked(draw_images(size=32), holes(32)), ["add", "another forward pass", "'0.1'"])


class Stepped(torch.autograd.Function):
    """Its derivative calls a function that has no rule on the features that it saved."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (x.flip(1).flip(1) > 0)


def test_a_derivative_may_compute_anything_from_saved_features():
    gradients = []
    for activation in (torch.relu, Stepped.apply):
        images = draw_images(size=32).requires_grad_()
        torch.manual_seed(0)
        LayerMasking(classifier(Function(activation)))(images, holes(32)).sum().backward()
        gradients.append(images.grad)
    torch.testing.assert_close(*gradients)


class Scaled(nn.Module):
    """A factor that a rule may refuse."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


class Renamed(Scaled):
    """Computes what its base class does."""


class Overridden(Scaled):
    """Does not."""

    def forward(self, x):
        return super().forward(x).abs()


def test_the_rule_of_a_class_is_that_of_subclasses_that_keep_its_forward_and_hooks_are_called_once():
    calls, hooked = [], []

    @masking_rule(Scaled)
    def scaled(operation, x):
        if operation.factor == 0:
            raise NotImplementedError("the factor must not be 0; choose another.")
        calls.append(type(operation(x.features)))
        return x.with_features(operation(x.features))

    for kind, asked in ((Scaled, 2), (Renamed, 2), (Overridden, 2)):
        network = classifier(kind(2.0)).eval()
        LayerMasking(network)
        assert calls == [Tensor] * asked
        calls.clear()
    network[0][1].register_forward_hook(lambda *_: hooked.append(1))
    LayerMasking(network)(draw_images(size=32), holes(32))
    assert hooked == [1]
    with pytest.raises(UnsupportedNetworkError, match=r"at layer '0\.1' of Sequential, the factor must not be 0"):
        LayerMasking(classifier(Scaled(0.0)))
    assert network(draw_images(size=32)).isfinite().all()


def test_the_latest_rule_wins_and_stands_for_the_method_and_the_variant_in_place():
    @masking_rule(torch.relu)
    def own(operation, x, *args, **kwargs):
        return x.with_features(operation(x.features, *args, **kwargs))

    assert RULES[torch.relu].apply is RULES[Tensor.relu].apply is RULES[torch.relu_].apply is own
    assert RULES[Tensor.relu_] == Rule(own, changes=True)
    assert RULES[F.relu].apply is not own
    masking_rule(Tensor.relu_)(pointwise)
    assert RULES[torch.relu].apply is pointwise


def test_rules_bind_the_arguments_of_their_functions_as_torch_does():
    """In the same order, and under the same names, but for what says where a result goes."""
    checked = 0
    for function, override in get_testing_overrides().items():
        taken = [] if function not in RULES else list(inspect.signature(RULES[function].apply).parameters.values())[1:]
        if not taken or inspect.Parameter.VAR_POSITIONAL in {each.kind for each in taken}:
            continue
        if function is F.max_pool3d:  # torch lists its last two arguments the other way round than it takes them
            continue
        expected = [name for name in inspect.signature(override).parameters if name not in LEFT_OUT]
        given = [each.name for each in taken if each.kind is not inspect.Parameter.VAR_KEYWORD]
        pairs = [(name, own) for name, own in zip(expected, given, strict=False) if name not in TENSORS]
        assert all(name == own for name, own in pairs), f"{name_of(function)}: {expected}, but {given}"
        assert len(given) >= len(expected) or len(taken) > len(given), f"{name_of(function)}: {expected}, but {given}"
        checked += 1
    assert checked > 40


def test_every_function_of_torch_has_a_rule_or_answers_a_question_or_is_refused_by_name():
    x, counts = Masked(draw_images(size=8), VisibleMap(holes(8), MaskingOptions())), Counter()
    for function in get_testing_overrides():
        kinds = {"rule": function in RULES, "question": function in ANSWERED}
        assert sum(kinds.values()) < 2, name_of(function)
        counts += Counter([kind for kind, is_one in kinds.items() if is_one] or ["refused"])
        if not any(kinds.values()):
            refuse(lambda each=function: Masked.__torch_function__(each, (Masked,), (x,)), [name_of(function)])
    assert min(counts[kind] for kind in ("rule", "question", "refused")) > 40


NO_ENTRIES = {
    "Tensor", "atleast_1d", "atleast_2d", "atleast_3d", "complex", "polar", "conj", "resolve_conj", "resolve_neg",
    "real", "dequantize", "isin", "slice_inverse", "slice_scatter", "sym_sum", "squeeze_copy", "slice_copy",
    "detach_copy", "alias_copy", "binomial", "binary_cross_entropy_with_logits", "hinge_embedding_loss", "kl_div",
    "special_zeta",
}  # fmt: skip
"""Functions that make views, copies, complex numbers, losses or draws, about a set, or infinite at 1."""


@pytest.mark.filterwarnings("ignore")
def test_what_computes_each_entry_alone_has_a_rule():
    """Found by trying: whose results are permuted where what they are given is."""
    x, order = torch.rand(2, 3, 4), torch.randperm(24)
    found = set()
    functions = [each for of in (torch, torch.special) for each in get_overridable_functions()[of]]
    for function in functions:
        if function in RULES or function in ANSWERED or function.__name__.startswith("_"):
            continue
        for more in ((), (0.5,), (torch.full((2, 3, 4), 0.5),)):
            with contextlib.suppress(Exception):
                first, second = function(x, *more), function(x.flatten()[order].view_as(x), *more)
                if first.shape == x.shape and torch.equal(first.flatten()[order], second.flatten()):
                    found.add(function.__name__)
    assert found <= NO_ENTRIES


RULE_FILES = sorted(Path(rules.__file__).parent.glob("[!_]*.py"))


@pytest.mark.parametrize("path", RULE_FILES, ids=lambda path: path.stem)
def test_a_file_of_rules_holds_constants_then_rules_then_what_others_use_then_its_own_helpers(path):
    def place(node):
        if not isinstance(node, ast.FunctionDef):
            return 0
        if any(isinstance(each, ast.Call) and ast.unparse(each.func) == "masking_rule" for each in node.decorator_list):
            return 1
        return 3 if node.name.startswith("_") else 2

    places = [place(node) for node in ast.parse(path.read_text()).body]
    assert 1 in places and places == sorted(places)


LEFT_OUT = {"out", "inplace", "_stacklevel"}
TENSORS = {"input", "self", "tensor", "tensors", "other", "idx"}


def test_the_rule_of_a_users_own_stays_where_a_network_has_a_layer_of_another_library():
    network = nn.Sequential(layer := SpaceToDepth(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 2))

    @masking_rule(type(layer))
    def own(operation, x):
        return space_to_depth(operation, x)

    LayerMasking(network)
    assert RULES[type(layer)].apply is own


@pytest.mark.parametrize(
    "make",
    [lambda means: means[:, :1].expand(-1, 4), lambda means: means.repeat(1, 2).chunk(2, dim=1)[1]],
    ids=["expanded", "a chunk"],
)
def test_what_follows_a_tensor_that_is_not_dense_is_tried_when_a_network_is_wrapped(make):
    """Gates made from a part of a tensor's memory, or from repeated memory, ahead of a function without a rule."""

    def gated(x):
        gates = torch.relu(make(x.mean((2, 3))))
        return torch.logcumsumexp(x * gates.view(-1).view(len(x), -1, 1, 1), 1)

    with pytest.raises(UnsupportedNetworkError, match=r"logcumsumexp"):
        LayerMasking(Function(lambda x, conv: gated(conv(x)), nn.Conv2d(3, 4, 3)).eval())
