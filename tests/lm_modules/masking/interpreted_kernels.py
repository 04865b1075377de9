"""What `test_kernels` runs in a process of its own, where Triton interprets kernels on the CPU."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from maskrobust.lm_modules.masking import LayerMasking, functional, kernels, morphology
from maskrobust.lm_modules.masking.batch_norm import BatchNorm, masked_batch_norm
from maskrobust.lm_modules.masking.kernels import batch_norm as by_kernels, launching, padding
from maskrobust.lm_modules.masking.kernels.batch_norm import kernel_batch_norm
from tests.lm_modules.masking.small_networks import Branched, Dense

KERNELS = {"_nearest", "_fill", "_zero", "_sum_moments", "_join_moments", "_normalise"}
KERNELS_BACK = {"_sum_gradients", "_differentiate"}


@pytest.fixture(autouse=True)
def large_tiles(monkeypatch):
    """The interpreter takes as long for a large tile as for a small one."""
    monkeypatch.setattr(launching, "ROWS", 4096)
    monkeypatch.setattr(launching, "CHANNELS", 16)
    monkeypatch.setattr(launching, "SPLITS", 2)
    monkeypatch.setattr(padding, "_BLOCK", 1 << 13)


@pytest.fixture
def used(monkeypatch):
    """The names of the kernels that run while masks count as those of a GPU."""
    found: set[str] = set()
    true_launch = launching.launch

    def launch(program, *arguments):
        found.add(program.fn.__name__)
        true_launch(program, *arguments)

    monkeypatch.setattr(launching, "launch", launch)
    monkeypatch.setattr(kernels, "are_on", lambda kind: kind != "meta")
    monkeypatch.setattr("maskrobust.lm_modules.masking.visible_map.can_inspect", lambda _: False)
    monkeypatch.setattr("maskrobust.lm_modules.masking.layer_masking.can_inspect", lambda _: False)
    return found


def draw(*shape, seed=0):
    features = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return features.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else features.mT.contiguous().mT


def with_nan(features, visible):
    return torch.where(visible, features, torch.nan)


def rings_of(visible, rings):
    return padding.RingMap(padding.distances_up_to(rings, visible), rings)


@pytest.mark.parametrize("size", [(1,), (9,), (5, 1), (1, 5), (1, 1), (6, 7), (3, 4, 1), (3, 1, 1), (1, 1, 3)])
def test_distances_are_steps_to_the_nearest_visible_position(size):
    for reach in (1, 4):
        visible = draw(8, 1, *size).abs() < 0.3
        visible[0] = False
        for shown, found in zip(visible[:, 0], padding.distances_up_to(reach, visible)[:, 0], strict=True):
            places = torch.ones_like(shown).nonzero()
            steps = (places[:, None] - shown.nonzero()).abs().amax(2)
            wanted = steps.amin(1) if shown.any() else torch.full((shown.numel(),), reach + 1)
            assert found.flatten().tolist() == wanted.clamp(max=reach + 1).tolist()


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("size", [(13, 10), (1, 5), (1, 1), (31,)])
def test_rings_are_filled_and_zeroed_as_rows_are(size, fraction):
    visible, features = draw(2, 1, *size).abs() < 2 * fraction, draw(2, 20, *size, seed=1)
    for rings in (1, 6):
        plan, rows = rings_of(visible, rings), morphology.PADDINGS["mean"](visible, rings)
        found, wanted = with_nan(features, visible), with_nan(features, visible)
        plan.fill(found)
        rows.fill(wanted)
        assert_close(found, wanted, rtol=0, atol=1e-14, equal_nan=True)
        plan.zero(found)
        rows.zero(wanted)
        assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("affine", ["weight and bias", "bias", "none"])
@pytest.mark.parametrize(("fraction", "offset"), [(0.0, 0), (0.005, 0), (0.5, 1000), (1.0, 0)])
def test_batch_norm_is_that_of_visible_positions(fraction, offset, affine):
    visible, features = draw(3, 1, 9, 11).abs() < 2 * fraction, draw(3, 20, 9, 11, seed=1) + offset
    slope, results = draw(3, 20, 9, 11, seed=2), []
    for norm_by, hidden in ((masked_batch_norm, 0.0), (kernel_batch_norm, torch.nan)):
        x = torch.where(visible, features, hidden).requires_grad_()
        weight, bias = (torch.linspace(low, 2, 20).double().requires_grad_() for low in (0.5, -1))
        settings = weight if affine.startswith("weight") else None, bias if affine.endswith("bias") else None
        mean, variance = torch.zeros(20), torch.ones(20)
        output = norm_by(BatchNorm(mean, variance, *settings, 0.1, 1e-5), x, visible)
        inputs = [x, *(each for each in settings if each is not None)]
        gradients = torch.autograd.grad((output * slope).where(visible, 0).sum(), inputs)
        results.append([output, *gradients, mean, variance])
    for found, wanted in zip(*results[::-1], strict=True):
        tolerance = 1e-6 if found.dtype == torch.float32 else 1e-11 * max(offset, 1) ** 1.5
        assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def six_samples():
    visible = (draw(6, 1, 9, 11) < 0) & (torch.arange(6).view(-1, 1, 1, 1) < 4)
    return visible, draw(6, 20, 9, 11, seed=1) + 3, draw(6, 20, 9, 11, seed=2)


def step_of(norm_by, visible, features, slope, *group):
    x, weight, bias = features.clone().requires_grad_(), torch.linspace(0.5, 2, 20).double(), torch.ones(20).double()
    statistics = torch.zeros(20).double(), torch.ones(20).double()
    inputs = [x, weight.requires_grad_(), bias.requires_grad_()]
    output = norm_by(BatchNorm(*statistics, weight, bias, 0.1, 1e-5), x, visible, *group)
    gradients = torch.autograd.grad((output * slope).where(visible, 0).sum(), inputs)
    return [each.detach() for each in (output, *gradients, *statistics)]


def test_batch_norm_of_several_processes_is_that_of_one(monkeypatch):
    """Of three, the last of which sees nothing. Each is asked until it has heard what the others say.

    Weight and bias get the gradient of the images of a process, of which DDP takes the mean.
    """
    said = {"rows": [torch.zeros(3, 20).double()] * 3, "sums": [torch.zeros(2, 20).double()] * 3}

    def heard(kind, own, rank):
        said[kind][rank] = own
        return torch.stack(said[kind])

    monkeypatch.setattr(by_kernels, "rows_of_processes", lambda own, rank: heard("rows", own, rank - 1))
    monkeypatch.setattr(by_kernels, "sum_of_processes", lambda own, rank: heard("sums", own, rank - 1).sum(dim=0))
    parts = [[each[2 * rank : 2 * rank + 2] for each in six_samples()] for rank in range(3)]
    for _ in range(3):  # moments, then sums of gradients that follow from them, then gradients
        found = [step_of(kernel_batch_norm, *part, rank) for rank, part in enumerate(parts, start=1)]
    output, features, weight, bias, *statistics = zip(*found, strict=True)
    joined = [torch.cat(output), torch.cat(features), sum(weight), sum(bias), *(each[0] for each in statistics)]
    for one, other in zip(joined, step_of(masked_batch_norm, *six_samples()), strict=True):
        assert_close(one, other, rtol=1e-7, atol=1e-7)  # momentum reaches the kernel as float32
    assert all(torch.equal(each[0], other) for each in statistics for other in each[1:])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_running_statistics_move_by_what_has_a_variance_alone(count):
    mean, variance, visible = torch.zeros(20), torch.ones(20), (torch.arange(99) < count).reshape(1, 1, 9, 11)
    kernel_batch_norm(BatchNorm(mean, variance, None, None, 0.1, 1e-5), draw(1, 20, 9, 11), visible)
    assert (mean == 0).all() == (variance == 1).all() == (count < 2)


@pytest.mark.parametrize("name", ["normalise", "pad"])
def test_gradients_have_those_of_the_cpu(name):
    visible, weight = draw(2, 1, 5, 4) < 0, draw(3, 3, 3, 3, seed=1).requires_grad_()
    norm, results = BatchNorm(None, None, draw(3, 1, 1, 1)[:, 0, 0, 0], None, 0.1, 1e-5), []
    plans = morphology.PADDINGS["mean"](visible, 1), rings_of(visible, 1)
    for plan, norm_by in zip(plans, (masked_batch_norm, kernel_batch_norm), strict=True):
        x, bias = draw(2, 3, 5, 4).requires_grad_(), torch.zeros(3, 1, 1).double().requires_grad_()
        shown = functional.hide(x, visible) + bias
        between = norm_by(norm, shown, visible) if name == "normalise" else morphology.pad_rows(shown, plan)
        loss = torch.nn.functional.conv2d(between, weight).square().sum()
        gradients = torch.autograd.grad(loss, [x, bias], create_graph=True)
        results.append(torch.autograd.grad(sum(each.square().sum() for each in gradients), [x, bias, weight]))
    for found, wanted in zip(*results, strict=True):
        assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def answers(network, images, visible):
    """Of a pass with gradients, and in eval mode of one without, which changes features in place."""
    masked, images = LayerMasking(network), images.clone().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = masked(images, visible)
    inputs = [images, *network.parameters()]
    found = [logits, *torch.autograd.grad(logits.square().sum(), inputs, allow_unused=True), *network.buffers()]
    with torch.inference_mode():
        return found if network.training else [*found, masked(images, visible)]


def small_images():
    """Of 32 x 32 pixels, of which the last of five convolutions makes 1 x 1."""
    ahead = [nn.Conv2d(3, 20, 3, 2, 1), nn.BatchNorm2d(20), nn.ReLU()]
    behind = [layer for _ in range(4) for layer in (nn.Conv2d(20, 20, 3, 2, 1), nn.BatchNorm2d(20), nn.ReLU())]
    return nn.Sequential(*ahead, *behind, nn.Flatten())


def surrounded():
    """Zeros around a map, of which a batch norm makes something else, and the border of a 1 x 1 convolution."""
    ahead = [nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ZeroPad2d(1)]
    behind = [nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1, padding=1), nn.Sigmoid(), nn.Conv2d(4, 4, 3)]
    return nn.Sequential(*ahead, *behind, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("make", "side", "train"),
    [
        (Dense, 40, False),
        (Dense, 40, True),
        (Branched, 40, True),
        (small_images, 32, True),
        (surrounded, 24, True),
    ],
)
def test_networks_answer_as_on_the_cpu(make, side, train, request):
    torch.manual_seed(0)
    network = make().double().train(train)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    cells = draw(3, 1, side // 8, side // 8).gt(0).repeat_interleave(8, 2).repeat_interleave(8, 3)
    images, visible = draw(3, 3, side, side), cells & torch.tensor([True, True, False]).reshape(3, 1, 1, 1)
    wanted = answers(network, images, visible)
    network.load_state_dict(state)
    used = request.getfixturevalue("used")
    found = answers(network, with_nan(images, visible), visible)
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            scale = other.detach().abs().max().clamp(min=1e-3)
            assert_close(one / scale, other / scale, rtol=0, atol=1e-6 if one.ndim < 2 else 1e-9)
    assert used == (KERNELS | KERNELS_BACK if train else {"_nearest", "_fill", "_zero"})


def test_compiled_code_fills_rings_by_kernels_too(used):
    visible, features = draw(2, 1, 9, 8) < 0.3, draw(2, 5, 9, 8, seed=1)
    found = morphology.pad_in_run(with_nan(features, visible), visible, None, 2, "mean")
    wanted = with_nan(features, visible)
    morphology.PADDINGS["mean"](visible, 2).fill(wanted)
    assert_close(found, wanted, rtol=0, atol=1e-14, equal_nan=True)
    assert used == {"_nearest", "_fill"}
