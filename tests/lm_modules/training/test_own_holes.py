"""Holes that training images bring along: hidden by the method of the training, beside random ones, and exchanged."""

from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from maskrobust.augment import Batch, RandomMasking, build_family, fold_in, patches, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.reconstruction import reconstruction_loss
from tests.conftest import refused

SIDE = 32
PATCHES = build_family("patches", hidden_fraction=(0.1, 0.9), patch_size=8)
NOTHING = build_family("patches", hidden_fraction=(0.0, 0.0), patch_size=8)


def draw_batch(count=48, noise=0):
    """Images with a hole at a place of their own, over which lies noise."""
    ids = torch.arange(count)
    visible = torch.ones(count, 1, SIDE, SIDE, dtype=torch.bool)
    for image, place in enumerate((5 * ids % (SIDE - 9)).tolist()):
        visible[image, :, place : place + 9, 3:20] = False
    images, under = (torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(s)) for s in (1, noise))
    images = torch.where(visible, 0.5 + images / 2, under)
    return Batch(ids, images, torch.zeros_like(visible), ids % 2, visible)


def classifier(masking, **options):
    torch.manual_seed(0)
    given = {"patch_size": 8, "mask_probability": 0.6, "fill": "black", "mask_family": "patches", **options}
    model = MaskRobustClassifier("small_resnet", 2, masking=masking, architecture_options={"width": 16}, **given)
    model.build_masks(None)
    return model


def random_holes(batch):
    """The holes that a training draws for these samples whatever holes they have."""
    masks = RandomMasking(PATCHES, probability=0.6)
    return masks.draw_visible(fold_in(sample_keys(0, batch.ids), 0), batch._replace(visible=None))


@pytest.mark.parametrize("masking", ["fill", "layer_masking", "mixture"])
def test_a_training_hides_an_images_own_hole_and_the_random_one_beside_it_alike(masking):
    batch = draw_batch()
    presented, drawn = classifier(masking).present(batch), random_holes(batch)
    assert torch.equal(presented.kept, drawn & batch.known)
    assert not drawn.flatten(1).all(dim=1).all() and drawn.flatten(1).all(dim=1).any()
    black = (presented.images == 0).all(dim=1, keepdim=True)
    shown = torch.ones_like(presented.kept) if presented.visible is None else presented.visible
    by_fill = shown.flatten(1).all(dim=1)
    assert torch.equal(black[by_fill], ~presented.kept[by_fill])
    assert torch.equal(shown[~by_fill], presented.kept[~by_fill])
    assert torch.equal(presented.images[~by_fill], batch.images[~by_fill])
    assert by_fill.any() == (masking != "layer_masking") and by_fill.all() == (masking == "fill")


@pytest.mark.parametrize("masking", ["fill", "layer_masking", "mixture"])
def test_a_validation_hides_the_own_hole_alone_and_then_half_of_the_patches_with_it(masking, monkeypatch):
    batch, model, asked = draw_batch(), classifier(masking), []

    def predictor(method):
        assert method == ("black" if masking == "fill" else "layer_masking")
        return lambda images, visible, _: asked.append(visible) or torch.zeros(len(images), 2)

    monkeypatch.setattr(model, "trained_network", lambda: SimpleNamespace(predictor=predictor))
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    model.validation_step(batch, 0)
    half = patches(sample_keys(0, batch.ids), SIDE, SIDE, hidden_fraction=(0.5, 0.5), patch_size=8)
    assert torch.equal(asked[0], batch.known) and torch.equal(asked[1], half & batch.known) and len(asked) == 2


def test_a_pretraining_hides_own_and_random_holes_and_learns_nothing_of_what_lies_under_the_own():
    torch.manual_seed(0)
    model, losses = MaskedPretraining("small_resnet", patch_size=8, architecture_options={"width": 16}), []
    for noise in (5, 6):
        batch = draw_batch(8, noise)
        visible = model._draw_visible(batch)
        assert not (visible & ~batch.known).any() and (batch.known & ~visible).any()
        losses.append(model._losses(batch, visible))
        targets, _, _ = model._targets(batch)
        asked = batch.known & ~visible
        assert torch.equal(losses[-1], reconstruction_loss(model(batch.images, visible), targets, asked))
    assert torch.equal(*losses)


def hidden_places(batch, exchanged, family=NOTHING, seed=0):
    """Which pixels each image of a batch has hidden, (B, pixels) bool."""
    masks = RandomMasking(family, exchange_holes=exchanged)
    return ~masks.draw_visible(sample_keys(seed, batch.ids), batch).flatten(1)


def batch_of_points(count=1000, side=40):
    """Images each of which has one pixel without data, where no other has it."""
    visible = ~torch.eye(count, side * side, dtype=torch.bool).reshape(count, 1, side, side)
    ids = torch.arange(count)
    return Batch(ids, torch.zeros(count, 3, side, side), torch.zeros_like(visible), ids % 2, visible)


def test_an_image_gets_the_hole_of_any_other_beside_its_own_with_the_probability():
    batch = batch_of_points()
    hidden = hidden_places(batch, 0.3)
    assert hidden.diagonal().all()  # its own
    added = hidden.clone()
    added.diagonal().fill_(False)
    given = added.any(dim=1)
    assert (added.sum(dim=1) <= 1).all() and not added[:, len(batch.ids) :].any()
    assert stats.binomtest(int(given.sum()), len(batch.ids), 0.3).pvalue > 1e-3
    donors = added.float().argmax(dim=1)[given]
    steps = (donors - batch.ids[given]) % len(batch.ids)
    assert stats.kstest(steps.numpy() / len(batch.ids), "uniform").pvalue > 1e-3
    assert torch.equal(hidden_places(batch, 0.3), hidden) and not torch.equal(hidden_places(batch, 0.3, seed=1), hidden)
    assert hidden_places(batch, 1.0).sum(dim=1).eq(2).all() and hidden_places(batch, 0.0).sum(dim=1).eq(1).all()
    assert torch.equal(hidden_places(batch, 0.3, PATCHES), hidden | hidden_places(batch, 0.0, PATCHES))


def test_an_image_of_which_anothers_hole_would_leave_nothing_keeps_to_its_own():
    visible = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    visible[0, ..., :2], visible[1, ..., 2:] = True, True
    batch = Batch(torch.arange(2), torch.zeros(2, 3, 4, 4), torch.zeros_like(visible), torch.arange(2), visible)
    assert torch.equal(~hidden_places(batch, 1.0).reshape(visible.shape), visible)


@pytest.mark.parametrize("masking", ["fill", "layer_masking"])
def test_exchanged_holes_are_hidden_by_the_method_of_the_training_without_any_random_one(masking):
    batch = draw_batch()
    presented = classifier(masking, mask_probability=0.0, exchange_holes=1.0).present(batch)
    hidden = ~presented.kept
    assert (hidden >= ~batch.known).all() and (hidden.sum() > 1.2 * (~batch.known).sum())
    if masking == "fill":
        assert torch.equal((presented.images == 0).all(dim=1, keepdim=True), hidden)
    else:
        assert presented.visible is not None and torch.equal(presented.visible, presented.kept)


def test_exchanging_holes_is_refused_where_it_would_have_no_effect():
    with refused(InputError, "exchange_holes must lie in [0, 1], got 1.5"):
        classifier("fill", exchange_holes=1.5)
    with refused(InputError, "exchange_holes needs a way to hide holes, got masking 'none'"):
        classifier("none", exchange_holes=0.5)
    whole = SimpleNamespace(some_images=lambda *_: [draw_batch(4)._replace(visible=None)])
    model = classifier("fill", exchange_holes=0.5)
    with refused(InputError, "exchange_holes needs training images with holes of their own"):
        model.build_masks(whole)
    model.build_masks(SimpleNamespace(some_images=lambda *_: [draw_batch(4)]))
