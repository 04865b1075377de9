"""The panel shows what the suite shows the network."""

import torch

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.callbacks.reliance import draw_panel
from maskrobust.lm_modules.methods import mark_hidden
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.callbacks.runs import TRAINING, VALIDATION

SIDE = VALIDATION[0].images.shape[-1]


def test_there_is_a_row_for_each_image_and_a_column_for_it_and_each_method() -> None:
    batch = VALIDATION[0].select(slice(3))
    picture = draw_panel(batch, ("black", "layer_masking"), (0.5, 0.5, 0.5), seed=0)
    assert picture.shape == (3, 3 * (SIDE + 2) + 2, 3 * (SIDE + 2) + 2)
    image, black, marked = (cell(picture, row=1, column=column) for column in range(3))
    source = ConditionSource(SilhouetteBank.from_batches(TRAINING), ReliancePlan(), seed=0)
    visible_of_all = source.draw(batch).holes.silhouette_visible
    visible = visible_of_all[1]
    assert not visible[batch.object_mask[1]].any()
    assert torch.equal(image, batch.images[1])
    assert torch.equal(black, torch.where(visible, batch.images[1], 0.0))
    assert torch.equal(marked, mark_hidden(batch.images, visible_of_all)[1])


def cell(picture: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """One picture of the grid, without the frame of two pixels."""
    top, left = (2 + place * (SIDE + 2) for place in (row, column))
    return picture[:, top : top + SIDE, left : left + SIDE]
