"""Which masked features share memory, so that none is used after another name of them has been changed in place."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional

from torch import Tensor

from maskrobust.lm_modules.masking.axes import Padding
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.torch_private import are_aliases


class Memory:
    """What all names of the same features share.

    A change touches the region that it is made in, the regions around it, and those within.
    """

    def __init__(self, around: Optional["Memory"] = None) -> None:
        self.around, self._changes, self._changes_of_all = around, 0, 0

    @property
    def state(self) -> int:
        """A number that every change that touches this region increases."""
        return self._changes + sum(region._changes_of_all for region in self._outer())

    def change(self) -> None:
        """Note a change of this region."""
        self._changes_of_all += 1
        for region in (self, *self._outer()):
            region._changes += 1

    def _outer(self) -> "Iterator[Memory]":
        region = self.around
        while region is not None:
            yield region
            region = region.around


class Watched(Tensor):
    """Features whose memory may be watched.

    Attributes:
        memory: of the features, once they have a second name.
        known_state: of the memory when these features were made or changed.
        frame: set where an operation of its own has made the features by padding.
    """

    memory: Memory | None
    known_state: int
    frame: "Frame | None"


class Frame(NamedTuple):
    """What an operation of its own has put around features, ahead of a convolution or pool without padding.

    The frame counts as hidden. A convolution or pool takes what is inside and the padding instead, so that padding
    ahead of it is the same as padding within it.

    Attributes:
        inside: what was framed.
        padding: in the order of `torch.nn.functional.pad`.
        value: 0, or minus infinity ahead of a max pool.
        state: of the memory of `inside` then.
    """

    inside: Any
    padding: Padding
    value: float
    state: int


def share_memory(x: Watched) -> Memory:
    """Watch the memory of features from now on."""
    if x.memory is None:
        x.memory = Memory()
    return x.memory


def share(x: Watched, memory: Memory) -> None:
    """Take features for another name of some memory as it is now."""
    x.memory, x.known_state = memory, memory.state


def note_change(x: Watched) -> None:
    """Note that features have been changed in place, by this name of them."""
    x.frame = None
    if x.memory is not None:
        x.memory.change()
        x.known_state = x.memory.state


def refuse_stale(operands: Sequence[Watched]) -> None:
    """Refuse features that have been changed by another name.

    Raises:
        UnsupportedNetworkError: some have.
    """
    for each in operands:
        is_framed_later = each.frame is not None and share_memory(each.frame.inside).state != each.frame.state
        if is_framed_later or (each.memory is not None and each.memory.state != each.known_state):
            raise UnsupportedNetworkError(
                "masked features are used after they have been changed in place through another name, such as a view; "
                "compute the change out of place."
            )


def watch(result: Tensor, operands: Sequence[Watched], *, is_part: bool) -> Tensor:
    """A result that may lie in the memory of an operand: watched, or a copy where it is a plain tensor.

    Args:
        result: of a rule.
        operands: of the rule.
        is_part: whether it is one of several results, each a region of its own.
    """
    for each in operands:
        if result is not each and are_aliases(result, each):
            if not isinstance(result, Watched):
                return result.clone()
            memory = share_memory(each)
            share(result, Memory(memory) if is_part else memory)
    return result
