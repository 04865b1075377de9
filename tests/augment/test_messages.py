"""Every refusal in one table: its message is one sentence and names what was given."""

from collections.abc import Callable

import pytest
import torch

from maskrobust.augment import (
    Batch,
    RandomMasking,
    SilhouetteBank,
    apply_fill,
    broken_silhouettes,
    build_family,
    check_visible,
    choose,
    companions,
    enclosing_circles,
    fill_mean,
    objects,
    patches,
    rectangles,
    silhouettes,
)
from maskrobust.augment.families.registry import check_hidden_fraction, draw_hidden_fraction

KEYS = torch.arange(2)
IMAGES = torch.zeros(2, 3, 4, 5)
VISIBLE = torch.ones(2, 1, 4, 5, dtype=torch.bool)
BANK = SilhouetteBank(VISIBLE, torch.zeros(2, dtype=torch.int64), KEYS)
NO_OBJECT = Batch(KEYS, IMAGES, ~VISIBLE, KEYS)
ONE = Batch(KEYS, IMAGES, VISIBLE, KEYS)
HALF = (0.5, 0.5)

REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: check_visible(IMAGES[0], VISIBLE), "(3, 4, 5)"),
    (lambda: check_visible(IMAGES, VISIBLE.float()), "torch.float32"),
    (lambda: check_visible(IMAGES, VISIBLE[:, 0]), "(2, 4, 5)"),
    (lambda: check_visible(IMAGES, VISIBLE.to("meta")), "meta"),
    (lambda: check_hidden_fraction((0.7, 0.2)), "(0.7, 0.2)"),
    (lambda: draw_hidden_fraction(KEYS, (-0.5, 0.2)), "(-0.5, 0.2)"),
    (lambda: patches(KEYS, 4, 5, hidden_fraction=(0.7, 1.5)), "(0.7, 1.5)"),
    (lambda: patches(KEYS, 4, 5, hidden_fraction=HALF, patch_size=-2), "-2"),
    (lambda: rectangles(KEYS, 4, 5, hidden_fraction=(0.7, 0.2)), "(0.7, 0.2)"),
    (lambda: rectangles(KEYS, 4, 5, hidden_fraction=HALF, aspect_ratio=(3.0, 2.0)), "(3.0, 2.0)"),
    (lambda: SilhouetteBank(VISIBLE[:0], KEYS[:0], KEYS[:0]), "none"),
    (lambda: SilhouetteBank.from_batches([]), "none"),
    (lambda: SilhouetteBank.from_batches([NO_OBJECT]), "none"),
    (lambda: silhouettes(KEYS, 5, 4, bank=BANK), "(5, 4)"),
    (lambda: fill_mean(IMAGES, VISIBLE, [0.5, 0.5]), "got 2"),
    (lambda: apply_fill("mean", IMAGES, VISIBLE, keys=KEYS, mean=[0.5]), "got 1"),
    (lambda: apply_fill("black", IMAGES, VISIBLE[:1], keys=KEYS, mean=[0.5]), "(1, 1, 4, 5)"),
    (lambda: RandomMasking(build_family("silhouettes", bank=BANK), probability=1.5), "1.5"),
    (lambda: RandomMasking(build_family("patches"), "blue"), "'blue'"),
    (lambda: build_family("silhouettes"), "none"),
    (lambda: RandomMasking(build_family("patches"), "mean", mean=(124, 116, 104)), "(124, 116, 104)"),
    (lambda: objects(VISIBLE.float()), "torch.float32"),
    (lambda: broken_silhouettes(VISIBLE.to(torch.uint8)), "torch.uint8"),
    (lambda: companions(KEYS, VISIBLE.to(torch.uint8)), "torch.uint8"),
    (lambda: enclosing_circles(VISIBLE.to(torch.uint8)), "torch.uint8"),
    (lambda: check_hidden_fraction((0.1, 0.5, 0.9)), "(0.1, 0.5, 0.9)"),
    (lambda: check_hidden_fraction(0.5), "0.5"),
    (lambda: SilhouetteBank.from_batches([ONE, ONE._replace(object_mask=VISIBLE.transpose(2, 3))]), "(4, 5), (5, 4)"),
    (lambda: apply_fill("mean", IMAGES, VISIBLE, keys=KEYS, mean=[float("nan")] * 3), "nan"),
    (lambda: choose(KEYS, [1.0, -2.0]), "-2.0"),
]


@pytest.mark.parametrize(("refused", "given"), REFUSALS, ids=[f"{i}-{given}" for i, (_, given) in enumerate(REFUSALS)])
def test_a_refusal_is_one_sentence_that_names_what_was_given(refused: Callable[[], object], given: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        refused()
    message = str(caught.value)
    assert given in message
    assert message.endswith(".") and ". " not in message and "\n" not in message
