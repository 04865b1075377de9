"""Images of several sizes in one batch: each is answered as if it were alone."""

import copy
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import create_conv2d
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.pool2d_same import MaxPool2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError, layer_masking
from maskrobust.lm_modules.masking.sizes import joined
from tests.lm_modules.masking.cases import OPTIONS, Function, assert_close, tensors_of
from tests.lm_modules.masking.dense_networks import ContextNet
from tests.lm_modules.masking.networks import randomise, seeded
from tests.lm_modules.masking.operations import ALONE, WINDOWED
from tests.lm_modules.masking.small_networks import SMALL_NETWORKS, Branched

SIZES = torch.tensor([(32, 48), (40, 32), (36, 64), (40, 32)])
"""Multiples of 4, which the networks need; no image fills the canvas."""
SMALL = torch.tensor([(9, 11), (8, 11), (9, 6), (9, 6)])


def draw_batch(sizes: Tensor, channels: int = 3, *, holes: bool) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """A canvas with NaN beyond the images, and what is visible of it; the images alone, and what is visible of each.

    Holes touch the rim below and on the right, and lie close to corners; the second image has none.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = (sizes.amax(0) + torch.tensor([1, 3])).tolist()
    canvas = torch.full((len(sizes), channels, height, width), math.nan, dtype=torch.float64)
    visible = torch.ones(len(sizes), 1, height, width, dtype=torch.bool)
    for at, (rows, columns) in enumerate(sizes.tolist()):
        canvas[at, :, :rows, :columns] = torch.randn(channels, rows, columns, generator=generator, dtype=torch.float64)
        if holes and at != 1:
            visible[at, :, rows // 3 : rows // 2, columns // 2 :] = False
            visible[at, :, -(-rows * 7 // 8) : rows, : columns // 3] = False
            visible[at, :, 0, columns - 1] = at % 2 == 0
    cut = [(at, slice(None), slice(rows), slice(columns)) for at, (rows, columns) in enumerate(sizes.tolist())]
    return canvas, visible, [canvas[each][None] for each in cut], [visible[each][None] for each in cut]


def assert_as_alone(network: nn.Module, sizes: Tensor, *, holes: bool, channels: int = 3, **options: Any) -> None:
    """Outputs, and gradients at images and parameters, are those of the images one by one, in float64."""
    network = copy.deepcopy(network).double()
    masked, batch = LayerMasking(network, **options), draw_batch(sizes, channels, holes=holes)
    canvas, visible, images, shown = batch
    canvas.requires_grad_()
    for each in images:
        each.requires_grad_()
    outputs = masked.each(canvas, visible if holes else None, sizes=sizes)
    alone = [masked(each, seen) if holes else network(each) for each, seen in zip(images, shown, strict=True)]
    for one, other in zip(tensors_of(outputs), tensors_of(alone), strict=True):
        assert_close(one, other, 1e-9)
    gradients = []
    for given, answers in ((canvas, outputs), (images, alone)):
        network.zero_grad()
        sum(each.square().sum() for each in tensors_of(answers)).backward()
        if given is canvas:
            of_images = [canvas.grad[at, :, :h, :w] for at, (h, w) in enumerate(sizes.tolist())]
        else:
            of_images = [each.grad[0] for each in images]
        gradients.append([*of_images, *(each.grad for each in network.parameters() if each.grad is not None)])
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other, 1e-7, "a gradient")
    assert canvas.grad is not None and not canvas.grad[canvas.isnan()].any()


@pytest.mark.parametrize("holes", [False, True])
def test_maps_come_with_their_visible_positions_and_the_size_of_each_image_alone(holes):
    network = seeded(lambda: randomise(ContextNet())).double().eval()
    masked, (canvas, visible, images, shown) = LayerMasking(network), draw_batch(SIZES, holes=holes)
    found = masked.maps(canvas, visible if holes else None, sizes=SIZES)
    for at, (image, seen) in enumerate(zip(images, shown, strict=True)):
        alone, coverage = masked(image, seen), masked.coverage(seen)
        for each, map_alone, covered in (
            (found["maps"][1], alone["maps"][1], coverage["maps"][1]),
            (found["wide"][0], alone["wide"][0], coverage["wide"][0]),
        ):
            height, width = each.sizes[at]
            assert (height, width) == map_alone.shape[2:]
            assert_close(each.features[at : at + 1, :, :height, :width], map_alone, 1e-9)
            assert torch.equal(each.visible[at : at + 1, :, :height, :width], covered > 0)
            assert each.visible[at].sum() == (covered > 0).sum()


def test_maps_of_whole_images_are_visible_everywhere_and_other_tensors_stay_as_they_are():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images, everything = torch.rand(2, 3, 8, 9), torch.ones(2, 1, 8, 9, dtype=torch.bool)
    found = LayerMasking(network[0]).eval().maps(images, everything)
    assert torch.equal(found.features, network[0](images))
    assert found.visible.shape == (2, 1, 6, 7) and found.visible.all() and found.sizes.tolist() == [[6, 7], [6, 7]]
    assert torch.equal(LayerMasking(network).eval().maps(images, everything), network(images))


@pytest.mark.parametrize("make", SMALL_NETWORKS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("options", [None, OPTIONS[1]], ids=["whole", "others"])
def test_each_image_is_answered_as_if_alone(make, options):
    network = seeded(lambda: randomise(make())).eval()
    assert_as_alone(network, SIZES, holes=options is not None, **(options or {}))


NOT_ALONE = {
    "F.pixel_unshuffle", "space to depth",  # of these sizes refused by torch
    "squeeze, average of all",  # a map of one position that is enlarged again
    "batch norm without statistics",  # takes those of the batch
    "flatten", "torch.flatten", "view", "torch.reshape",  # vectors of several lengths
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "holes"),
    [
        (name, holes)
        for name in {**ALONE, **WINDOWED}
        for holes in ([False, True] if name in WINDOWED else [True])
        if name not in NOT_ALONE
    ],
)
def test_each_operation_computes_each_size_as_if_alone(name, holes):
    operation = {**ALONE, **WINDOWED}[name]
    module = operation if isinstance(operation, nn.Module) else Function(operation)
    assert_as_alone(module.eval(), SMALL, holes=holes, channels=6 if name in ALONE else 4)


@pytest.mark.parametrize(
    "largest",
    [nn.AdaptiveMaxPool2d(1), Function(lambda x: x.amax((2, 3))), nn.MaxPool2d(3, 2, 1), MaxPool2dSame(3, 2)],
    ids=["bin", "amax", "pool", "same"],
)
def test_no_zero_from_outside_is_the_largest_of_negative_features(largest):
    assert_as_alone(nn.Sequential(nn.LogSigmoid(), largest), SMALL, holes=False)


def test_padding_by_as_many_positions_as_there_are_images_is_that_of_each_image():
    same = create_conv2d(3, 4, 4, stride=2, padding="same")  # by 1 and 2 positions
    assert_as_alone(nn.Sequential(same, nn.ReLU()), torch.tensor([(5, 8), (5, 5)]), holes=True)


@torch.no_grad()
def test_what_lies_beyond_or_is_hidden_changes_no_bit():
    masked = LayerMasking(seeded(lambda: randomise(Branched())).double().eval())
    canvas, visible, _, _ = draw_batch(SIZES, holes=True)
    inside = visible & ~canvas[:, :1].isnan()
    expected = masked(canvas, visible, sizes=SIZES)
    for value in (0.0, 9.0, math.inf):
        redrawn = torch.where(inside, canvas, value)
        assert torch.equal(masked(redrawn, inside, sizes=SIZES), expected)
    larger = F.pad(canvas, (0, 5, 0, 7), value=3.0)
    assert torch.equal(masked(larger, F.pad(visible, (0, 5, 0, 7)), sizes=SIZES), expected)


class Lists:
    """A network over a list of images, as a reference: batch norm takes all positions of all images together."""

    def __init__(self, layers: nn.Sequential) -> None:
        self.layers = layers

    def __call__(self, images: list[Tensor]) -> Tensor:
        for layer in self.layers:
            if not isinstance(layer, nn.BatchNorm2d):
                images = [layer(each) for each in images]
                continue
            joined = torch.cat([each.flatten(2)[0] for each in images], 1)[None, :, None]
            parts = layer(joined)[:, :, 0].split([each[0, 0].numel() for each in images], 2)
            images = [part.unflatten(2, each.shape[2:]) for part, each in zip(parts, images, strict=True)]
        return torch.cat(images)


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.SyncBatchNorm])
def test_training_takes_the_statistics_of_all_positions_of_all_images(norm, asks):
    def layers(norm: Callable[[int], nn.Module]) -> nn.Sequential:
        convs = (
            nn.Conv2d(3, 8, 5, 2, 2),
            norm(8),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            Function(lambda x: x * (x.shape[2] / 10)) if asks else nn.Identity(),
            nn.Conv2d(8, 8, 3, 1, 1),
        )
        return nn.Sequential(*convs, norm(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).double()

    network, other = seeded(lambda: layers(norm)), layers(nn.BatchNorm2d)
    other.load_state_dict(network.state_dict())
    canvas, _, images, _ = draw_batch(SIZES, holes=False)
    output, expected = LayerMasking(network)(canvas, sizes=SIZES), Lists(other)(images)
    assert_close(output, expected, 1e-9)
    for each in (output, expected):
        each.square().sum().backward()
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert_close(one.grad, two.grad, 1e-7)
    for one, two in zip(network.buffers(), other.buffers(), strict=True):
        assert_close(one, two, 1e-9)


def once_more(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    return norm(conv(x)) if x.shape[2] > 8 else conv(x)


def computed_again(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    return torch.utils.checkpoint.checkpoint(lambda x: norm(conv(x)) * x.shape[2], x, use_reentrant=False)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (once_more, "call batch norm equally often"),
        (computed_again, "a checkpoint computes the images of one size again"),
        (lambda x, conv, norm: norm(conv(x.view(-1, 3, x.shape[2], 9))), "cannot compute the images of 8 x 11 pixels"),
    ],
)
def test_batch_norm_that_cannot_wait_for_all_sizes_is_refused_and_leaves_no_thread(forward, message):
    network, before = Function(forward, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double(), threading.active_count()
    canvas, _, _, _ = draw_batch(SMALL, holes=False)
    with pytest.raises(UnsupportedNetworkError, match=message):
        LayerMasking(network)(canvas, sizes=SMALL).sum().backward()
    assert threading.active_count() == before


def test_images_of_one_size_are_the_plain_network_and_may_lie_on_a_larger_canvas():
    network = seeded(SMALL_NETWORKS[0]).eval()
    images, canvas = torch.randn(2, 3, 32, 40), torch.full((2, 3, 50, 60), math.nan)
    canvas[:, :, :32, :40] = images
    assert torch.equal(LayerMasking(network)(canvas, sizes=torch.tensor([(32, 40)] * 2)), network(images))


def own_kernels(x: Tensor, conv: nn.Module, route: nn.Module) -> Tensor:
    """A kernel for each image, and padding as much as its size asks for, in one module of timm."""
    assert x.shape[1] == 3
    return conv(x, route(x.mean((2, 3))).sigmoid()).mean((2, 3))


def test_a_kernel_for_each_image_is_that_of_each_image():
    conv = seeded(lambda: CondConv2d(3, 4, 3, 2, "same", bias=True, num_experts=2))
    network = Function(own_kernels, conv, seeded(lambda: nn.Linear(3, 2))).eval()
    assert_as_alone(network, torch.tensor([(13, 16), (14, 15), (15, 14), (16, 13)]), holes=True)


def blurred(x: Tensor, stem: nn.Module, conv: nn.Module, shortcut: nn.Module) -> Tensor:
    """A branch with reflection, which is computed for each size, beside one without."""
    x = stem(x)
    return (conv(x).relu() + shortcut(x)).mean((2, 3))


def test_images_that_have_become_equally_large_may_be_added_to_what_is_computed_for_each_size():
    convs = nn.Conv2d(3, 4, 7, 4, 3), nn.Conv2d(4, 4, 3, 2, 1, padding_mode="reflect"), nn.Conv2d(4, 4, 1, 2)
    network, sizes = Function(blurred, *convs).eval(), torch.tensor([(13, 16), (14, 15), (16, 13), (13, 16)])
    for holes in (False, True):
        assert_as_alone(network, sizes, holes=holes)
        assert_as_alone(network, sizes + torch.tensor([[0, 0], [0, 4], [0, 0], [4, 0]]), holes=holes)


def test_compiled_code_answers_alike_and_refuses_a_network_that_asks_for_sizes():
    canvas, sizes = torch.randn(4, 3, 40, 64), SIZES.clone()
    network = seeded(lambda: randomise(Branched())).eval()
    scales = ending(lambda x: (x * (x.shape[2] / 10)).mean((2, 3))).eval()
    compiled = torch.compile(LayerMasking(network), backend="eager", fullgraph=True)
    for given in (sizes, sizes.flip(0)):
        torch.testing.assert_close(compiled(canvas, sizes=given), LayerMasking(network)(canvas, sizes=given))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="asks how large its features are"):
        torch.compile(LayerMasking(scales), backend="eager", fullgraph=True)(canvas, sizes=sizes)
    assert_as_alone(scales, SMALL, holes=True)


@pytest.mark.parametrize(
    ("height", "message"), [(7, "operands of one size for each image"), (1, "images that are large")]
)
def test_a_size_that_the_network_alone_cannot_take_fails_in_eager_and_in_compiled_code(height, message):
    branches = nn.Conv2d(3, 4, 1, 2), nn.Conv2d(3, 4, 2, 2)  # of one size on a canvas, but not for each image
    network = Function(lambda x, one, two: (one(x) + two(x)).mean((2, 3)), *branches).eval()
    masked, canvas = LayerMasking(network), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(masked, backend="eager", fullgraph=True)
    sizes = torch.tensor([(8, 8), (6, 4)])
    torch.testing.assert_close(compiled(canvas, sizes=sizes), masked(canvas, sizes=sizes))
    sizes[1, 0] = height
    with pytest.raises(UnsupportedNetworkError, match=message):
        masked(canvas, sizes=sizes)
    with pytest.raises(RuntimeError, match=message):
        compiled(canvas, sizes=sizes)


class TimesSize(nn.Identity):
    """Takes features, and their height, which an identity passes over."""

    def forward(self, x: Tensor, height: int) -> Tensor:
        return x * height


class Headed(nn.Module):
    """Asks for the size, and hands it to a head that does not need it."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(x.mean((2, 3)), x.shape[2])


class WithoutSize(nn.Identity):
    """Likewise, without it."""

    def forward(self, x: Tensor, _height: int) -> Tensor:
        return x


def test_whether_all_sizes_go_together_is_asked_anew_once_a_part_is_another():
    masked, (canvas, _, images, _) = LayerMasking(Headed(WithoutSize()).double().eval()), draw_batch(SMALL, holes=False)
    for head in (nn.Sequential(WithoutSize()), TimesSize()):
        masked.network.head = head[0] if isinstance(head, nn.Sequential) else head.eval()
        assert_close(masked(canvas, sizes=SMALL), torch.cat([masked.network(each) for each in images]), 1e-9)


class AddsMeanOfRows(nn.Module):
    """Broadcasts a map one row high, where the map is higher than that, for which no rule takes all sizes together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=8, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x + x.mean(2, keepdim=True)).square().mean((2, 3))


def test_whether_all_sizes_go_together_is_asked_anew_for_a_map_of_another_size(monkeypatch):
    network, asked = AddsMeanOfRows().double().eval(), []
    masked = LayerMasking(network)
    monkeypatch.setattr(layer_masking, "joined", lambda outputs, rows: asked.append(len(rows)) or joined(outputs, rows))
    for sizes in ([(8, 24), (8, 16)], [(32, 24), (16, 24)], [(8, 24), (8, 16)]):
        canvas, _, images, _ = draw_batch(torch.tensor(sizes), holes=False)
        alone = torch.cat([network(each) for each in images])
        assert_close(masked(canvas, sizes=torch.tensor(sizes)), alone, 1e-9)
    assert asked == [2], "images of one height in one pass, the others by themselves"


@pytest.mark.parametrize(
    "name",
    [
        "conv {'kernel_size': 2, 'padding': 'same', 'dilation': 3}", "transposed {'kernel_size': 2, 'stride': 3, "
        "'output_padding': 1}", "blur, even", "zeros ahead, twice", "zeros on one side, a pool", "F.pad",
    ],
)  # fmt: skip
def test_what_a_network_frames_goes_together(name, monkeypatch):
    operation = {**ALONE, **WINDOWED}[name]
    masked = LayerMasking((operation if isinstance(operation, nn.Module) else Function(operation)).double().eval())
    canvas, visible, *_ = draw_batch(SMALL, 6 if name in ALONE else 4, holes=True)
    monkeypatch.setattr(layer_masking, "joined", None)  # of what has been computed for each size
    masked(canvas, visible, sizes=SMALL)


# --- refusals ---------------------------------------------------------------------------------------------------------


class Embeds(nn.Module):
    """Adds a value for each position."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.make = nn.Conv2d(3, 4, 3, padding=1), make
        self.embedding = nn.Parameter(torch.randn(1, 4, 9, 11))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (x + self.make(x, self.embedding)).mean((2, 3))


def blurred_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.interpolate(x.mean((2, 3), keepdim=True), size=x.shape[2:]), 3, 1, 1)


def ending(function: Callable[..., Any], layers: int = 1) -> nn.Module:
    """A network that makes of features, and maybe further layers, what a function says."""
    convolutions = [nn.Conv2d(3 if index == 0 else 4, 4, 3, padding=1) for index in range(layers)]
    return seeded(lambda: Function(lambda x, first, *others: function(first(x), *others), *convolutions))


OUTSIDE = {size: torch.full((1, 4, 1, 1), size / 9.0) for size in (8, 9)}
"""A constant for each height, which no network holds."""
OUTSIDE_STATISTICS = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)

BY_SIZE: dict[str, nn.Module] = {
    "a sum over a number of positions": ending(lambda x: x.sum((2, 3)) / (x.size(2) * x.size(3))),
    "a constant from outside": ending(lambda x: (x * OUTSIDE[x.shape[2]]).mean((2, 3))),
    "a filled tensor": ending(lambda x: x * x.new_full((1, 4, 1, 1), x.shape[2])),
    "another answer": ending(lambda x: [x.mean((2, 3)), x.amax((2, 3))][x.shape[2] > 8]),
    "another layer's weights": ending(lambda x, a, b: (a if x.shape[2] > 8 else b)(x).mean((2, 3)), 3),
    "as many parts as fit": ending(lambda x: x.split(8, 2)[:1][0].mean((2, 3))),
    "another branch": ending(lambda x: (x.tanh() if x.shape[2] > 8 else x.sigmoid()).mean((2, 3))),
    "coordinates": Embeds(lambda x, _: torch.arange(x.shape[3]) / 9),
    "as large as the batch": Embeds(lambda x, _: torch.zeros_like(x).mean()),
    "windows over what was pooled": Embeds(lambda x, _: blurred_mean(x)),
    "bins": nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
    "vectors of several lengths": nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()),
    "tokens that attend": ending(lambda x: F.scaled_dot_product_attention(*[x.flatten(2).mT] * 3).mean(1)),
}  # fmt: skip
"""Networks that do something else for each size, or that no rule computes for all of them together."""


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", BY_SIZE)
def test_what_depends_on_the_size_is_computed_for_the_images_of_each_size_alone(name, holes):
    assert_as_alone(BY_SIZE[name].eval(), SMALL, holes=holes and name != "a sum over a number of positions")


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "a slice with nothing": (ending(lambda x: x[..., 8:].amax((2, 3))), "of some image of the batch nothing is left"),
    "a crop with nothing": (
        ending(lambda x: F.pad(x, (-4, -4, 0, 0)).mean((2, 3))), "cannot compute the images of 9 x 6 pixels",
    ),
    "statistics of the batch": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), "norm with running statistics",
    ),
    "statistics of the batch after a pool to one size": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(2), nn.BatchNorm2d(4, track_running_stats=False)),
        "norm with running statistics",
    ),
    "statistics of the batch by a function": (
        ending(lambda x: F.batch_norm(x, *OUTSIDE_STATISTICS, training=True) * x.shape[2]), "in training mode alone",
    ),
    "an embedding": (Embeds(lambda _, own: own), "cannot compute the images of 8 x 11 pixels"),
    "vectors of several lengths": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "are no batch; use `each`"),
    "another number of answers": (ending(lambda x: [x] * x.shape[2]), "returns depends on the size"),
    "another answer": (ending(lambda x: (x, x.shape[2])), "returns 8, 9 for images of several sizes"),
    "an image too small": (nn.Sequential(nn.Conv2d(3, 4, 9), nn.ReLU()), "of image 1 of the batch nothing is left"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_sizes_that_a_network_cannot_answer_are_refused_in_one_sentence(name):
    network, message = REFUSED[name]
    masked = LayerMasking(network.double().eval())
    canvas, _, _, _ = draw_batch(SMALL, holes=False)
    with pytest.raises(UnsupportedNetworkError, match=message):
        masked(canvas, sizes=SMALL)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([[8, 8], [8, 8]], TypeError, "int64 tensor"),
        (torch.ones(2, 2), TypeError, "got torch.float32"),
        (torch.ones(3, 2, dtype=torch.int64), InputError, "of 2 images"),
        (torch.tensor([(8, 8), (8, 0)]), InputError, "got 8 x 0 for image 1"),
        (torch.tensor([(9, 8), (8, 8)]), InputError, "got 9 x 8 for image 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, error, message):
    with pytest.raises(error, match=message):
        LayerMasking(nn.Conv2d(3, 4, 3))(torch.zeros(2, 3, 8, 8), sizes=sizes)


def test_each_refuses_plain_tensors_whose_first_axis_is_not_that_of_the_images():
    masked = LayerMasking(Function(lambda x, own: own(x).transpose(0, 1).mean((2, 3)), nn.Conv2d(3, 5, 3)).double())
    canvas, visible, *_ = draw_batch(SMALL, holes=True)
    with pytest.raises(UnsupportedNetworkError, match=r"4 images on the first axis, .* returns one of shape \(5, 4\)"):
        masked.each(canvas, visible, sizes=SMALL)
