"""Objects hidden behind the silhouettes of others."""

import torch

from maskrobust.augment import SilhouetteBank, covers, sample_keys
from tests.lm_modules.reliance.shapes import NUM_CLASSES, read_outline, shape_bank, shape_batch

BANK = shape_bank(80)
BATCH = shape_batch(60, seed=3, first_id=1000)


def test_a_cover_hides_the_object_whole_and_has_the_outline_of_any_class():
    hidden = ~covers(sample_keys(0, BATCH.ids), BATCH.object_mask, BATCH.ids, bank=BANK)
    assert not (BATCH.object_mask & ~hidden).any()
    inside = ~hidden[..., [0, -1]].flatten(1).any(dim=1)
    own = (read_outline(hidden[inside]) == BATCH.labels[inside]).float().mean()
    assert inside.sum() > 15 and abs(own - 1 / NUM_CLASSES) < 0.3


def test_no_object_is_hidden_behind_its_own_silhouette():
    first, second = (batch.select(slice(0, 1)) for batch in (BATCH, shape_batch(60, seed=4, first_id=5000)))
    own, other = (SilhouetteBank.from_batches([each]) for each in (first, second))
    both = SilhouetteBank.from_batches([first, second])
    for key in sample_keys(0, torch.arange(8)):
        drawn = covers(key[None], first.object_mask, first.ids, bank=both)
        assert torch.equal(drawn, covers(key[None], first.object_mask, first.ids, bank=other))
        assert not drawn.all() and covers(key[None], first.object_mask, first.ids, bank=own).all()


def test_no_object_is_hidden_behind_another_view_of_itself():
    lying, standing, square = torch.zeros(3, 1, 32, 32, dtype=torch.bool)
    lying[:, 14:18, 8:24] = True
    standing[:, 8:24, 14:18] = True
    square[:, 14:18, 14:18] = True
    masks = torch.stack([lying] * 6 + [standing] * 2)
    bank = SilhouetteBank(masks, torch.zeros(8).long(), torch.arange(8), torch.tensor([7] * 6 + [8, 9]))
    keys = sample_keys(0, torch.arange(100))
    hidden = ~covers(keys, square.expand(100, 1, 32, 32), torch.full((100,), 3), bank=bank)
    assert (hidden.any(dim=3).sum(dim=2) > hidden.any(dim=2).sum(dim=2)).all()
