"""MixUp and CutMix: what is seen, what is visible, and which label counts how much."""

import pytest
import torch
from torch.nn import functional as F

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.mixing import mix

NUMBER, SIZE = 6, 24


def batch(visible=True):
    """Images of one grey each, so that a pixel tells whose it is; some pixels of each hold no data."""
    draws = torch.Generator().manual_seed(1)
    known = torch.rand(NUMBER, 1, SIZE, SIZE, generator=draws) < 0.8
    grey = torch.arange(1, NUMBER + 1)[:, None, None, None] / 10
    images = grey.expand(NUMBER, 3, SIZE, SIZE) * (known if visible else 1)
    objects = torch.rand(NUMBER, 1, SIZE, SIZE, generator=draws) < 0.3
    ids = torch.arange(NUMBER)
    return Batch(ids, images, objects, ids % 3, known if visible else None)


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize("key", range(8))
def test_mixup_adds_images_where_both_can_be_seen(key, visible):
    given = batch(visible)
    mixed, partners, weight = mix(given, "mixup", key)
    assert sorted(partners.tolist()) == [*range(NUMBER)] and len(set(weight.tolist())) == 1
    assert (mixed.visible is None) != visible
    for place, partner in enumerate(partners.tolist()):
        both = given.known[place] & given.known[partner]
        expected = weight[place] * (place + 1) / 10 + (1 - weight[place]) * (partner + 1) / 10
        assert torch.equal(mixed.known[place], both)
        assert torch.allclose(mixed.images[place][:, both[0]], expected.expand(3, int(both.sum())))
        assert not mixed.images[place][:, ~both[0]].any()
        assert torch.equal(mixed.object_mask[place], (given.object_mask[place] | given.object_mask[partner]) & both)


@pytest.mark.parametrize("visible", [True, False])
def test_cutmix_shows_a_box_of_another_image_with_its_visible_pixels_and_weighs_what_can_be_seen(visible):
    given, areas = batch(visible), []
    for key in range(200):
        mixed, partners, weight = mix(given, "cutmix", key)
        for place, partner in enumerate(partners.tolist()):
            if partner == place:
                continue
            shown = (mixed.images[place, 0] * 10).round().int()
            theirs, own = shown == partner + 1, shown == place + 1
            assert torch.equal(theirs | own, mixed.known[place, 0])
            if visible:
                assert torch.equal(theirs & given.known[partner, 0], theirs)
            assert weight[place] == pytest.approx(own.sum().item() / (own | theirs).sum().item())
            at = theirs.nonzero()
            if len(at):
                (top, left), (low, right) = at.min(0).values.tolist(), at.max(0).values.tolist()
                assert not own[top : low + 1, left : right + 1].any()
                areas.append(1 - weight[place].item())
    assert 0.2 < sum(areas) / len(areas) < 0.5  # of Beta(1, 1), cut off at the border
    assert max(areas) > 0.8 and min(areas) < 0.1


def test_images_that_share_no_visible_pixel_stay_as_they_are():
    given = batch()
    left = torch.arange(SIZE) < SIZE // 2
    halves = torch.stack([left if place % 2 else ~left for place in range(NUMBER)])[:, None, None, :]
    given = given._replace(visible=halves.expand(-1, 1, SIZE, -1), images=given.images * halves)
    mixed, partners, weight = mix(given, "mixup", 3)
    parted = [place for place in range(NUMBER) if weight[place] == 1]
    assert parted and all(torch.equal(mixed.images[each], given.images[each]) for each in parted)
    assert all(partners[each] == each and torch.equal(mixed.known[each], given.known[each]) for each in parted)


@pytest.mark.parametrize("masking", ["none", "layer_masking"])
@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_the_loss_is_that_of_both_labels(how, masking):
    torch.manual_seed(0)
    model = MaskRobustClassifier("small_resnet", 3, mix=how, masking=masking, architecture_options={"width": 16})
    model.build_masks(None)
    model.log = lambda *_, **__: None  # type: ignore[assignment,method-assign,misc]
    given = batch(visible=masking != "none")
    shown, again = model.present(given), model.present(given)
    assert torch.equal(shown.images, again.images) and shown.own_weight.min() < 1
    logits = model.eval()(shown.images, shown.visible)
    both = [
        F.cross_entropy(logits, labels, reduction="none") for labels in (given.labels, given.labels[shown.partners])
    ]
    expected = (shown.own_weight * both[0] + (1 - shown.own_weight) * both[1]).mean()
    assert torch.allclose(model.training_step(given, 0), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "consistency", "masking": "fill"}, "got objective 'consistency'"),
        ({"masking": "fill", "fill": "other_image"}, "got fill 'other_image', which mixes labels, too"),
    ],
)
def test_what_mixes_labels_is_taken_once_and_by_an_objective_that_can(options, said):
    with pytest.raises(InputError, match=f"mix mixup mixes the labels of two images, {said}; choose one of the two"):
        MaskRobustClassifier(num_classes=3, mix="mixup", **options)
