"""What layer masking costs: time and memory over the plain network's, by network, mask, and eval or training."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from maskrobust.augment import patches, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.architectures import build_network
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.train.bench.timing import alternate, count_waits, median_ratio, peak_memory

Precision = Literal["32", "bf16"]

IMAGE_SIZE = 224
NETWORKS = ("resnet50", "efficientnet_b0", "convnext_tiny")
COMMON_MASKS = ("all visible", "object hidden", "half of the patches")
SMALL_AREAS = ("box of 80 x 80", "a tenth of the patches")
"""Masks that leave little visible, for the engine whose cost follows the visible area."""


def draw_mask(name: str, batch: int) -> Tensor:
    """One of the masks by name, (B, 1, 224, 224) bool."""
    row, column = torch.meshgrid(torch.arange(IMAGE_SIZE), torch.arange(IMAGE_SIZE), indexing="ij")
    keys = sample_keys(0, torch.arange(batch))
    match name:
        case "all visible":
            visible = torch.ones(IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
        case "object hidden":  # an ellipse over a quarter of the image
            visible = ((row - 112) / 56).square() + ((column - 112) / 71).square() > 1
        case "box of 80 x 80":
            visible = (row >= 72) & (row < 152) & (column >= 72) & (column < 152)
        case "half of the patches" | "a tenth of the patches":
            fraction = 0.5 if name == "half of the patches" else 0.9
            return patches(keys, IMAGE_SIZE, IMAGE_SIZE, hidden_fraction=(fraction, fraction), patch_size=16)
        case _:
            raise InputError(f"there is no mask '{name}'; name one of {', '.join(COMMON_MASKS + SMALL_AREAS)}.")
    return visible.expand(batch, 1, -1, -1)


def measure_masking(
    networks: Sequence[str],
    batch: int,
    rounds: int,
    device: torch.device,
    precision: Precision = "32",
    *,
    compiles: bool = False,
) -> Iterator[dict[str, Any]]:
    """One row for each network, mode and mask.

    Args:
        networks: by the names that `build_network` takes.
        batch: images in a batch.
        rounds: alternating runs behind each ratio.
        device: what is measured.
        precision: "bf16" for bfloat16 by autocast.
        compiles: whether all networks go through `torch.compile`, the plain ones too.

    Yields:
        network, mode ("eval" or "training step"), mask, hidden (fraction of pixels), positions (fraction of those
        inside that are visible: the mean over convolutions), engine, seconds of the plain network, time and memory as
        ratios over it, and waits (times that Python waits for a CUDA device in one call, None elsewhere).
    """
    cases = [(network, mode) for network in networks for mode in ("eval", "training step")]
    make = partial(_make, batch=batch, device=device, precision=precision, compiles=compiles)
    memory = {
        (network, mode, mask): peak_memory(partial(make, network, mode, mask), device)
        for network, mode in cases
        for mask in (None, *_masks(network, mode))
    }
    for network, mode in cases:
        masks = _masks(network, mode)
        functions = {mask: make(network, mode, mask) for mask in (None, *masks)}
        seconds = alternate({str(mask): function for mask, function in functions.items()}, rounds, device)
        plain = seconds["None"]
        for mask in masks:
            visible = draw_mask(mask, batch)
            yield {
                "network": network,
                "mode": mode,
                "mask": mask,
                "hidden": 1.0 - visible.double().mean().item(),
                "positions": visible_positions(network, visible),
                "plain_seconds": sorted(plain)[len(plain) // 2],
                "time": median_ratio(seconds[mask], plain),
                "memory": memory[network, mode, mask] / memory[network, mode, None],
                "waits": count_waits(functions[mask], device),
            }


def visible_positions(network: str, visible: Tensor) -> float:
    """Share of positions that are visible inside a network, as a mean over its convolutions."""
    masked = LayerMasking(build_network(network, 1000).eval())
    rows = masked.plan(torch.zeros(len(visible), 3, IMAGE_SIZE, IMAGE_SIZE), visible)
    fractions = [row.visible_fraction for row in rows if row.rule == "convolution" and row.visible_fraction is not None]
    return sum(fractions) / len(fractions)


def _masks(network: str, mode: str) -> tuple[str, ...]:
    return COMMON_MASKS + SMALL_AREAS if network == "resnet50" and mode == "eval" else COMMON_MASKS


def _make(
    network: str,
    mode: str,
    mask: str | None,
    batch: int,
    device: torch.device,
    precision: Precision,
    *,
    compiles: bool,
) -> Callable[[], object]:
    """One forward pass, or one training step, of a network under a mask; None for the plain network."""
    torch.manual_seed(0)
    plain = build_network(network, 1000).to(device)
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch, device=device)
    module = plain if mask is None else LayerMasking(plain)
    inputs = (images,) if mask is None else (images, draw_mask(mask, batch).to(device))
    module.train(mode != "eval")
    call = partial(torch.compile(module) if compiles else module, *inputs)
    forward: Callable[[], Tensor] = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")(call)
    if mode == "eval":
        infer: Callable[[], Tensor] = torch.inference_mode()(forward)
        return infer
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    return partial(_train, forward, labels, optimiser)


def _train(forward: Callable[[], Tensor], labels: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(forward(), labels).backward()
    optimiser.step()
