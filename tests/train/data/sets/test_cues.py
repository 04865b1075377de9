"""Cues: the knobs do what they say, and nothing but texture and outline tells the class; the outlines themselves."""

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.train.data.sets.cues import Cues
from maskrobust.train.data.sets.outlines import (
    DEFORMATION_NUMBERS,
    OUTLINE_NAMES,
    POINTS,
    base_outlines,
    deform,
    enclosing_circle,
    rasterise,
)


@pytest.fixture(scope="module")
def samples():
    """240 samples of each class."""
    return Cues(train_images=1920).samples("train")


def circles(samples):
    """(N, 3): centre x, centre y, radius of the smallest circle around each object, found by OpenCV alone."""
    found = []
    for mask in samples.object_mask[:, 0].numpy():
        rows, columns = np.nonzero(mask)
        (x, y), radius = cv2.minEnclosingCircle(np.stack([columns, rows], axis=1).astype(np.float32))
        found.append((x, y, radius))
    return np.array(found)


@pytest.mark.parametrize("what", ["centre x", "centre y", "radius"])
def test_the_enclosing_circle_says_nothing_about_the_class(samples, what):
    values = circles(samples)[:, ["centre x", "centre y", "radius"].index(what)]
    labels = samples.labels.numpy()
    by_class = [values[labels == label] for label in range(8)]
    assert stats.kruskal(*by_class).pvalue > 0.02
    assert min(stats.ks_2samp(values[labels == k], values[labels != k]).pvalue for k in range(8)) > 0.02 / 8


def test_the_background_says_nothing_about_the_class(samples):
    border = torch.ones(48, 48, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    light = samples.images[:, :, border].float()
    for values in (light.mean(dim=(1, 2)), light.std(dim=(1, 2)), light[:, 0].mean(dim=1) - light[:, 2].mean(dim=1)):
        assert stats.kruskal(*(values[samples.labels == label].numpy() for label in range(8))).pvalue > 0.02


def test_the_outline_alone_tells_the_class(samples):
    aligned = []
    for mask, (x, y, radius) in zip(samples.object_mask[:, 0].numpy(), circles(samples), strict=True):
        scale = 15 / radius
        matrix = np.array([[scale, 0, 16 - scale * x], [0, scale, 16 - scale * y]])
        aligned.append(cv2.warpAffine(mask.astype(np.float32), matrix, (33, 33)).ravel())
    shapes, labels = np.array(aligned), samples.labels.numpy()
    templates = np.stack([shapes[:1000][labels[:1000] == label].mean(axis=0) for label in range(8)])
    distances = np.linalg.norm(shapes[1000:, None] - templates, axis=2)
    assert (distances.argmin(axis=1) == labels[1000:]).mean() > 0.8


@pytest.mark.parametrize(
    ("knob", "shown"), [("texture_informativeness", "textures"), ("outline_informativeness", "outlines")]
)
class TestKnobs:
    def shown(self, knob, shown, value):
        data = Cues(train_images=8000, **{knob: value})
        causes = data.causes(data.ids("train"))
        return causes.labels.numpy(), getattr(causes, shown).numpy()

    def test_at_one_the_label_is_shown(self, knob, shown):
        labels, classes = self.shown(knob, shown, 1.0)
        assert (labels == classes).all()

    def test_at_zero_what_is_shown_is_uniform_and_independent_of_the_label(self, knob, shown):
        labels, classes = self.shown(knob, shown, 0.0)
        table = np.histogram2d(labels, classes, bins=[np.arange(9), np.arange(9)])[0]
        assert stats.chi2_contingency(table).pvalue > 0.01
        assert stats.chisquare(table.sum(axis=0)).pvalue > 0.01

    def test_between_it_is_shown_with_that_probability_and_else_drawn_from_all(self, knob, shown):
        labels, classes = self.shown(knob, shown, 0.6)
        expected = 0.6 + 0.4 / 8
        assert stats.binomtest(int((labels == classes).sum()), 8000, expected).pvalue > 0.01

    def test_a_value_that_is_no_probability_is_refused(self, knob, shown):
        for value in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match=rf"^{knob} must lie in \[0, 1\], got"):
                Cues(**{knob: value})


def test_textures_and_outlines_are_drawn_independently_of_each_other():
    data = Cues(train_images=8000, texture_informativeness=0.0, outline_informativeness=0.0)
    causes = data.causes(data.ids("train"))
    table = np.histogram2d(causes.textures.numpy(), causes.outlines.numpy(), bins=[np.arange(9), np.arange(9)])[0]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_the_outline_shown_is_the_one_recorded_and_nothing_else_changes_with_it():
    told, untold = Cues(train_images=64), Cues(train_images=64, outline_informativeness=0.0)
    ids = told.ids("train")
    same = told.causes(ids).outlines == untold.causes(ids).outlines
    one, other = told.samples("train"), untold.samples("train")
    assert 0 < same.sum() < 30
    equal_masks = (one.object_mask == other.object_mask).flatten(1).all(dim=1)
    assert torch.equal(equal_masks, same)
    agree = (one.object_mask == other.object_mask).expand_as(one.images)
    assert torch.equal(one.images[agree], other.images[agree])
    assert (one.images[~agree] != other.images[~agree]).float().mean() > 0.9


def test_the_texture_shown_is_the_one_recorded_and_nothing_else_changes_with_it():
    told, untold = Cues(train_images=64), Cues(train_images=64, texture_informativeness=0.0)
    ids = told.ids("train")
    same = told.causes(ids).textures == untold.causes(ids).textures
    one, other = told.samples("train"), untold.samples("train")
    assert torch.equal(one.object_mask, other.object_mask)
    outside = ~one.object_mask.expand_as(one.images)
    assert torch.equal(one.images[outside], other.images[outside])
    assert torch.equal((one.images == other.images).flatten(1).all(dim=1), same)


def test_a_picture_without_its_object_is_the_same_around_it():
    data = Cues(train_images=8, val_images=8, test_images=8, image_size=48)
    batch = next(iter(data.test_dataloader())).to("cpu")
    scenes = data.without_object("test", batch.ids)
    differs = (scenes != batch.images).any(dim=1, keepdim=True)
    assert not (differs & ~batch.object_mask).any() and (differs & batch.object_mask).flatten(1).any(dim=1).all()


def test_all_kinds_fill_nearly_the_same_share_of_the_circle_asked_for_in_one_piece():
    numbers = np.random.default_rng(0).random((200 * len(OUTLINE_NAMES), DEFORMATION_NUMBERS), dtype=np.float32)
    curves = deform(np.repeat(base_outlines(), 200, axis=0), numbers)
    for of_kind in curves.reshape(len(OUTLINE_NAMES), 200, POINTS, 2):
        masks = [rasterise(curve, np.array([32.0, 32.0]), 28.0, 64) for curve in of_kind[:100]]
        assert 0.44 < np.mean(masks) * 64**2 / (np.pi * 28**2) < 0.51
        assert all(cv2.connectedComponents(mask.astype(np.uint8))[0] == 2 for mask in masks)
        generator, errors = np.random.default_rng(1), []
        for curve in of_kind:
            centre, radius = generator.uniform(20, 27, 2), generator.uniform(14, 18)
            found_centre, found_radius = enclosing_circle(rasterise(curve, centre, radius, 48))
            errors.append((*(found_centre - centre), found_radius - radius))
        assert np.abs(np.mean(errors, axis=0)).max() < 0.1 and abs(np.mean(errors, axis=0)[2]) < 0.05
