import numpy as np
import pytest
import torch

from maskrobust.augment import FILLS, Batch, SilhouetteBank, apply_fill
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.report.examples import choose_examples, example_strips

MEAN = (0.2, 0.5, 0.7)
LOOK = Preprocessing(mean=MEAN)
SEED, PATCH_SIZE = 3, 8


def make_batch(count=4, size=48):
    """Ellipses of different sizes on noise; the last image has no object."""
    generator = torch.Generator().manual_seed(0)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = [((row - 20) / (6 + i)) ** 2 + ((column - 18 - i) / 9) ** 2 <= 1 for i in range(count - 1)]
    masks.append(torch.zeros(size, size, dtype=torch.bool))
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator) / 255
    return Batch(torch.arange(count) + 100, images, torch.stack(masks)[:, None], torch.arange(count))


def holes_of_the_measures(batch):
    """`visible` and keys as a measurement hands them to a predictor, in the order that it asks."""
    asked = []

    def predictor(images, visible, keys):
        asked.append((images, visible, keys))
        return torch.zeros(len(images), 4)

    plan = ReliancePlan(hidden_fractions=(0.5,), patch_size=PATCH_SIZE)
    Measurement({"recorder": Asked(predictor, plan)}, SilhouetteBank.from_batches([batch]), 4, seed=SEED).ask(batch)
    return asked


@pytest.fixture(scope="module")
def batch():
    return make_batch()


def strips_of(batch, *methods, look=LOOK):
    return example_strips(batch, methods, ReliancePlan(patch_size=PATCH_SIZE), SEED, look)


def as_bytes(images):
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("method", [*FILLS, "layer_masking"])
def test_pictures_are_what_the_measures_show_to_the_network(batch, method):
    original, *strips = strips_of(batch, method)
    assert np.array_equal(np.stack(original.images), as_bytes(batch.images)[:3])  # the last image has no object
    assert [strip.condition for strip in strips] == ["retention/0.5", "silhouette", "circle"]
    for strip in strips:
        fill = "black" if method == "layer_masking" else method
        shown = [
            (as_bytes(apply_fill(fill, images, visible, keys=keys, mean=MEAN)), visible[:, 0].numpy())
            for images, visible, keys in holes_of_the_measures(batch)
        ]
        for picture, clean in zip(strip.images, original.images, strict=True):
            if method == "layer_masking":  # a grey checkerboard is drawn for the reader: compare what is visible
                holes = (picture != clean).any(axis=2)
                assert len(np.unique(picture[holes], axis=0)) == 2
                assert any((holes <= ~seen).all() for _, visible in shown for seen in visible)
            else:
                assert picture.tobytes() in {each.tobytes() for pixels, _ in shown for each in pixels}, strip.label
    assert len({np.stack(strip.images).tobytes() for strip in strips}) == 3


def without_objects(batch, rows):
    object_mask = batch.object_mask.clone()
    object_mask[rows] = False
    return batch._replace(object_mask=object_mask)


def test_examples_are_images_with_an_object_of_different_classes_from_as_few_batches_as_it_takes(batch):
    whole = without_objects(
        make_batch(12)._replace(labels=torch.tensor([0, 0, 0, 5, 5, 9, 5, 2, 5, 2, 7, 5])), [0, 1, 2, 5]
    )

    def batches():
        yield from (whole.select(slice(start, start + 3)) for start in range(0, 9, 3))
        raise AssertionError("another batch was asked for")

    chosen = choose_examples(batches(), 4, num_classes=2)
    assert chosen.ids.tolist() == [103, 107, 104, 106] and chosen.labels.tolist() == [5, 2, 5, 5]
    assert torch.equal(chosen.images, whole.images[[3, 7, 4, 6]])
    assert choose_examples([without_objects(batch, [1])], 4, 2).ids.tolist() == [100, 102]
    assert choose_examples([without_objects(batch, slice(None))], 2, 2).ids.tolist() == [100, 101]
    with pytest.raises(ValueError, match="silhouettes are drawn from object masks"):
        strips_of(batch.select(torch.tensor([3])), "black")


def test_a_picture_depends_on_seed_and_id_alone(batch):
    whole, turned = strips_of(batch, "random_colour"), strips_of(batch.select(torch.tensor([2, 0])), "random_colour")
    for one, other in zip(whole, turned, strict=True):
        assert np.array_equal(one.images[2], other.images[1]) and np.array_equal(one.images[0], other.images[0])


def test_the_first_picture_is_of_the_object_that_is_least_like_its_circle(batch):
    row, column = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    disc, bar = (row - 24) ** 2 + (column - 24) ** 2 <= 81, ((row - 24).abs() <= 3) & ((column - 24).abs() <= 12)
    of_both = batch.select(slice(2))._replace(object_mask=torch.stack([disc, bar])[:, None])
    for strip in strips_of(of_both, "black"):
        assert len(strip.images) == 2
    original, _, _, circle = strips_of(of_both, "black")
    assert np.array_equal(np.stack(original.images), as_bytes(of_both.images.flip(0)))
    assert [(each == 0).all(axis=2).sum() > 300 for each in circle.images] == [True, False]
