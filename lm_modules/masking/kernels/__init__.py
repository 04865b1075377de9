"""Layer masking on a GPU, by Triton kernels that read and write only the positions that matter.

A kernel sees channels-last features as a matrix with one row for each position, (B x H x W, C), and a mask as a byte
for each row. It never loads a row that it does not need, so no index is made and nothing waits for how many rows there
are. Triton comes with torch's CUDA builds; without it torch's own operations compute the same in more passes. The other
files of this folder import Triton, and are imported where `serve` holds.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from maskrobust.lm_modules.masking.torch_private import is_transformed


def serve(positions: Tensor) -> bool:
    """Whether kernels may compute where these positions lie: on a CUDA device, eagerly, without `torch.func`."""
    is_eager = type(positions) is Tensor and not torch.compiler.is_compiling() and not is_transformed()
    return is_eager and are_on(positions.device.type)


def are_on(device_type: str) -> bool:
    """Whether there are kernels for a kind of device."""
    return device_type == "cuda" and _HAS_TRITON


MOST_RINGS = 254
"""How far padding may reach: a distance is a byte, and one more than the last ring stands for all that is larger."""

_HAS_TRITON = find_spec("triton") is not None
