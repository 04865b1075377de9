"""Count what layer masking asks of an accelerator, without one: kernels, bytes, saved activations."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maskrobust.lm_modules.masking import LayerMasking, PaddingRule
from maskrobust.lm_modules.networks.architectures import build_network
from timing import JSON, Row, report

NETWORKS = ("resnet50", "efficientnet_b0", "mobilenet_v3_large", "regnet_y_400mf", "convnext_tiny")
IMAGE_SIZE = 224

_NO_KERNELS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}


class Cost(NamedTuple):
    """What one call asks of a device.

    Attributes:
        kernels: calls of operations that compute, views and allocations not counted.
        bytes: that these read and write.
        saved: bytes kept for the backward pass, parameters not counted.
    """

    kernels: int
    bytes: int
    saved: int


def cost(networks: tuple[str, ...] = NETWORKS, batch: int = 128, json: Path = JSON) -> None:
    """What layer masking asks of an accelerator, counted on tensors without values: no time, and no device needed.

    A row has kernels, gigabytes (read and written by these) and saved_gigabytes (kept for the backward pass) of the
    plain network, and for one padding of `LayerMasking` how many times as many of each: kernels_ratio, bytes_ratio
    and saved_ratio. Every operation counts as one kernel that reads its arguments and writes its results once.

    Args:
        networks: of torchvision, or timm/NAME.
        batch: images of 224 x 224 in a batch.
        json: file for the numbers.
    """
    report("cost", _measure(networks, batch), torch.device("cpu"), json, batch=batch)


def _measure(networks: Sequence[str], batch: int) -> Iterator[Row]:
    """One row for each network, mode and padding; see `cost`."""
    for name in networks:
        network = build_network(name, 1000).to("meta")
        images = torch.empty(batch, 3, IMAGE_SIZE, IMAGE_SIZE, device="meta")
        visible = torch.empty(batch, 1, IMAGE_SIZE, IMAGE_SIZE, device="meta", dtype=torch.bool)
        for mode in ("eval", "training step"):
            plain = _measured(network, mode, images)
            for padding in get_args(PaddingRule):
                masked = _measured(LayerMasking(network, padding=padding), mode, images, visible)
                yield {
                    "network": name,
                    "mode": mode,
                    "padding": padding,
                    "kernels": plain.kernels,
                    "gigabytes": plain.bytes / 1e9,
                    "saved_gigabytes": plain.saved / 1e9,
                    "kernels_ratio": masked.kernels / plain.kernels,
                    "bytes_ratio": masked.bytes / plain.bytes,
                    "saved_ratio": masked.saved / plain.saved if plain.saved else None,
                }


def _measured(module: nn.Module, mode: str, *inputs: Tensor) -> Cost:
    """The cost of one forward pass, or of one with the backward pass of a training step."""
    module.train(mode != "eval")
    module.zero_grad(set_to_none=True)

    def call() -> None:
        with torch.set_grad_enabled(mode != "eval"):
            logits = module(*inputs)
        if mode != "eval":
            logits.sum().backward()

    return count(call, module.parameters())


def count(function: Callable[[], object], parameters: Iterable[Tensor] = ()) -> Cost:
    """What a call asks of a device.

    Args:
        function: computes on tensors without values ("meta"); whoever asks whether one is true is told that it is not.
        parameters: tensors that are there anyway, saved or not.
    """
    counter = _Counter()
    with torch.autograd.graph.saved_tensors_hooks(counter.save, lambda tensor: tensor), counter:
        function()
    there = {parameter.untyped_storage()._cdata for parameter in parameters}
    return Cost(
        counter.kernels,
        counter.bytes,
        sum(storage.nbytes() for key, storage in counter.saved.items() if key not in there),
    )


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels = self.bytes = 0
        self.saved: dict[int, torch.UntypedStorage] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return False
        result = func(*args, **(kwargs or {}))
        computes = any(isinstance(leaf, Tensor) for leaf in tree_leaves(result))
        if computes and not func.is_view and func.overloadpacket.__name__ not in _NO_KERNELS:
            self.kernels += 1
            leaves = tree_leaves((args, kwargs or {}, result))
            self.bytes += sum(_bytes(leaf) for leaf in leaves if isinstance(leaf, Tensor))
        return result

    def save(self, tensor: Tensor) -> Tensor:
        """Note memory that is kept, once however often it is saved."""
        storage = tensor.untyped_storage()
        self.saved[storage._cdata] = storage
        return tensor


def _bytes(tensor: Tensor) -> int:
    """Bytes of memory that hold a tensor; axes along which it was expanded take none."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return int(torch.Size(sizes).numel()) * tensor.element_size()
