"""Batch norm over visible positions, against `torch.nn.functional.batch_norm` on positions picked by hand."""

import copy
from contextlib import ExitStack

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from maskrobust.lm_modules.masking.batch_norm import (
    VisibleFraction,
    fused_batch_norm,
    masked_batch_norm,
    native_batch_norm,
)
from maskrobust.lm_modules.masking.morphology import row_indices
from tests.lm_modules.masking.cases import MEMORY_FORMATS, draw_features, draw_visible
from tests.processes import started

CHANNELS = 3
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
BOTH_PATHS = pytest.mark.parametrize("path", ["moments", "fused", "native"])


def draw_module(kind=nn.BatchNorm2d, **options):
    module = kind(CHANNELS, **options)
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), module.running_mean, module.running_var]:
        if tensor is not None:
            tensor.data.copy_(0.5 + torch.rand(CHANNELS, generator=generator))
    return module


def normalise(path, module, features, visible):
    if path == "fused":
        return fused_batch_norm(module, features, visible.flatten(2).float(), row_indices(~visible))
    if path == "native":
        return native_batch_norm(module, features, VisibleFraction.of(visible, features.dtype))
    return masked_batch_norm(module, features, visible)


def picked(features, visible):
    """(N, C) features at visible positions."""
    return features.permute(0, 2, 3, 1)[visible[:, 0]]


def by_hand(module, features, visible):
    """(N, C) normalised features; the copy of the module that computes them is updated."""
    tracks = module.training and module.track_running_stats
    if tracks:
        module.num_batches_tracked += 1
    momentum = 1.0 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    means = (module.running_mean, module.running_var) if module.track_running_stats else (None, None)
    return F.batch_norm(
        picked(features, visible), *means, module.weight, module.bias, training=True, momentum=momentum, eps=module.eps
    )


@BOTH_PATHS
@pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [(torch.float64, torch.contiguous_format), (torch.float32, torch.channels_last)],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.7, "eps": 0.1}, {"track_running_stats": False}, {"affine": False}],
    ids=str,
)
def test_outputs_statistics_and_gradients_are_those_of_the_visible_positions(
    path: str, dtype: torch.dtype, memory_format: torch.memory_format, options: dict
) -> None:
    module = draw_module(**options).to(dtype)
    expected_module, visible = copy.deepcopy(module), draw_visible(5, 6)
    slope = draw_features(int(visible.sum()), CHANNELS, 1, 1, dtype, seed=9)[:, :, 0, 0]
    for step in range(2):
        features = 3 + draw_features(6, CHANNELS, 5, 6, dtype, seed=step).contiguous(memory_format=memory_format)
        leaf, expected_leaf = features.clone().requires_grad_(), features.clone().requires_grad_()
        output = picked(normalise(path, module, leaf, visible), visible)
        expected = by_hand(expected_module, expected_leaf, visible)
        torch.testing.assert_close(output, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        gradients = torch.autograd.grad((output * slope).sum(), [leaf, *module.parameters()])
        references = torch.autograd.grad((expected * slope).sum(), [expected_leaf, *expected_module.parameters()])
        for gradient, reference in zip(gradients, references, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, expected_module.get_buffer(name), rtol=1e-5, atol=1e-6)


@BOTH_PATHS
@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_a_mean_of_a_thousand_standard_deviations_costs_no_digits(
    path: str, memory_format: torch.memory_format
) -> None:
    if path == "native" and memory_format == torch.channels_last:
        pytest.skip("torch's own kernel on a CPU loses these digits; those of accelerators do not (Welford)")
    visible = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.5
    features = 1000 + draw_features(8, CHANNELS, 28, 28).mul(3**0.5).float().contiguous(memory_format=memory_format)
    slope = draw_features(int(visible.sum()), CHANNELS, 1, 1, seed=1)[:, :, 0, 0]
    leaf, exact_leaf = features.clone().requires_grad_(), features.double().requires_grad_()
    module, exact_module = draw_module(), draw_module().double()
    output, expected = normalise(path, module, leaf, visible), by_hand(exact_module, exact_leaf, visible)
    rounding = 1000 * torch.finfo(torch.float32).eps
    difference = (picked(output, visible) - expected).abs().max()
    assert difference < 2 * rounding * module.weight.max()
    (gradient,) = torch.autograd.grad((picked(output, visible) * slope).sum(), leaf)
    (exact_gradient,) = torch.autograd.grad((expected * slope).sum(), exact_leaf)
    assert (gradient - exact_gradient).abs().max() < rounding * exact_gradient.abs().max() / 3
    assert (module.running_var / exact_module.running_var - 1).abs().max() < 1e-6
    assert (module.running_mean / exact_module.running_mean - 1).abs().max() < 1e-6


SPLITS = {  # visible positions of four samples, the first two on rank 0
    "many and few": [20, 7, 1, 2],
    "one rank sees nothing": [5, 9, 0, 0],
    "no rank sees anything": [0, 0, 0, 0],
}


def whole_batch(counts, *, momentum):
    visible = (torch.arange(20) < torch.tensor(counts)[:, None]).reshape(4, 1, 4, 5)
    features, slope = (2 + draw_features(4, CHANNELS, 4, 5, seed=seed) for seed in (0, 1))
    return draw_module(nn.SyncBatchNorm, momentum=momentum).double(), features, visible, slope


def outcome(module, features, visible, slope):
    leaf = features.clone().requires_grad_()
    output = torch.where(visible, masked_batch_norm(module, leaf, visible), 0)
    gradient, weight, bias = torch.autograd.grad((output * slope).sum(), [leaf, module.weight, module.bias])
    return {
        "output": output.detach(),
        "gradient": gradient,
        "weight": weight,
        "bias": bias,
        **dict(module.named_buffers()),
    }


def run_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = []
    for counts in SPLITS.values():
        for momentum in (0.1, None):
            module, *tensors = whole_batch(counts, momentum=momentum)
            results.append(outcome(module, *(tensor[2 * rank : 2 * rank + 2] for tensor in tensors)))
    torch.save(results, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    with ExitStack() as stack:
        processes = [stack.enter_context(started(run_rank, rank, str(tmp_path))) for rank in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    settings = [(counts, momentum) for counts in SPLITS.values() for momentum in (0.1, None)]
    for (counts, momentum), first, second in zip(settings, *ranks, strict=True):
        expected = outcome(*whole_batch(counts, momentum=momentum))
        joined = {name: torch.cat([first[name], second[name]]) for name in ("output", "gradient")}
        summed = {name: first[name] + second[name] for name in ("weight", "bias")}
        buffers = {name: first[name] for name in ("running_mean", "running_var", "num_batches_tracked")}
        assert all(torch.equal(second[name], buffer) for name, buffer in buffers.items())
        for name, tensor in {**joined, **summed, **buffers}.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_processes_are_joined_in_training_mode_alone(training, monkeypatch):
    joined = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda _group: 1)
    monkeypatch.setattr(dist, "all_gather", lambda rows, tensor, **_: joined.append(rows[0].copy_(tensor)))
    module = draw_module(nn.SyncBatchNorm, track_running_stats=False).train(training)
    masked_batch_norm(module, draw_features(6, CHANNELS, 4, 5, torch.float32), draw_visible(4, 5))
    assert len(joined) == training  # once a layer
