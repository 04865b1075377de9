"""The forward pass of a training step through `torch.compile`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

from maskrobust.errors import InputError


class CompiledNetwork:
    """A network as one compiled graph for each batch size, without a part that silently stays eager.

    It is no module, so the one that holds it keeps its `state_dict` keys, and a deep copy of that compiles its own copy
    of the network. Nothing is compiled before the first call.

    Args:
        network: trained through this object; its parameters stay its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self._name = type(getattr(network, "network", network)).__name__
        self._compiled = torch.compile(network, fullgraph=True, dynamic=False)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network returns for these inputs.

        Raises:
            InputError: `torch.compile` cannot make one graph of the network, or not on this machine, or not another one
                for batches of a ninth size.
        """
        try:
            return self._compiled(*inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            told = error.__cause__ if isinstance(error, FailOnRecompileLimitHit) else error
            reason = str(told).strip().splitlines()[0].rstrip(".")
            raise InputError(
                f"torch.compile must make one graph of {self._name}, but cannot ({reason}); train without compiling."
            ) from error
