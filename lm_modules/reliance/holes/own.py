"""Holes that images bring along, exchanged between them: pairs of donors, and pictures mended where a hole was.

A host is mended wherever it or either of two donors has a hole, and is then shown with the one donor's hole and with
the other's. Both remove the same pixels of the host, so only whose hole it is differs.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import HoleBank, fold_in, uniform
from maskrobust.augment.fills.inpainting import fill_inpainting

EXCHANGED = "exchanged_holes"
"""Condition under which an image's own hole is mended, and it has that of another image, of any class."""

MENDING_FILLS = ("inpainting",)
"""Fills behind which a hole cannot be told from what is mended, so that nothing can be said of own holes."""

_GREY = 0.5
_EXCHANGE_STREAM, _PAIR_STREAM, _J_STREAM, _K_STREAM = 0, 1, 0, 1


class Donors(NamedTuple):
    """Two images for each of B hosts, of two classes and of other objects than the host, and their holes.

    Attributes:
        visible_j: (B, 1, H, W) bool, False in the hole of donor j.
        visible_k: (B, 1, H, W) bool, False in the hole of donor k.
        who: (B, 2, 3) int64, of j and of k the sample id, the object and the class; -1 where there is no pair.
        valid: (B,) bool, False where there is no pair.
    """

    visible_j: Tensor
    visible_k: Tensor
    who: Tensor
    valid: Tensor

    @property
    def differ(self) -> Tensor:
        """Where the two holes differ, (B,) bool: elsewhere the pictures are equal, and so are the answers."""
        return self.valid & (self.visible_j != self.visible_k).flatten(1).any(dim=1)


def pair_condition(number: int, donor: str) -> str:
    """Name of the condition that shows the hole of one donor, "j" or "k", of a host's pair of this number."""
    return f"own_hole/{number}/{donor}"


def draw_donors(keys: Tensor, objects: Tensor, bank: HoleBank, pairs: int) -> Iterator[Donors]:
    """Pairs of donors for each host: j any image of another object, k any such image of another class than j.

    Args:
        keys: (B,) int64 keys of the hosts.
        objects: (B,) int64, which object each host shows.
        bank: the images that lend their holes, on the device of `keys`.
        pairs: number of pairs.
    """
    others = bank.objects != objects[:, None]
    facts = torch.stack([bank.ids, bank.objects, bank.labels], dim=1)
    for number in range(pairs):
        of_pair = fold_in(fold_in(keys, _PAIR_STREAM), number)
        j, some_j = _draw(fold_in(of_pair, _J_STREAM), others)
        k, some_k = _draw(fold_in(of_pair, _K_STREAM), others & (bank.labels != bank.labels[j][:, None]))
        valid = some_j & some_k
        who = torch.stack([facts[j], facts[k]], dim=1).where(valid[:, None, None], -1)
        yield Donors(bank.visible[j], bank.visible[k], who, valid)


def draw_exchanged(keys: Tensor, objects: Tensor, bank: HoleBank) -> tuple[Tensor, Tensor]:
    """What is visible of each host behind the hole of any image of another object, and whether there is one.

    Args:
        keys: (B,) int64 keys of the hosts.
        objects: (B,) int64, which object each host shows.
        bank: the images that lend their holes, on the device of `keys`.

    Returns:
        (B, 1, H, W) bool and (B,) bool.
    """
    other, some = _draw(fold_in(keys, _EXCHANGE_STREAM), bank.objects != objects[:, None])
    return bank.visible[other], some


def mended(images: Tensor, visible: Tensor) -> Tensor:
    """Images without their holes: hidden pixels are inpainted, and grey where nothing is visible.

    Mended in black, or in a mean colour, they would show a hole to a network that knows such holes.

    Args:
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
    """
    return fill_inpainting(images, visible, [_GREY] * images.shape[1])


def _draw(keys: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
    """Position (B,) of one of the allowed entries (B, N) bool, each equally likely, and whether there is one."""
    passed = allowed.cumsum(dim=1)
    wanted = (uniform(keys).double() * passed[:, -1]).long() + 1
    found = torch.searchsorted(passed, wanted[:, None]).squeeze(1)
    return found.clamp(max=allowed.shape[1] - 1), passed[:, -1] > 0
