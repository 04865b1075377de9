"""Count what a pass would ask of an accelerator, on a machine that has none: bytes, kernels and waits."""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskrobust.augment import patches, sample_keys
from maskrobust.lm_modules.masking import LayerMasking, kernels, visible_map
from maskrobust.lm_modules.networks.architectures import build_network
from timing import JSON, Row, report

BANDWIDTH, LAUNCH = 3.35e12, 4e-6
"""Bytes a second of an H100, and seconds that a kernel takes at least."""

_VIEWS = (
    "view", "permute", "expand", "t.", "transpose", "detach", "alias", "select", "slice", "unsqueeze", "squeeze",
    "as_strided", "empty", "new_empty", "_unsafe_view", "lift_fresh", "unbind", "split", "reshape", "_reshape_alias",
    "promote_types",
)  # fmt: skip
_KERNELS = "maskrobust.lm_modules.masking.kernels"
_STAGES = {
    "VisibleMap._distances": "plan", "neighbour_rings": "plan", "pad_rows": "padding", "_PadRows.backward": "padding",
    "neighbour_padding": "padding", "VisibleMap.window": "mask", "VisibleMap.merge": "mask", "hide": "hiding",
    "zeroed": "hiding", "batch_norm": "batch norm", "sync_batch_norm": "batch norm",
    "_KernelBatchNorm.backward": "batch norm",
}  # fmt: skip
"""Functions whose operations are counted together; the innermost one counts."""


def counting(
    networks: tuple[str, ...] = ("resnet50", "mobilenet_v3_large"),
    batch: int = 256,
    size: int = 224,
    json: Path = JSON,
) -> None:
    """What a pass in bfloat16 would ask of a GPU with 3.35 TB/s, by tensors without values, half of the patches hidden.

    An operation of torch counts as one kernel that reads its inputs and writes its results once; a kernel of layer
    masking counts what it reads and writes under masks of four images. What convolutions compute is left out. A row is
    of one way: the plain network, masked by torch's operations, by kernels in Triton, or by these with SyncBatchNorm
    over eight processes (sync, in training), whose exchange itself is not counted. It has kernels, gigabytes, saved
    (gigabytes that are kept for the backward pass), milliseconds (bytes over bandwidth, and 4 us for each kernel),
    over_plain, waits (tensors of the host that an operation takes; asking what a tensor holds is an error here), and
    the milliseconds of each part of layer masking.
    Needs Triton, which the extra `dev` has.

    Args:
        networks: of torchvision, or timm/NAME.
        batch: images in a batch.
        size: side of the images in pixels.
        json: file for the numbers.
    """
    rows = [row for name in networks for train in (False, True) for row in count(name, batch, size, train=train)]
    report("counting", rows, torch.device("cpu"), json, batch=batch, size=size)


def count(name: str, batch: int, size: int, *, train: bool) -> Iterator[Row]:
    """The rows of one network and mode; see `counting`."""
    network = build_network(name, 1000).to(memory_format=torch.channels_last).train(train)  # type: ignore[call-overload]
    touched = _touched(network, size)
    network.to("meta", torch.bfloat16)
    images = torch.empty(batch, 3, size, size, device="meta", dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    visible = torch.empty(batch, 1, size, size, dtype=torch.bool, device="meta")
    plain, masked = 0.0, LayerMasking(network)
    for way in ("plain", "torch", "kernels", *(("sync",) if train else ())):
        if way == "sync":
            masked = LayerMasking(nn.SyncBatchNorm.convert_sync_batchnorm(network, process_group=object()))
        given = (network, images) if way == "plain" else (masked, images, visible)
        with ExitStack() as stack:
            if way in ("kernels", "sync"):
                stack.enter_context(patch.object(kernels, "are_on", lambda _: True))
            if way == "sync":
                stack.enter_context(patch("torch.distributed.is_initialized", lambda: True))
                stack.enter_context(patch(f"{_KERNELS}.batch_norm.rows_of_processes", _eight_rows))
                stack.enter_context(patch(f"{_KERNELS}.batch_norm.sum_of_processes", lambda own, _: own.clone()))
            with patch(f"{_KERNELS}.launching.launch", lambda *_: None):
                _pass(*given)  # layer masking guards the first pass of a kind
            counted = stack.enter_context(_Count(touched if way in ("kernels", "sync") else []))
            stack.enter_context(patch(f"{_KERNELS}.launching.launch", counted.launch))
            saved = _pass(*given)
        seconds = counted.seconds()
        plain = plain or sum(seconds.values())
        yield {
            "network": name,
            "mode": "training" if train else "eval",
            "way": way,
            "kernels": counted.kernels.total(),
            "gigabytes": sum(counted.bytes.values()) / 1e9,
            "saved": saved / 1e9,
            "milliseconds": 1e3 * sum(seconds.values()),
            "over_plain": sum(seconds.values()) / plain,
            "waits": counted.waits,
            **{stage: 1e3 * seconds.get(stage, 0.0) for stage in dict.fromkeys(_STAGES.values())},
        }


def _eight_rows(own: Tensor, _group: object) -> Tensor:
    return own.new_empty(8, *own.shape)


def _pass(call: Callable[..., Tensor], images: Tensor, *visible: Tensor) -> int:
    """Run a pass; the bytes that it has kept for its backward pass, each storage once."""
    is_training = isinstance(call, nn.Module) and call.training
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    with torch.set_grad_enabled(is_training), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = call(images, *visible)
    saved = sum(storage.nbytes() for storage in kept.values())
    if is_training:
        output.float().square().mean().backward()
        call.zero_grad(set_to_none=True)  # type: ignore[attr-defined]
    return saved


class _Count(TorchDispatchMode):
    """Counts the operations of torch, and the kernels that `launch` is given, in the order in which they were noted."""

    def __init__(self, touched: Sequence[tuple[str, float]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: dict[str, float] = defaultdict(float)
        self.kernels: Counter[str] = Counter()
        self.waits, self._touched = 0, iter(touched)

    def seconds(self) -> dict[str, float]:
        """Of each stage."""
        return {stage: self.bytes[stage] / BANDWIDTH + LAUNCH * self.kernels[stage] for stage in self.kernels}

    def launch(self, program: Any, _grid: tuple[int, ...], *_arguments: Any) -> None:
        """Count a kernel instead of running it."""
        name, share = next(self._touched)
        assert name == program.fn.__name__, f"{program.fn.__name__} where {name} was noted"
        tensors = [each for each in _arguments if isinstance(each, Tensor)]
        self._note(sum(each.nbytes for each in tensors[1:] if each.ndim != 4 or each.dtype == torch.uint8))
        self._note(share * tensors[0].nbytes, kernels=0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, options = str(func).removeprefix("aten."), kwargs or {}
        result = func(*args, **options)
        given = [each for each in tree_leaves((args, options)) if isinstance(each, Tensor)]
        self.waits += any(each.device.type == "cpu" for each in given)
        if name.startswith(_VIEWS):
            return result
        if name.startswith("convolution.") and result.is_contiguous():  # as tensors without values alone return it
            result = torch.empty_like(result, memory_format=torch.channels_last)
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        self._note(sum(_size(each) for each in (*given, *made)))
        return result

    def _note(self, size: float, kernels: int = 1) -> None:
        frame = sys._getframe(2)
        stage = None
        while stage is None and frame.f_back is not None:
            stage, frame = _STAGES.get(frame.f_code.co_qualname), frame.f_back
        self.bytes[stage or "network"] += size
        self.kernels[stage or "network"] += kernels


def _size(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() if 0 in tensor.stride() else tensor.nbytes


def _touched(network: nn.Module, size: int, images: int = 4) -> list[tuple[str, float]]:
    """Each kernel of a pass, and how many feature maps' bytes it reads and writes, as a CPU finds with real masks."""
    keys = sample_keys(0, torch.arange(images))
    visible = patches(keys, size, size, hidden_fraction=(0.5, 0.5), patch_size=size // 14)
    found: list[tuple[str, float]] = []

    def launch(program: Any, _grid: tuple[int, ...], *arguments: Any) -> None:
        name = program.fn.__name__
        found.append((name, _WORK[name](*arguments)))

    with (
        patch.object(kernels, "are_on", lambda _: True),
        patch.object(visible_map, "can_inspect", lambda _: False),
        patch("maskrobust.lm_modules.masking.kernels.launching.launch", launch),
    ):
        pixels = torch.randn(images, 3, size, size).to(memory_format=torch.channels_last)
        _pass(LayerMasking(network), pixels, visible)
    return found


def _measure(distances: Tensor, nearest: Tensor, *settings: Any) -> float:
    length, stride, _, is_mask, reach, _ = settings
    distances = torch.where(distances > 0, 0, reach + 1).to(torch.uint8) if is_mask else distances
    lines = F.pad(distances.reshape(-1, length, stride), (0, 0, reach, reach), value=reach + 1)
    away = torch.arange(-reach, reach + 1).abs().to(torch.uint8)
    nearest.copy_(torch.maximum(lines.unfold(1, 2 * reach + 1, 1), away).amin(-1).view(nearest.shape))
    return 1.0


def _of_ring(_features: Tensor, distances: Tensor, ring: int, *_: Any) -> float:
    filled = (distances == ring).float()
    pool = F.max_pool2d if filled.ndim == 4 else F.max_pool1d
    return (filled.mean() + (pool(filled, 3, 1, 1) * (distances < ring)).mean()).item()


def _of_rows(_features: Tensor, numbers: Tensor, low: int, high: int, *_: Any) -> float:
    return ((numbers >= low) & (numbers <= high)).float().mean().item()


def _of_visible(read: float, written: float) -> Callable[..., float]:
    def share(*arguments: Any) -> float:
        shown = next(each for each in arguments if isinstance(each, Tensor) and each.dtype == torch.uint8)
        return read * shown.float().mean().item() + written

    return share


_WORK: dict[str, Callable[..., float]] = {
    "_nearest": _measure,
    "_fill": _of_ring,
    "_zero": _of_rows,
    "_sum_moments": _of_visible(1, 0),
    "_join_moments": lambda *_: 1.0,
    "_normalise": _of_visible(1, 1),
    "_sum_gradients": _of_visible(2, 0),
    "_differentiate": _of_visible(2, 1),
}
"""How many times a kernel reads and writes its first argument, or features alike."""
