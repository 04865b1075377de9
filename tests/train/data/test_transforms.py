"""`data.transform`: recipes, files, functions and transforms; one geometry for image and masks, one draw a key."""

import pickle
from itertools import product

import albumentations as A
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from maskrobust.augment.batch import Batch, in_unit_range
from maskrobust.augment.transforms import HideRegions
from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder, Transform
from maskrobust.train.data.loading import Position
from maskrobust.train.data.pipelines import View
from tests.train.data.layouts import joined
from tests.train.data.sets.test_folder import write_tree
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_NETWORK, TWO_STEPS

SIZE = 32
MODES = (0, 1, 2, 3)  # nearest, linear, cubic, by area, as OpenCV numbers them
BILINEAR, BICUBIC, NEAREST = InterpolationMode.BILINEAR, InterpolationMode.BICUBIC, InterpolationMode.NEAREST


def for_text(image_size):
    """A transform of a user's own module, named by its path."""
    return A.Compose([A.Rotate((-8, 8), p=0.8), A.RandomResizedCrop((image_size, image_size), scale=(0.6, 1.0))])


def as_numpy_array(image_size):
    return np.zeros(image_size)


def rotate_and_crop(angle=30):
    return v2.Compose([v2.RandomRotation(angle), v2.RandomResizedCrop(SIZE, antialias=True), v2.ColorJitter(0.2)])


def saved(folder):
    A.save(for_text(SIZE), folder / "own.yaml", data_format="yaml")
    return str(folder / "own.yaml")


def sample(bands=3, dtype=torch.uint8, height=60, width=90):
    """An image of which the first band is its object mask, and random beside it."""
    object_mask = torch.zeros(1, height, width, dtype=torch.bool)
    object_mask[:, 12:31, 20:64] = True
    draws = torch.Generator().manual_seed(0)
    rest = torch.randint(256, (bands - 1, height, width), generator=draws, dtype=torch.uint8)
    image = torch.cat([object_mask.to(torch.uint8) * 255, rest])
    return View(image if dtype == torch.uint8 else image.to(dtype) / 255, object_mask)


@pytest.mark.parametrize("key", range(20))
def test_crop_flip_is_torchvisions_reference_training(key):
    view = sample()
    torch.manual_seed(key)
    reference = v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip()])
    image, mask = reference(tv_tensors.Image(view.image), tv_tensors.Mask(view.object_mask))
    torch.manual_seed(key + 1)
    state = torch.get_rng_state()
    seen = Transform("crop_flip", SIZE)(view, key)
    assert torch.equal(seen.image, image) and torch.equal(seen.object_mask, mask) and seen.visible is None
    assert torch.equal(torch.get_rng_state(), state)
    assert type(seen.image) is type(seen.object_mask) is Tensor
    empty = Transform("crop_flip", SIZE)(view._replace(object_mask=torch.zeros_like(view.object_mask)), key)
    assert torch.equal(empty.image, image) and not empty.object_mask.any() and empty.object_mask.shape == mask.shape
    assert type(empty.image) is type(empty.object_mask) is Tensor and empty.object_mask.dtype == torch.bool


@pytest.mark.parametrize(
    ("given", "keys"),
    [("crop_flip", 20), ("none", 1), ("light", 20), (rotate_and_crop(), 20), (v2.RandomCrop(SIZE), 20)],
    ids=["crop_flip", "none", "light", "torchvision", "crop"],
)
def test_a_view_shows_image_and_mask_alike(given, keys):
    """An image whose first band is its mask keeps that, up to half a pixel along the edge."""
    view = sample()
    for key in range(keys):
        seen = Transform(given, SIZE)(view, key)
        assert seen.image.shape == (3, SIZE, SIZE) and seen.object_mask.shape == (1, SIZE, SIZE)
        differs = (seen.image[0] > 100) != seen.object_mask[0]
        edge = F.max_pool2d(seen.object_mask.float(), 3, 1, 1) != -F.max_pool2d(-seen.object_mask.float(), 3, 1, 1)
        shown = torch.ones_like(differs) if seen.visible is None else seen.visible[0]
        assert not (differs & shown & ~edge[0]).any()
        assert not seen.image[:, ~shown].any()
    whole = Transform("none", 56)(view).object_mask  # resized to 64 rows of 60, and 56 of them
    assert whole.double().mean() == pytest.approx(19 * 44 / 60**2 * (64 / 56) ** 2, abs=0.02)


def of_albumentations(interpolation):
    options = {"interpolation": interpolation, "area_for_downscale": "image", "p": 1.0}
    crop = A.RandomResizedCrop((SIZE, SIZE), scale=(0.2, 1.0), **options)  # type: ignore[arg-type]
    for step in (
        A.Rotate((20, 40), interpolation=interpolation, fill_mask=1, p=1.0),
        A.Affine(scale=(0.5, 0.8), shear=20, interpolation=interpolation, p=1.0),
        A.Perspective((0.1, 0.2), interpolation=interpolation, p=1.0, fit_output=True),
        A.PadIfNeeded(120, 120, p=1.0),
    ):
        yield A.Compose([step, crop])


def of_torchvision(interpolation):
    crop = v2.RandomResizedCrop(SIZE, scale=(0.2, 1.0), interpolation=interpolation)
    geometric = BILINEAR if interpolation is BICUBIC else interpolation
    yield v2.Compose([v2.RandomRotation((20, 40), geometric), crop])
    yield v2.Compose([v2.RandomPerspective(0.5, 1.0, geometric), crop])
    yield v2.Compose([v2.RandomZoomOut(p=1.0), crop])
    yield v2.Compose([v2.ElasticTransform(300.0, interpolation=geometric), crop])
    if interpolation is not BICUBIC:
        yield v2.Compose([v2.TrivialAugmentWide(interpolation=geometric), v2.Resize((SIZE, SIZE), interpolation)])
        yield v2.Compose([v2.RandAugment(interpolation=geometric), v2.Resize((SIZE, SIZE), interpolation)])


PIPELINES = [
    *(each for mode in MODES for each in of_albumentations(mode)),
    *(each for mode in (NEAREST, BILINEAR, BICUBIC) for each in of_torchvision(mode)),
    "light",
]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("given", PIPELINES, ids=lambda given: type(given).__name__)
def test_nothing_hidden_and_nothing_beyond_the_image_is_blended_into_visible_pixels(given, holes, dtype):
    """A constant band stays constant, whatever holes and border hold, up to 2 of 255 by rounding."""
    white = 255 if dtype == torch.uint8 else 1.0
    image = torch.full((3, 60, 90), 200, dtype=torch.uint8)
    visible = torch.ones(1, 60, 90, dtype=torch.bool)
    if holes:
        visible[:, 10:25, 30:70] = visible[:, :, 80:] = False
        image[:, ~visible[0]] = 255
    view = View(image if dtype == torch.uint8 else image / 255, torch.zeros_like(visible), visible if holes else None)
    transform, hidden = Transform(given, SIZE), 0
    for key in range(8):
        seen = transform(view, key)
        assert seen.visible is not None
        bands = seen.image[:, seen.visible[0]]
        assert bands.numel() == 0 or (bands.float().amax() - bands.float().amin()) / white * 255 <= 2
        hidden += int((~seen.visible).sum())
    assert hidden > 0


@pytest.mark.parametrize("given", [*PIPELINES, "crop_flip", "cut", "none"], ids=lambda given: type(given).__name__)
@pytest.mark.parametrize("holes", [False, True])
def test_labels_move_with_the_object_by_the_nearest_and_are_ignored_where_nothing_is_seen(given, holes):
    """Labels are those of the file, with no number in between, and lie where masks do, up to two pixels."""
    view = sample(height=64, width=96)
    labels = torch.where(view.object_mask[0], 9, 3)
    labels[::16] = -7
    visible = torch.ones_like(view.object_mask)
    visible[:, 10:25, 30:70] = False
    one = Batch(torch.tensor(5), view.image, view.object_mask, labels, visible if holes else None)
    transform, found = Transform(given, SIZE, ignore_index=-7), list[int]()
    for key in range(4):
        seen = transform.of_sample(one, seed=0, epoch=key)
        shown = seen.known[0]
        assert {*seen.labels.unique().tolist()} <= {3, 9, -7} and (seen.labels[~shown] == -7).all()
        mask = seen.object_mask.float()
        same = F.max_pool2d(mask, 5, 1) == -F.max_pool2d(-mask, 5, 1)  # without the frame of two pixels
        within = F.pad(same[0], (2, 2, 2, 2)) & shown & (seen.labels != -7)
        assert torch.equal((seen.labels == 9)[within], seen.object_mask[0][within])
        found += seen.labels.unique().tolist()
    assert {3, 9, -7} == {*found}


def test_five_bands_of_floats_go_through_light_and_keep_their_order():
    view = sample(bands=5, dtype=torch.float32)
    view = view._replace(image=view.image * torch.tensor([1.0, 0.9, 0.5, 0.2, 0.1])[:, None, None])
    for key in range(10):
        seen = Transform("light", SIZE)(view, key)
        assert seen.image.shape == (5, SIZE, SIZE) and seen.image.dtype == torch.float32
        assert seen.image.min() >= 0 and seen.image.max() <= 1 + 1e-6
        means = seen.image[1:, seen.visible[0]].mean(dim=1).tolist()  # type: ignore[index]
        assert means == sorted(means, reverse=True)


def test_steps_draw_independently_of_each_other():
    marked = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    marked[0, 0, 0] = 255
    view = View(marked, torch.zeros_like(marked, dtype=torch.bool))
    for given in (
        A.Compose([A.HorizontalFlip(), A.VerticalFlip()]),
        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]),
    ):
        transform = Transform(given, SIZE)
        corners = torch.stack([transform(view, key).image[0] for key in range(400)]).sum(0) // 255
        found = [int(corners[y, x]) for y, x in product((0, -1), repeat=2)]
        assert sum(found) == 400 and min(found) > 65, found  # 100 each; 65 is 4 standard deviations below


def test_albumentations_seed_of_its_own_changes_nothing_and_copies_are_made():
    own = A.Compose([A.HorizontalFlip(p=0.5), A.Resize(SIZE, SIZE)], seed=7)
    before = own.transforms[1].mask_interpolation
    first = [Transform(own, SIZE)(sample(), key).image for key in range(8)]
    assert own.transforms[1].mask_interpolation == before and "visible" not in own.additional_targets
    again = Transform(own, SIZE)
    assert all(torch.equal(again(sample(), key).image, first[key]) for key in reversed(range(8)))
    assert any(not torch.equal(first[0], each) for each in first)


def test_holes_of_hide_regions_are_hidden_and_a_painted_dropout_is_not():
    steps = [A.Resize(SIZE, SIZE), HideRegions("rectangles", hidden_fraction=(0.3, 0.6), p=1.0)]
    hidden = Transform(A.Compose(steps, additional_targets={"visible": "mask"}), SIZE)(sample(), 3)
    assert hidden.visible is not None and 0.25 < (~hidden.visible).double().mean() < 0.65
    for fill_mask, shows_all in ((None, True), (0, False)):
        dropout = A.CoarseDropout(hole_height_range=(0.4, 0.5), hole_width_range=(0.4, 0.5), fill_mask=fill_mask, p=1)
        seen = Transform(A.Compose([A.Resize(SIZE, SIZE), dropout]), SIZE)(sample(), 3)
        assert (seen.visible is None) == shows_all


@pytest.mark.parametrize("given", ["crop_flip", "light", "file", f"{__name__}.for_text", "transform"])
def test_bytes_follow_from_seed_epoch_and_id_whatever_the_workers_and_where_it_resumes(given, tmp_path):
    tree = write_tree(tmp_path)
    given = {"file": saved(tmp_path), "transform": rotate_and_crop()}.get(given, given)

    def data(workers, seed=0):
        options = {"image_size": SIZE, "batch_size": 4, "num_workers": workers, "transform": given, "seed": seed}
        return Folder(str(tree[0]), str(tree[1]), **options)

    plain, parallel = data(0).train_dataloader(), data(2).train_dataloader()
    epochs = [joined(plain) for _ in range(2)]
    for one in epochs:
        other = joined(parallel)
        assert all(a is b is None or torch.equal(a, b) for a, b in zip(one, other, strict=True))
    within = data(2)
    within.position = lambda: Position(1, 2)  # type: ignore[method-assign]
    assert torch.equal(joined(within.train_dataloader()).images, epochs[1].images[8:])
    same = epochs[0].ids[0]
    reseeded = joined(data(0, seed=1).train_dataloader())
    for other in (epochs[1], reseeded):
        assert not torch.equal(epochs[0].images[0], other.images[other.ids == same][0])


def test_samples_in_memory_are_transformed_in_training_alone():
    sizes = {"train_images": 12, "val_images": 6, "test_images": 6, "image_size": SIZE, "batch_size": 4}
    plain, moved = Cues(**sizes), Cues(**sizes, transform="light")  # type: ignore[arg-type]
    assert torch.equal(joined(plain.val_dataloader()).images, joined(moved.val_dataloader()).images)
    workers = Cues(**sizes, transform="light", num_workers=2).train_dataloader()  # type: ignore[arg-type]
    loader = moved.train_dataloader()
    for _ in range(2):
        one, other = joined(loader), joined(workers)
        assert torch.equal(one.images, other.images) and one.visible is not None and not one.visible.all()
    untouched = joined(plain.train_dataloader())
    assert torch.equal(untouched.images, in_unit_range(plain.samples("train").images[untouched.ids]))


@pytest.mark.parametrize("given", ["light", f"{__name__}.for_text", rotate_and_crop(), for_text(SIZE)], ids=str)
def test_a_copy_for_a_loader_process_that_is_no_fork_gives_the_same(given):
    transform = Transform(given, SIZE)
    first = transform(sample(), 5)
    copied = pickle.loads(pickle.dumps(transform))
    assert torch.equal(copied(sample(), 5).image, first.image)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("crop_flop", r"must be crop_flip, cut, none, light, .* got 'crop_flop' .*\(did you mean crop_flip\?\)"),
        ("no_module.at_all", "No module named 'no_module'"),
        ("missing.yaml", "'missing.yaml' does not exist"),
        (f"{__name__}.as_numpy_array", "must be a transform of albumentations or of torchvision.*got numpy.ndarray"),
        (A.Compose([A.Resize(SIZE, SIZE), A.Normalize()]), "the network normalises them, got Normalize; leave it out"),
        (v2.Compose([v2.Resize((SIZE, SIZE)), v2.ToDtype(torch.float32)]), "got ToDtype; leave it out"),
        (v2.Compose([v2.CutMix(num_classes=3)]), "about one image, got CutMix, .* give --model.mix"),
        (A.Compose([A.HorizontalFlip()]), r"must return images \(3, 32, 32\).* got \(3, 60, 90\).*end with a crop"),
        (A.Compose([A.Rotate(interpolation=4), A.Resize(SIZE, SIZE)]), "got Lanczos in Rotate; make it cubic"),
        (A.Compose([A.RandomCrop(200, 200)]), r"cannot be applied to an image of 3 bands of torch.uint8 \("),
        (
            v2.Compose([v2.Grayscale(), v2.Resize((SIZE, SIZE))]),
            r"must return images \(3, 32, 32\).* got \(1, 32, 32\)",
        ),
    ],
)
def test_a_transform_that_does_not_work_is_one_sentence(given, said):
    with pytest.raises(InputError, match=said):
        Transform(given, SIZE)(sample())


def test_a_file_that_is_no_pipeline_and_a_failing_step_are_refused_before_a_training(tmp_path, capsys):
    tree = write_tree(tmp_path)
    (tmp_path / "bad.yaml").write_text("transform: {__class_fullname__: os.system, p: 1}\n")
    A.save(A.Compose([A.RandomCrop(500, 500)]), tmp_path / "large.json")
    arguments = ["fit", "--data=Folder", f"--data.root={tree[0]}", "--data.image_size=32", "--data.num_workers=2"]
    arguments += [*TWO_STEPS, *TINY_NETWORK, f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    for name, said in (("bad.yaml", "must be what albumentations.save wrote"), ("large.json", "cannot be applied to")):
        sentence = sentence_of([*arguments, f"--data.transform={tmp_path / name}"], capsys)
        assert said in sentence and name in sentence
    main([*arguments, f"--data.transform={saved(tmp_path)}", "--data.batch_size=4"])
    assert "own.yaml" in next((tmp_path / "runs").rglob("config.yaml")).read_text()
