"""The forward pass of a training step, or of an evaluation, through `torch.compile`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskrobust.errors import InputError


class CompiledNetwork:
    """A network as one compiled graph for each batch size, without a part that silently stays eager.

    It is no module, so the one that holds it keeps its `state_dict` keys, and a deep copy of that compiles its own copy
    of the network. Nothing is compiled before the first call.

    Args:
        network: called through this object; its parameters stay its own.
        pass_size: images in a forward pass, for a network in eval mode: inputs are parted into passes of this size, the
            last one filled up with zeros, so that there is one graph for batches of all sizes. None takes each batch as
            it is.

    Raises:
        InputError: `pass_size` is given, and a batch norm without running statistics would see the zeros.
    """

    def __init__(self, network: nn.Module, pass_size: int | None = None) -> None:
        self._name = type(getattr(network, "network", network)).__name__
        if pass_size is not None and any(_sees_the_batch(module) for module in network.modules()):
            raise InputError(
                f"passes of one size need predictions that do not depend on the batch, but {self._name} has batch "
                "norms without running statistics; compute it without compiling."
            )
        self._pass_size = pass_size
        self._compiled = torch.compile(network, fullgraph=True, dynamic=False)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network returns for these inputs, (B, ...) each; logits (B, K) where passes have one size.

        Raises:
            InputError: `torch.compile` cannot make one graph of the network, or not on this machine, or not another one
                for batches of a ninth size.
        """
        if self._pass_size is None:
            return self._call(*inputs)
        parts = zip(*(each.split(self._pass_size) for each in inputs), strict=True)
        answers = [self._call(*(_filled_up(each, self._pass_size) for each in part)) for part in parts]
        return torch.cat(answers)[: len(inputs[0])] if isinstance(answers[0], Tensor) else answers[0]

    def _call(self, *inputs: Tensor) -> Any:
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # a second, for who compiles alone

        try:
            return self._compiled(*inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            told = error.__cause__ if isinstance(error, FailOnRecompileLimitHit) else error
            reason = str(told).strip().splitlines()[0].rstrip(".")
            raise InputError(
                f"torch.compile must make one graph of {self._name}, but cannot ({reason}); compute it without "
                "compiling."
            ) from error


def _filled_up(images: Tensor, size: int) -> Tensor:
    """(n, ...) as (size, ...), zeros behind, always with the same strides: a graph is one for them, too."""
    filled = images.new_zeros(size, *images.shape[1:]).contiguous(memory_format=torch.channels_last)
    filled[: len(images)] = images
    return filled


def _sees_the_batch(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is None
