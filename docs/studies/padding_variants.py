"""The paddings that mirrored padding was compared with; the library keeps the mean and the mirror alone.

`register()` makes each of them a masking method, so that all that asks networks under methods takes them by name:

    sys.path.append("docs/studies")
    from padding_variants import register
    register()
    load_network("timm/tf_efficientnet_lite0:pretrained").predictor("layer_masking_nearest")

On a CPU. Hidden pixels have no effect under any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

import numpy as np
import torch
from scipy import ndimage, signal
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.morphology import PADDINGS, CopiedRows, PaddingRows, RingRows, ring_rows
from maskrobust.lm_modules.methods import WRAPPERS, unwrapped

Plan = Callable[[Tensor, int], list[PaddingRows]]
FindShifts = Callable[[Tensor, Tensor], Tensor]
"""(images (B, C, H, W) normalised, visible (B, 1, H, W) bool) -> (B, 2, H, W) int64: for each hidden pixel, how many
rows down and columns to the right its features are taken from."""

STRIDES = (1, 2, 4, 8, 16)
DRAWS = 4
_INPUT: dict[str, Tensor] = {}


class Variant(LayerMasking):
    """Layer masking that tells the plan of its padding which pixels are visible, and where a shift leads to."""

    def __init__(self, network: nn.Module, padding: str, find_shifts: FindShifts | None = None) -> None:
        super().__init__(unwrapped(network), padding=padding)  # type: ignore[arg-type]
        self.find_shifts = find_shifts

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits, as `LayerMasking` gives them."""
        if visible is not None:
            _INPUT["visible"] = visible
            if self.find_shifts is not None:
                _INPUT["shifts"] = self.find_shifts(images.masked_fill(~visible, 0.0), visible)
        logits: Tensor = super().forward(images, visible)
        return logits


class Averaged(nn.Module):
    """The mean of the logits under several paddings."""

    def __init__(self, network: nn.Module, paddings: list[str]) -> None:
        super().__init__()
        self.variants = nn.ModuleList(Variant(network, padding) for padding in paddings)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Logits, as `LayerMasking` gives them."""
        return torch.stack([variant(images, visible) for variant in self.variants]).mean(dim=0)


@dataclass(frozen=True)
class Zeros(CopiedRows):
    """Padding with 0."""

    def values(self, rows: Tensor) -> Tensor:
        """Zeros (N, C)."""
        return rows.new_zeros(len(self.rows), rows.shape[1])


@dataclass(frozen=True)
class NoisyRing(RingRows):
    """The mean of known neighbours, and noise of their standard deviation."""

    seed: int = 0

    def values(self, rows: Tensor) -> Tensor:
        """What the ring is filled with, (N, C), from rows (., C)."""
        mean, squares = super().values(rows), super().values(rows.square())
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(self.seed), dtype=mean.dtype)
        return mean + (squares - mean.square()).clamp(min=0).sqrt() * noise


def zeros(visible: Tensor, _rings: int) -> list[PaddingRows]:
    """No padding: what the paper compares with."""
    rows = (~visible).flatten().nonzero().squeeze(1)
    return [Zeros(rows, rows)]


def nearest(visible: Tensor, rings: int) -> list[PaddingRows]:
    """The nearest visible position, not mirrored; of several, SciPy's choice."""
    rows, near, _, _ = _nearest(visible, rings)
    return [CopiedRows(rows, near)]


def mirror_else_mean(visible: Tensor, rings: int) -> list[PaddingRows]:
    """Where the mirrored place is hidden, the mean of neighbours that are known by then, in place of the nearest."""
    rows, _, mirrored, is_visible = _nearest(visible, rings)
    known = visible.flatten().clone()
    known[rows[is_visible]] = True
    rest = islice(ring_rows(known.view_as(visible)), rings)
    return [CopiedRows(rows[is_visible], mirrored[is_visible]), *rest]


def mirror_to(stride: int, visible: Tensor, rings: int) -> list[PaddingRows]:
    """The mirror where a position stands for at most `stride` pixels a side, the mean in deeper layers."""
    here = round(_INPUT["visible"].shape[2] / visible.shape[2])
    return PADDINGS["mirror" if here <= stride else "mean"](visible, rings)


def random_neighbour(seed: int, visible: Tensor, rings: int) -> list[PaddingRows]:
    """Ring by ring a known neighbour, drawn at random; a draw is of the whole batch."""
    generator = torch.Generator().manual_seed(seed)
    plan: list[PaddingRows] = []
    for ring in islice(ring_rows(visible), rings):
        counts = ring.starts.diff(append=ring.starts.new_tensor([len(ring.neighbours)]))
        drawn = ring.starts + (torch.rand(len(counts), generator=generator) * counts).long()
        plan.append(CopiedRows(ring.rows, ring.neighbours[drawn]))
    return plan


def mean_and_noise(seed: int, visible: Tensor, rings: int) -> list[PaddingRows]:
    """The mean of neighbours with noise of their standard deviation."""
    return [
        NoisyRing(ring.rows, ring.neighbours, ring.starts, ring.weights, 1000 * seed + number)
        for number, ring in enumerate(islice(ring_rows(visible), rings))
    ]


def shifted(visible: Tensor, rings: int) -> list[PaddingRows]:
    """The features at the hole's shift over the stride; where these are hidden or outside, mirrored ones."""
    plan = PADDINGS["mirror"](visible, rings)
    if not plan:
        return []
    height, width = visible.shape[2:]
    rows, side = plan[0].rows, torch.tensor([height, width])[:, None]
    image, place = rows // (height * width), torch.stack([rows // width % height, rows % width])
    strides = torch.tensor(_INPUT["shifts"].shape[2:])[:, None] / side
    pixel = ((place + 0.5) * strides).long()
    target = place + (_INPUT["shifts"][image, :, pixel[0], pixel[1]].mT / strides).round().long()
    is_inside = ((target >= 0) & (target < side)).all(dim=0)
    target = torch.where(is_inside, target, place)
    taken = image * height * width + target[0] * width + target[1]
    return [replace(plan[0], neighbours=torch.where(visible.flatten()[taken], taken, plan[0].neighbours))]


def shifts_by_mask(_images: Tensor, visible: Tensor) -> Tensor:
    """For each connected hole the shift under which least of it is hidden or outside, and of these the shortest."""
    shifts = torch.zeros(len(visible), 2, *visible.shape[2:], dtype=torch.int64)
    height, width = visible.shape[2:]
    for number, seen in enumerate(visible[:, 0].numpy()):
        labels, _ = ndimage.label(~seen, np.ones((3, 3)))
        for label, (down, across) in enumerate(ndimage.find_objects(labels), start=1):
            hole = labels[down, across] == label
            blocked = np.pad(~seen, ((hole.shape[0], hole.shape[0]), (hole.shape[1], hole.shape[1])), constant_values=1)
            overlap = signal.fftconvolve(blocked.astype(float), hole[::-1, ::-1].astype(float), mode="valid").round()
            y = np.arange(overlap.shape[0])[:, None] - hole.shape[0] - down.start
            x = np.arange(overlap.shape[1]) - hole.shape[1] - across.start
            best = np.unravel_index((overlap * 4 * (height + width) ** 2 + y * y + x * x).argmin(), overlap.shape)
            shifts[number][:, torch.from_numpy(labels == label)] = torch.tensor(
                [[int(y[best[0], 0])], [int(x[best[1]])]]
            )
    return shifts


def register(shifts_by_picture: FindShifts | None = None) -> list[str]:
    """Make masking methods of all paddings, and return their names, those of the library first.

    Args:
        shifts_by_picture: where an exemplar fill takes each hidden pixel from, for one method more.
    """
    plans: dict[str, Plan] = {"zeros": zeros, "nearest": nearest, "mirror_else_mean": mirror_else_mean}
    plans |= {f"mirror_to_stride_{stride}": partial(mirror_to, stride) for stride in STRIDES}
    for name, plan in (("random_neighbour", random_neighbour), ("mean_and_noise", mean_and_noise)):
        plans |= {name if seed == 0 else f"{name}_{seed}": partial(plan, seed) for seed in range(DRAWS)}
    PADDINGS.update(plans, shifted=shifted)
    made: dict[str, Callable[[nn.Module], nn.Module]] = {name: partial(Variant, padding=name) for name in plans}
    for name in ("random_neighbour", "mean_and_noise"):
        draws = [name, *(f"{name}_{seed}" for seed in range(1, DRAWS))]
        made[f"{name}_averaged"] = partial(Averaged, paddings=draws)
        for other in draws[1:]:
            made.pop(other)
    made["shifted_by_mask"] = partial(Variant, padding="shifted", find_shifts=shifts_by_mask)
    if shifts_by_picture is not None:
        made["shifted_by_picture"] = partial(Variant, padding="shifted", find_shifts=shifts_by_picture)
    WRAPPERS.update({f"layer_masking_{name}": make for name, make in made.items()})  # type: ignore[misc]
    return ["layer_masking", "layer_masking_mirror", *(f"layer_masking_{name}" for name in made)]


def _nearest(visible: Tensor, rings: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows within reach, those nearest to them, those mirrored there, and whether these are visible."""
    _, _, height, width = visible.shape
    found: list[list[Tensor]] = [[torch.zeros(0, dtype=kind)] for kind in (*[torch.int64] * 3, torch.bool)]
    for number, seen in enumerate(visible[:, 0].numpy()):
        if not seen.any():
            continue
        distance, near = ndimage.distance_transform_edt(~seen, return_indices=True)
        y, x = np.nonzero(~seen & (distance <= np.sqrt(2) * rings + 1e-9))
        q = near[:, y, x]
        m = 2 * q - [y, x]
        is_inside = (m >= 0).all(axis=0) & (m[0] < height) & (m[1] < width)
        m = np.where(is_inside, m, q)
        start = number * height * width
        rows = (start + each[0] * width + each[1] for each in ((y, x), q, m))
        for kept, part in zip(found, (*rows, is_inside & seen[m[0], m[1]]), strict=True):
            kept.append(torch.as_tensor(part))
    rows, near, mirrored, is_visible = (torch.cat(parts) for parts in found)
    return rows, near, mirrored, is_visible
