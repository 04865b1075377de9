"""What a mask that never changes costs, as a camera's does: the first frame, and later ones, one at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import get_args

import torch
from torch import Tensor

from maskrobust.lm_modules.masking import LayerMasking, PaddingRule
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train.running.processes import find_device
from timing import JSON, Row, alternate, median_ratio, report

NETWORKS = ("resnet50", "efficientnet_b0", "mobilenet_v3_large")


def camera(
    networks: tuple[str, ...] = NETWORKS,
    image_size: int = 224,
    rounds: int = 15,
    device: str | None = None,
    json: Path = JSON,
) -> None:
    """What a mask that never changes costs: a fisheye's rim and a timestamp are hidden from frames of batch 1.

    A row is of one padding. It has the milliseconds of the plain network, of the first frame of a `LayerMasking` (which
    plans the mask and folds the weights), and of a later frame; then the ratios of both over the plain network's, each
    the median over alternating runs.

    Args:
        networks: of torchvision, or timm/NAME.
        image_size: side of the frames in pixels.
        rounds: alternating runs behind each ratio; each has a first frame of its own.
        device: by default cuda where there is one, else cpu.
        json: file for the numbers.
    """
    place = find_device(device)
    report("camera", _measure(networks, image_size, rounds, place), place, json, batch=1, image_size=image_size)


def camera_mask(size: int) -> Tensor:
    """(1, 1, size, size) bool: hidden are the rim outside the largest circle, and a timestamp at the lower left."""
    row, column = torch.meshgrid(*[(torch.arange(size) + 0.5) / size - 0.5] * 2, indexing="ij")
    timestamp = (row > 0.36) & (row < 0.42) & (column > -0.3) & (column < 0.1)
    return ((row.square() + column.square() < 0.25) & ~timestamp)[None, None]


@torch.inference_mode()
def _measure(networks: Sequence[str], size: int, rounds: int, device: torch.device) -> Iterator[Row]:
    """One row for each network and padding; see `camera`."""
    visible = camera_mask(size).to(device)
    frame = torch.rand(1, 3, size, size).to(device).contiguous(memory_format=torch.channels_last)
    for name in networks:
        torch.manual_seed(0)
        plain = build_network(name, 1000).eval().to(device)
        plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for padding in get_args(PaddingRule):
            new = [LayerMasking(plain, padding=padding) for _ in range(rounds + 1)]
            used = LayerMasking(plain, padding=padding)
            for _ in range(3):
                used(frame, visible)
            frames = {
                "plain": lambda: plain(frame),  # noqa: B023
                "first": lambda: new.pop()(frame, visible.clone()),  # noqa: B023
                "later": lambda: used(frame, visible.clone()),  # noqa: B023
            }
            seconds = alternate(frames, rounds, device)
            yield {
                "network": name,
                "padding": padding,
                **{f"{each}_ms": 1000 * median(times) for each, times in seconds.items()},
                "first_over_plain": median_ratio(seconds["first"], seconds["plain"]),
                "later_over_plain": median_ratio(seconds["later"], seconds["plain"]),
            }
