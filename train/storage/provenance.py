"""Record what results were made from, and compute short hashes of it."""

import hashlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def provenance(seconds: float) -> dict[str, Any]:
    """Where results come from: versions, machine, time, commit and the command of this process, as plain values."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "maskrobust": version("maskrobust"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {device_name(device)}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "commit": _commit(),
        "command": shlex.join(sys.argv),
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
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    described = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return described.stdout.strip() or None


def fingerprint(content: Any) -> str:
    """A short name for plain values.

    Args:
        content: anything JSON can hold.

    Returns:
        16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that depend on every name and value of tensors."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
