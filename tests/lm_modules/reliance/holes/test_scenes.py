"""Shapes in empty scenes: which are drawn, what networks are shown, and how far known ones are pulled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from maskrobust.augment import SilhouetteBank, circle_geometry
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.holes.scenes import (
    EmptyScenes,
    ask_pass,
    draw_shapes,
    scene_answers,
    scene_passes,
    texture_energy,
)
from maskrobust.lm_modules.reliance.measurement import Measurement, difference_rows, result_rows, under_methods
from maskrobust.lm_modules.reliance.measures.outline_pull import TOO_FEW
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, SIZE, as_logits, read_outline, shape_bank, shape_batch
from tests.lm_modules.reliance.tables import make_outcomes

NOISE = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
FLAT = torch.full((3, 3, SIZE, SIZE), 0.4)
SCENES = EmptyScenes(torch.cat([FLAT, NOISE]), ("flat",) * 3 + ("noise",) * 4)
BANK = shape_bank(80)
PLAN = ReliancePlan(shapes=False, hidden_fractions=(), scenes=len(SCENES.images), scene_objects=40)


def draw(count=40, seed=0, bank=BANK):
    return draw_shapes(bank, count=count, seed=seed)


def reader(images, visible, keys):
    return as_logits(read_outline(~visible))


def blind(images, visible, keys):
    return torch.randn(1, NUM_CLASSES, generator=torch.Generator().manual_seed(1)).expand(len(images), -1)


def reader_on_texture(images, visible, keys):
    return reader(images, visible, keys) * (texture_energy(images) > 1e-6)[:, None]


def answers(predictor, scenes=SCENES, shapes=None):
    """Every pass, the last first."""
    shapes = shapes or draw()
    pictures = shapes.check(scenes)
    passes = scene_passes(shapes, len(pictures.images))
    found = [ask_pass(shapes, pictures.images, rows, {"it": predictor}, seed=3)["it"] for rows in passes][::-1]
    return scene_answers(shapes, pictures, found)


def outcomes(given):
    return replace(make_outcomes(3, 0), scenes=given)


def rows(given):
    return {row.name: row for row in result_rows("a", "m", {0: outcomes(given)}, Context(PLAN))}


def interval(row):
    return row.value, row.low, row.high


def test_each_object_has_one_shape_in_the_middle_and_a_partner():
    twice = replace(BANK, objects=BANK.ids // 2)
    shapes = draw(bank=twice)
    assert 4 < len(shapes.objects) <= 40 and len(shapes.objects.unique()) == len(shapes.objects)
    assert torch.equal(shapes.pairs.unique(), torch.arange(len(shapes.objects)))
    assert (shapes.labels[shapes.pairs[:, 0]] != shapes.labels[shapes.pairs[:, 1]]).all()
    assert (circle_geometry(~shapes.visible)[0] - SIZE // 2).abs().max() <= 0.5
    areas = {int(sample): int(mask.sum()) for sample, mask in zip(BANK.ids, BANK.object_masks, strict=True)}
    for of, visible in zip(shapes.objects.tolist(), shapes.visible, strict=True):
        assert int((~visible).sum()) in (areas[2 * of], areas[2 * of + 1])
    assert torch.equal(draw().objects, draw().objects) and not torch.equal(draw(20, 1).objects, draw(20).objects)


def test_objects_at_the_border_are_passed_over():
    moved = torch.stack([mask.roll(-int(mask.any(dim=2).nonzero()[0, 1]), dims=1) for mask in BANK.object_masks])
    assert len(draw(bank=SilhouetteBank(moved, BANK.labels, BANK.ids)).objects) == 0


def test_every_shape_is_hidden_in_every_scene_with_one_key_a_scene():
    shown = []

    def recorder(images, visible, keys):
        shown.append((images.clone(), visible.clone(), keys.clone()))
        return (images.mean(dim=1) * visible[:, 0]).flatten(1)[:, :NUM_CLASSES]

    shapes, scenes = draw(), len(SCENES.images)
    given = answers(recorder)
    images, visible, keys = (torch.cat(each) for each in zip(*shown, strict=True))
    assert torch.equal(images, SCENES.images.repeat(len(shapes.objects), 1, 1, 1))
    assert torch.equal(visible, shapes.visible.repeat_interleave(scenes, dim=0))
    assert torch.equal(keys, keys[:scenes].repeat(len(shapes.objects))) and len(keys.unique()) == scenes
    expected = (images.mean(dim=1) * visible[:, 0]).flatten(1)[:, shapes.labels.unique()]
    assert np.array_equal(given.logits.reshape(-1, given.logits.shape[2]), expected.numpy())


@pytest.mark.parametrize(
    ("predictor", "flat", "noise"),
    [(reader, 1.0, 1.0), (blind, 0.0, 0.0), (reader_on_texture, 0.0, 1.0)],
    ids=["reads outlines", "cannot read them", "reads them on texture"],
)
def test_known_networks_are_pulled_as_far_as_they_read_outlines(predictor, flat, noise):
    found = rows(answers(predictor))
    total = (3 * flat + 4 * noise) / 7
    for name, truth in {"outline_pull_on_flat": flat, "outline_pull_on_noise": noise}.items():
        assert interval(found[name]) == pytest.approx((truth,) * 3)
    value, low, high = interval(found["outline_pull"])
    assert value == pytest.approx(total) and (low < total < high if flat != noise else low == high == value)


def test_a_difference_is_paired_and_of_the_same_objects():
    one, other = (outcomes(answers(each)) for each in (reader, blind))
    found = {row.name: row for row in difference_rows("a", "b", "m", ([one], [other]), Context(PLAN))}
    assert interval(found["outline_pull"]) == pytest.approx((1.0, 1.0, 1.0))
    fewer = outcomes(answers(blind, shapes=draw(20)))
    with pytest.raises(InputError, match="evaluate them on one split"):
        list(difference_rows("a", "b", "m", ([one], [fewer]), Context(PLAN)))


def test_what_cannot_be_asked_is_undefined_with_its_reason():
    def reason(name, *given, shapes=None):
        return str(rows(answers(reader, *given, shapes=shapes))[name].undefined_because)

    assert reason("outline_pull", None) == reason("outline_pull_on_photographs") == TOO_FEW
    assert reason("outline_pull", EmptyScenes(NOISE[:1], ("noise",))) == TOO_FEW
    assert reason("outline_pull", EmptyScenes(NOISE[:2], ("noise",) * 2)) == "None"
    lonely = draw(bank=replace(BANK, objects=torch.zeros_like(BANK.ids)))
    three = replace(draw(), pairs=torch.tensor([[0, 1], [0, 2]]))
    assert reason("outline_pull", SCENES, shapes=lonely) == reason("outline_pull", SCENES, shapes=three) == TOO_FEW
    with pytest.raises(InputError, match=r"must have the size \(32, 32\).*got \(8, 8\)"):
        answers(reader, EmptyScenes(NOISE[..., :8, :8], ("noise",) * 4))


def test_networks_are_asked_about_the_shapes_in_one_measurement():
    network = MaskRobustClassifier("small_resnet", NUM_CLASSES, seed=0).trained_network()
    plans = {"black": PLAN, "layer_masking": replace(PLAN, scenes=0)}
    measurement = Measurement(under_methods({"a": network}, plans), BANK, NUM_CLASSES, seed=3, scenes=SCENES)
    runs = measurement.run([shape_batch(80, 100)])
    assert runs["a", "layer_masking"].scenes is None
    with torch.inference_mode():
        alone = answers(network.predictor("black"), shapes=draw(seed=3))
    asked = runs["a", "black"].scenes
    assert asked is not None and all(map(np.array_equal, asked, alone))


def test_texture_energy_is_what_a_gaussian_of_two_pixels_takes_away():
    fine = NOISE[0].double().numpy()
    fine -= np.stack([gaussian_filter(each, 2.0, mode="mirror") for each in fine])
    assert float(texture_energy(NOISE)[0]) == pytest.approx(float((fine**2).mean()), rel=1e-3)
    assert float(texture_energy(FLAT)[0]) == pytest.approx(0.0, abs=1e-12)
