"""A compiled or exported masked network computes what the eager one does: `torch.compile`, `torch.export`, ONNX."""

import copy
import math
import sys
from collections.abc import Callable
from functools import cache

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.networks.onnx_model import onnx_model
from tests.conftest import refused
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import draw_images, holes, randomise, seeded
from tests.lm_modules.masking.small_networks import CLASSES, Dense, Modern

SIZE = 32
IMAGES = draw_images(8, SIZE)
VISIBLE = torch.cat([holes(SIZE), holes(SIZE).flip(2), torch.ones(1, 1, SIZE, SIZE).bool(), ~holes(SIZE)[:1]])
ANY_BATCH = ({0: torch.export.Dim.DYNAMIC}, {0: torch.export.Dim.DYNAMIC})
BATCHES = (slice(1, 2), slice(4, 7), slice(0, 8))
TOLERANCE = 2e-5
STAGES = (
    *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 3, padding=1)),
    *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES)),
)


class Windowed(nn.Module):
    """Windows and bins, branches with different maps of visible positions, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, padding_mode="reflect")
        self.branches = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding="same")])
        self.pools = nn.ModuleList([nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, ceil_mode=True)])
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.norms = nn.ModuleList([nn.GroupNorm(2, 8), nn.BatchNorm2d(8)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(8 * 9, CLASSES))

    def forward(self, x):
        x = self.stem(x)
        x = self.branches[0](x) + self.branches[1](x)
        x = x * F.hardsigmoid(x.mean((2, 3), keepdim=True))
        x = self.norms[0](self.up(torch.cat([pool(x) for pool in self.pools], dim=1)))
        x = F.interpolate(self.norms[1](x), scale_factor=3, mode="bilinear")
        return self.head(F.relu(x))


@cache
def modern():
    return seeded(lambda: LayerMasking(Modern().eval()))


def assert_close(given, expected):
    assert given.shape == expected.shape
    assert (given - expected).abs().max() <= TOLERANCE * expected.abs().max()


def in_onnx_runtime(masked):
    """What an ONNX file of the network computes, and the operators that it is made of."""
    model = onnx_model(masked, (SIZE, SIZE))
    session = onnxruntime.InferenceSession(model)

    def run(**inputs):
        (logits,) = session.run(None, {name: each.numpy() for name, each in inputs.items()})
        return torch.from_numpy(logits)

    return run, [node.op_type for node in onnx.load_from_string(model).graph.node]


@torch.no_grad()
def test_onnx_runtime_gives_the_same_logits_for_other_masks_and_batches_and_whatever_is_hidden():
    network = seeded(lambda: randomise(Windowed()).eval())
    masked = LayerMasking(network, merge="union")  # with mirrored padding in tests/train/test_network_commands.py
    run, _ = in_onnx_runtime(masked)
    for batch in BATCHES:
        images, visible = IMAGES[batch], VISIBLE[batch]
        logits = run(images=images, visible=visible)
        assert_close(logits, masked(images, visible))
        assert_close(run(images=images, visible=torch.ones_like(visible)), network(images))
        for hidden_value in (math.nan, -1e30):
            assert torch.equal(run(images=torch.where(visible, images, hidden_value), visible=visible), logits)


class OfSizes(nn.Module):
    """Pads by a number that depends on the size, as "same" padding of TensorFlow's does."""

    def __init__(self, side: int | None = None) -> None:
        super().__init__()
        self.conv, self.head, self.side = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, CLASSES), side

    def forward(self, x):
        if self.side is not None and x.shape[-1] != self.side:
            raise AssertionError("another size")
        x = F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4)) if self.side is None else x
        return self.head(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("side", [SIZE, None], ids=["refuses other sizes", "computes them otherwise"])
@torch.no_grad()
def test_an_onnx_file_has_one_size_where_the_network_or_its_export_has(side):
    masked = LayerMasking(seeded(lambda: randomise(OfSizes(side)).eval()))
    session = onnxruntime.InferenceSession(onnx_model(masked, (SIZE, SIZE)))
    assert [each.shape[2:] for each in session.get_inputs()] == [[SIZE, SIZE]] * 2
    (logits,) = session.run(None, {"images": IMAGES.numpy(), "visible": VISIBLE.numpy()})
    assert_close(torch.from_numpy(logits), masked(IMAGES, VISIBLE))


@torch.no_grad()
def test_an_onnx_file_takes_images_of_any_size():
    masked = LayerMasking(seeded(lambda: randomise(nn.Sequential(*STAGES)).eval()))
    run, operators = in_onnx_runtime(masked)
    assert operators.count("Conv") == 7, "two of the network, and maps repeated for 8 channels, but not for 3"
    for height, width in ((50, 70), (33, 31), (64, 96)):
        images, visible = draw_images(2, 96)[:, :, :height, :width], holes(96)[:2, :, :height, :width]
        logits = run(images=images, visible=visible)
        assert_close(logits, masked(images, visible))
        assert torch.equal(run(images=torch.where(visible, images, math.nan), visible=visible), logits)


class Leaking(nn.Module):
    """A network that an export changes."""

    def __init__(self, leak: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES))
        self.masked, self.leak = LayerMasking(network.eval()), leak

    def forward(self, images, visible):
        logits = self.masked(images, visible)
        return logits + self.leak(images) if torch.compiler.is_compiling() else logits


@pytest.mark.parametrize(
    ("leak", "fault"),
    [(lambda images: images.new_tensor(0.01), "off by"), (lambda images: 1e-9 * images.mean(), "hidden pixels")],
    ids=["other logits", "hidden pixels"],
)
def test_an_onnx_file_that_is_not_the_network_is_refused(leak, fault):
    with pytest.raises(InputError, match=rf"^an ONNX file must .*{fault}.*\.$"):
        onnx_model(Leaking(leak).eval(), (SIZE, SIZE))


class Attending(nn.Module):
    """One layer of attention over the positions of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.attention(x, x, x)[0].mean(dim=1)


def test_an_onnx_file_of_a_network_that_attends_is_refused_in_one_sentence():
    masked = LayerMasking(Attending().eval())
    assert masked(IMAGES, VISIBLE).isfinite().all()
    with refused(InputError, "an ONNX file needs a CNN, and this network attends"):
        onnx_model(masked, (SIZE, SIZE))


class Rows(nn.Module):
    """Maps of two sizes whose positions become one row, as in the head of a YOLO."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)

    def forward(self, x):
        maps = self.fine(x), self.coarse(self.fine(x))
        return torch.cat([each.flatten(2) for each in maps], 2).sigmoid()


def test_an_onnx_file_of_a_network_that_makes_a_row_of_several_maps_is_refused_before_any_export(monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", None)
    masked = LayerMasking(Rows().eval())
    assert masked(IMAGES, VISIBLE).isfinite().all()
    with refused(InputError, "keeps maps apart", "several into one row", "in Python"):
        onnx_model(masked, (SIZE, SIZE))


def test_an_onnx_file_without_a_package_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"^onnxscript is needed here"):
        onnx_model(modern(), (SIZE, SIZE))


@pytest.mark.parametrize("strict", [True, False])
@torch.no_grad()
def test_an_export_takes_any_batch(strict):
    masked = LayerMasking(randomise(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.MaxPool2d(2))).eval())
    program = torch.export.export(masked, (IMAGES[:3], VISIBLE[:3]), dynamic_shapes=ANY_BATCH, strict=strict)
    for batch in BATCHES:
        assert_close(program.module()(IMAGES[batch], VISIBLE[batch]), masked(IMAGES[batch], VISIBLE[batch]))


def test_a_pool_whose_divisor_the_exporter_drops_is_not_exported():
    masked = LayerMasking(nn.Sequential(nn.AvgPool2d(2, divisor_override=3), nn.Flatten()).eval())
    assert masked(IMAGES, VISIBLE).isfinite().all()
    with pytest.raises(UnsupportedNetworkError, match=r"^at layer .* divisor_override=3; leave it out.*\.$"):
        torch.export.export(masked, (IMAGES, VISIBLE))


@pytest.mark.filterwarnings("ignore:`torch.jit.* is deprecated")
def test_torchscript_is_refused_in_one_sentence():
    for convert in (lambda: torch.jit.script(modern()), lambda: torch.jit.trace(modern(), (IMAGES, VISIBLE))):
        with pytest.raises(InputError, match=r"^layer masking .* torch\.export\.export.*\.$"):
            convert()


def test_an_onnx_file_of_a_network_in_training_mode_is_refused():
    with pytest.raises(InputError, match=r"eval mode"):
        onnx_model(LayerMasking(Modern()), (SIZE, SIZE))


class Written(nn.Module):
    """Python's operators, and functions that move channels, where other networks have modules."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = F.threshold(1 - self.stem(F.pad(x, (1, 1, 1, 1))).sigmoid(), 0.3, 0.2)
        x = 2**-x + x**2 + 1 / (1 + x)
        x += 0.1
        F.relu(x, inplace=True).pow_(2)
        x += x.sigmoid()
        tokens = x.flatten(2).mT.contiguous()
        tokens *= tokens.sigmoid()
        x = tokens.mT.unflatten(2, x.shape[2:])
        first, second = x.chunk(2, dim=1)
        x = torch.cat((second, first), dim=1)  # a tuple, not a list
        x = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("make", [Modern, Written], ids=lambda make: make.__name__)
@torch.no_grad()
def test_the_compiled_network_equals_the_eager_one_for_any_mask(make):
    masked = LayerMasking(randomise(make()).eval())
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    visible = holes(SIZE)
    for mask in (visible, visible.flip(2), torch.ones_like(visible), torch.zeros_like(visible)):
        images = torch.where(mask, draw_images(size=SIZE), math.nan)
        torch.testing.assert_close(compiled(images, mask), masked(images, mask), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_a_map_that_is_transposed_in_place_is_refused_in_compiled_code():
    layers = nn.Conv2d(3, 4, 1), Function(lambda x: x.clone().transpose_(2, 3)), nn.AvgPool2d((3, 1))
    masked, batch = LayerMasking(nn.Sequential(*layers).eval()), (draw_images(size=SIZE), holes(SIZE))
    assert masked(*batch).isfinite().all()
    with pytest.raises(
        torch._dynamo.exc.InternalTorchDynamoError,
        match="transpose_ cannot be masked in place; compute it out of place",
    ):
        torch.compile(masked, backend="eager")(*batch)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("options", [{}, {"padding": "mirror", "merge": "union", "detach_padding": False}], ids=str)
def test_the_compiled_training_pass_has_the_gradients_and_statistics_of_the_eager_one(options):
    masked = LayerMasking(randomise(Dense()), **options).train()
    twin, visible = copy.deepcopy(masked), holes(SIZE)
    compiled = torch.compile(masked, fullgraph=True, backend="aot_eager")
    results = []
    for either in (compiled, twin):
        images = draw_images(size=SIZE).requires_grad_()
        logits = either(images, visible)
        logits.square().sum().backward()
        results.append([logits, images.grad, *(parameter.grad for parameter in either.parameters())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masked.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-5)
    assert (results[0][1][~visible.expand(-1, 3, -1, -1)] == 0).all()


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_training_pass_keeps_hardly_more_for_its_backward_pass_than_a_plain_one():
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3, 1, 1, groups=8)]
    layers += [nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU()]
    network = nn.Sequential(*layers).train()
    images, visible = draw_images(size=SIZE), holes(SIZE)

    def kept(call, *inputs):
        answer = torch.compile(call, fullgraph=True, backend="aot_eager_decomp_partition")(*inputs)
        memories = [tensor.untyped_storage() for tensor in answer.grad_fn.saved_tensors if tensor is not None]
        return sum({memory.data_ptr(): memory.nbytes() for memory in memories}.values())

    assert kept(LayerMasking(network), images, visible) < 1.1 * kept(network, images)
