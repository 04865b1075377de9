"""Short names for what results follow from: equal for equal things, different otherwise."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # claims name plain values alone, and need not wait for networks
    from torch import Tensor

    from maskrobust.lm_modules.trained_network import TrainedNetwork


def fingerprint(content: Any) -> str:
    """A short name for plain values.

    Args:
        content: anything JSON can hold.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def digest(tensors: "Mapping[str, Tensor]") -> str:
    """32 hexadecimal digits that depend on every name and value of tensors."""
    import torch

    found = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def network_fingerprint(network: "TrainedNetwork") -> str:
    """A name for what a network's answers follow from, but its code: weights, preprocessing, order of its outputs."""
    return f"{digest({**network.state_dict(), **dict(network.named_buffers())})} {network.preprocessing}"
