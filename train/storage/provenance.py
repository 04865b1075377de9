"""Record what results were made from, and compute short hashes of it."""

import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch


def provenance(seconds: float, command: str) -> dict[str, Any]:
    """Where results come from: versions, machine, time, commit and command, as plain values."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "maskrobust": version("maskrobust"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {device_name(device)}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "commit": _commit(),
        "command": command,
    }


def device_name(device: torch.device) -> str:
    """The card's name, or the number of threads on a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def _commit() -> str | None:
    """The commit of the source tree, with "+" where files differ from it; None outside a git checkout.

    An installed package lies in none, though its environment may lie in the checkout of another project.
    """
    root = Path(__file__).resolve().parents[2]
    if shutil.which("git") is None or not (root / ".git").exists():
        return None
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


if TYPE_CHECKING:  # claims name plain values alone, and need not wait for networks
    from torch import Tensor

    from maskrobust.augment import SilhouetteBank
    from maskrobust.lm_modules.networks.trained_network import TrainedNetwork


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


def bank_digest(bank: "SilhouetteBank") -> str:
    """The `digest` of all masks, labels and ids of a bank."""
    return digest({each.name: getattr(bank, each.name) for each in fields(bank)})


def network_fingerprint(network: "TrainedNetwork") -> str:
    """A name for what a network's answers follow from.

    That is: its architecture and options by name; its modules as torch writes them; the file in which a class of the
    user's own lies; weights and buffers; the options of layer masking; preprocessing; which outputs are kept, in which
    order; precision, and whether it is compiled. Code in other files does not count.

    Returns:
        16 hexadecimal digits.
    """
    from maskrobust.lm_modules.masking import LayerMasking
    from maskrobust.lm_modules.methods import unwrapped

    plain, wrapper, origin = unwrapped(network.network), network.network, network.origin
    return fingerprint(
        {
            "origin": None if origin is None else repr(origin),
            "own code": own_code([origin.architecture]) if origin is not None and origin.is_own_class else {},
            "modules": re.sub(r" at 0x[0-9a-f]+", "", repr(plain)),
            "tensors": digest(dict(chain(network.named_parameters(), network.named_buffers()))),
            "layer masking": repr(wrapper.options) if isinstance(wrapper, LayerMasking) else "",
            "preprocessing": asdict(network.preprocessing),
            "computed": [network.precision, network.pass_size],
        }
    )


def own_code(names: Iterable[str]) -> dict[str, str]:
    """A digest of the file behind each name that has a dot, as those of classes, fills and families of one's own have.

    Args:
        names: names of imported modules; others are left out. A module without a file has an empty digest.
    """
    found = {}
    for name in names:
        module, dot, _ = name.rpartition(".")
        path = getattr(sys.modules.get(module), "__file__", None)
        if dot:
            found[name] = "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return found
