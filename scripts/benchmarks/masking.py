"""Benchmark layer masking: time and memory relative to the plain network's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from maskrobust.augment import patches, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, PaddingRule
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train.running.processes import find_device
from timing import JSON, Row, alternate, count_waits, median_ratio, peak_memory, report

Arithmetic = Literal["32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

IMAGE_SIZE = 224
NETWORKS = ("resnet50", "efficientnet_b0", "convnext_tiny")
COMMON_MASKS = ("all visible", "object hidden", "half of the patches")
SMALL_AREAS = ("box of 80 x 80", "a tenth of the patches")
"""Masks that leave little visible."""
_PADDINGS: tuple[PaddingRule, ...] = ("mean", "mirror")


class Case(NamedTuple):
    """A mask by name, and how layer masking fills the hole."""

    mask: str
    padding: PaddingRule


def masking(
    networks: tuple[str, ...] = NETWORKS,
    batch: int = 8,
    precision: Arithmetic = "32",
    compile: bool = False,
    rounds: int = 7,
    device: str | None = None,
    json: Path = JSON,
) -> None:
    """What layer masking costs: time and memory over the plain network's, by network, mask, and eval or training.

    A row is of one padding of `LayerMasking`, "mean" or "mirror", all of them in the same rounds. It has hidden
    (fraction of pixels), positions (fraction of those inside the network that are visible: the mean over convolutions),
    plain_seconds, time and memory as ratios over the plain network's, over_folded (time over that of the plain network
    with batch norm folded into convolutions; empty in training, and where torch.fx
    cannot trace the plain network), waits (times that Python
    waits for a CUDA device in one call; empty elsewhere), and sensitivity (largest change of a logit when the hidden
    pixels are redrawn, which must be 0; empty in training).

    Args:
        networks: of torchvision, or timm/NAME.
        batch: images in a batch.
        precision: "bf16" and "fp16" by autocast; a training step scales no loss, which takes no time worth telling.
        compile: whether all networks go through torch.compile, the plain ones too.
        rounds: alternating runs behind each ratio.
        device: by default cuda where there is one, else cpu.
        json: file for the numbers.
    """
    place = find_device(device)
    rows = _measure(networks, batch, precision, rounds, place, compiles=compile)
    report("masking", rows, place, json, batch=batch, precision=precision, compile=compile)


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


def _measure(
    networks: Sequence[str], batch: int, precision: Arithmetic, rounds: int, device: torch.device, *, compiles: bool
) -> Iterator[Row]:
    """One row for each network, mode, mask and padding; see `masking`."""
    places = [(network, mode) for network in networks for mode in ("eval", "training step")]
    make = partial(_make, batch=batch, device=device, precision=precision, compiles=compiles)
    memory = {
        (network, mode, case): peak_memory(partial(make, network, mode, case), device)
        for network, mode in places
        for case in (None, *_cases(network, mode))
    }
    for network, mode in places:
        cases = _cases(network, mode)
        functions = {case: make(network, mode, case) for case in (None, *cases)}
        named = {str(case): function for case, function in functions.items()}
        if mode == "eval":
            with suppress(TraceError):
                named["folded"] = make(network, mode, None, folds=True)
        seconds = alternate(named, rounds, device)
        plain = seconds["None"]
        for case in cases:
            visible = draw_mask(case.mask, batch)
            yield {
                "network": network,
                "mode": mode,
                "mask": case.mask,
                "padding": case.padding,
                "hidden": 1.0 - visible.double().mean().item(),
                "positions": visible_positions(network, visible),
                "plain_seconds": median(plain),
                "time": median_ratio(seconds[str(case)], plain),
                "over_folded": median_ratio(seconds[str(case)], seconds["folded"]) if "folded" in seconds else None,
                "memory": memory[network, mode, case] / memory[network, mode, None],
                "waits": count_waits(functions[case], device),
                "sensitivity": _sensitivity(functions[case], visible.to(device)) if mode == "eval" else None,
            }


def visible_positions(network: str, visible: Tensor) -> float:
    """Fraction of positions that are visible inside a network, as a mean over its convolutions."""
    masked = LayerMasking(build_network(network, 1000).eval())
    rows = masked.plan(torch.zeros(len(visible), 3, IMAGE_SIZE, IMAGE_SIZE), visible)
    fractions = [row.visible_fraction for row in rows if row.rule == "convolution" and row.visible_fraction is not None]
    return sum(fractions) / len(fractions)


def _cases(network: str, mode: str) -> list[Case]:
    masks = COMMON_MASKS + SMALL_AREAS if network == "resnet50" and mode == "eval" else COMMON_MASKS
    return [Case(mask, padding) for mask in masks for padding in _PADDINGS]


def _make(
    network: str,
    mode: str,
    case: Case | None,
    batch: int,
    device: torch.device,
    precision: Arithmetic,
    *,
    compiles: bool,
    folds: bool = False,
) -> Callable[..., Any]:
    """One forward pass, or one training step, of a network with a hole; None for the plain network, folded or not.

    The forward pass takes other images than its own, too, and returns logits.
    """
    torch.manual_seed(0)
    plain = build_network(network, 1000).to(device)
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    own_images = _draw_images(batch, device, seed=0)
    labels = torch.arange(batch, device=device)
    module = plain if case is None else LayerMasking(plain, padding=case.padding)
    visible = () if case is None else (draw_mask(case.mask, batch).to(device),)
    module.train(mode != "eval")
    if folds:
        module = fuse(module)
    call = torch.compile(module) if compiles else module

    def forward(images: Tensor = own_images) -> Tensor:
        with torch.autocast(device.type, _DTYPES.get(precision), enabled=precision in _DTYPES):
            logits: Tensor = call(images, *visible)
        return logits

    if mode == "eval":
        infer: Callable[..., Tensor] = torch.inference_mode()(forward)
        return infer
    optimiser = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
    return partial(_train, forward, labels, optimiser)


def _draw_images(batch: int, device: torch.device, seed: int) -> Tensor:
    images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(seed))
    return images.to(device).contiguous(memory_format=torch.channels_last)


def _sensitivity(infer: Callable[..., Tensor], visible: Tensor) -> float:
    """Largest change of a logit when hidden pixels are redrawn; NaN and infinite logits count as numbers."""
    images, others = (_draw_images(len(visible), visible.device, seed) for seed in (0, 1))
    redrawn = torch.where(visible, images, others).contiguous(memory_format=torch.channels_last)
    before, after = (infer(each).float().nan_to_num() for each in (images, redrawn))
    return (after - before).abs().max().item()


def _train(forward: Callable[[], Tensor], labels: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    nn.functional.cross_entropy(forward(), labels).backward()
    optimiser.step()
