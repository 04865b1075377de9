"""Which pixels may be seen: read from files in every way, hidden in training and evaluation, or refused."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data import Cues, Folder
from maskrobust.train.data.files.file_data import FileDataset
from maskrobust.train.data.files.image_files import ImageFile, decode_visible
from maskrobust.train.data.files.reading import Reading
from tests.train.data.layouts import save
from tests.train.test_cli import sentence_of
from tests.train.tiny import TINY_NETWORK, TWO_STEPS, tiny_claim

COLOUR = (200, 120, 40)
SIZE = 60


def hole(number):
    """Where an image holds no data, (SIZE, SIZE) bool: a slanted edge, single pixels, and a disc."""
    y, x = np.mgrid[:SIZE, :SIZE]
    specks = np.random.default_rng(number).random((SIZE, SIZE)) < 0.05
    return (x + y < 25) | specks | ((x - 40) ** 2 + (y - 30) ** 2 < 100)


def write_images(root, under=0, *, alpha=True):
    """Two classes in three splits; `under` decides the colours of pixels without data, which are transparent or 0."""
    rng = np.random.default_rng(under)
    for split, count in {"train": 8, "val": 4, "test": 4}.items():
        for number in range(count):
            colours = np.full((SIZE, SIZE, 3), COLOUR, dtype=np.uint8)
            colours[10 * (number % 2) : 10 * (number % 2) + 30, 5:35] += np.uint8(10 + number)
            missing = hole(number)
            colours[missing] = rng.integers(0, 256, (missing.sum(), 3)) if alpha else 0
            opacity = np.where(missing, 0, 255).astype(np.uint8)[..., None]
            path = root / split / ("bird", "cat")[number % 2] / f"{number}.png"
            save(np.concatenate([colours, opacity], axis=2) if alpha else colours, path)
    return root


def folder(root, **options):
    return Folder(str(root), **{"visible": "alpha", "image_size": 32, "batch_size": 4, "num_workers": 0, **options})  # type: ignore[arg-type]


def one(path, **options):
    dataset = FileDataset([ImageFile(1, path, None, 0)], "binary", 32, **options)  # type: ignore[arg-type]
    return dataset[0]


@pytest.mark.parametrize("seed", [None, *range(3)])
def test_visible_goes_through_the_geometry_of_its_image_and_no_colour_bleeds_into_it(seed, tmp_path):
    """Every visible pixel has the one colour of the image, and the mask is that of its interpolated weights."""
    missing = hole(0)
    colours = np.full((SIZE, SIZE, 3), COLOUR, dtype=np.uint8)
    colours[missing] = 255
    opacity = np.where(missing, 0, 255).astype(np.uint8)
    Image.fromarray(np.dstack([colours, opacity])).save(tmp_path / "a.png")
    found = one(tmp_path / "a.png", augmentation_seed=seed, reading=Reading("alpha"))
    assert found.visible is not None and found.visible.shape == (1, 32, 32)
    off = (found.images.int() - torch.tensor(COLOUR)[:, None, None]).abs()
    assert off[:, found.visible[0]].max() <= 2  # of 255, by rounding
    assert (found.images[:, ~found.visible[0]] == 0).all()
    # the same crop of the weights alone, drawn as a picture
    Image.fromarray(np.dstack([opacity] * 3)).save(tmp_path / "weights.png")
    weights = one(tmp_path / "weights.png", augmentation_seed=seed).images[:1]
    assert torch.equal(found.visible[(weights - 127.5).abs() > 3], (weights > 127)[(weights - 127.5).abs() > 3])
    if seed is None:
        shown = tvf.center_crop(tvf.resize(torch.from_numpy(opacity)[None], [37], antialias=True), [32, 32])
        assert torch.equal(found.visible, shown > 127)


@pytest.mark.parametrize(
    ("mode", "stored", "nodata", "expected"),
    [
        ("RGB", [[0, 0, 0], [0, 0, 1], [9, 9, 9]], 0, [False, True, True]),
        ("RGB", [[0, 0, 0], [7, 7, 7], [7, 7, 8]], 7, [True, False, True]),
        ("L", [0, 9, 9], 9, [True, False, False]),
        ("I;16", [0, 100, 65535], 0, [False, True, True]),  # all but the last are black in 8 bits
        ("RGBA", [[0, 0, 0, 0], [0, 0, 0, 9], [5, 5, 5, 0]], 0, [False, False, True]),
        ("RGBA", [[0, 0, 0, 0], [0, 0, 0, 9], [5, 5, 5, 0]], "alpha", [False, True, False]),
        ("LA", [[0, 0], [0, 9], [5, 0]], "alpha", [False, True, False]),
        ("RGB", [[0, 0, 0]] * 3, "alpha", [True, True, True]),
    ],
)
def test_the_numbers_of_the_file_are_compared_in_every_band(mode, stored, nodata, expected, tmp_path):
    numbers = np.array([stored], dtype=np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    assert decode_visible(content, nodata, "a")[0, 0].tolist() == expected  # type: ignore[arg-type]


def test_a_value_that_a_file_cannot_hold_is_refused_by_the_files_name(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"in 'a\.png', nodata must be a value .* uint8 .* from 0 to 255\), got 65535"):
        decode_visible((tmp_path / "a.png").read_bytes(), 65535, "a.png")


@pytest.mark.parametrize(
    ("name", "options"), [("a.jpg", {}), ("a.webp", {"quality": 50}), ("a.tif", {"compression": "jpeg"})]
)
def test_a_number_is_not_compared_with_pixels_that_compression_has_changed(name, options, tmp_path):
    """Before the first step: the headers say it."""
    path = write_images(tmp_path, alpha=False) / "train" / "bird" / name
    Image.open(path.parent / "0.png").save(path, **options)
    with pytest.raises(InputError, match=rf"visible 0\.0 must be compared .* '.*{name}' is compressed by (jpeg|webp)"):
        folder(tmp_path, visible=0).setup("fit")
    with pytest.raises(InputError, match="visible 0 must be compared"):
        decode_visible(path.read_bytes(), 0, name)
    folder(tmp_path, visible="alpha").setup("fit")
    assert decode_visible(path.read_bytes(), "alpha", name).all()


def test_an_image_without_data_and_one_whose_centre_has_none_are_refused_by_name(tmp_path):
    root = write_images(tmp_path / "images")
    path = root / "val" / "bird" / "0.png"
    Image.fromarray(np.zeros((SIZE, SIZE, 4), dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"no pixel of '.*bird/0\.png' may be seen, for visible is alpha"):
        list(folder(root).val_dataloader())
    edge = np.full((SIZE, 2 * SIZE, 4), 255, dtype=np.uint8)
    edge[:, 15:] = 0
    Image.fromarray(edge).save(path)
    with pytest.raises(InputError, match=r"no pixel of '.*bird/0\.png' is visible in the square"):
        list(folder(root).val_dataloader())
    path.rename(root / "train" / "bird" / "0.png")
    with pytest.raises(InputError, match=r"no pixel of '.*train/bird/0\.png' is visible in the square"):
        list(folder(root, transform="none").train_dataloader())


def test_batches_with_and_without_data_everywhere_are_joined(tmp_path):
    some = next(iter(folder(write_images(tmp_path)).val_dataloader()))
    whole = some._replace(visible=None)
    joined = Batch.cat([whole, some])
    assert joined.visible is not None and joined.visible[:4].all() and torch.equal(joined.visible[4:], some.visible)
    assert Batch.cat([whole, whole]).visible is None


def classifier(**options):
    torch.manual_seed(0)
    given = {"masking": "layer_masking", "patch_size": 8, "mask_probability": 0.5, **options}
    return MaskRobustClassifier("small_resnet", 2, **given)  # type: ignore[arg-type]


def batches(root):
    """A batch, and the same with noise where it holds no data."""
    batch = next(iter(folder(root).val_dataloader())).to("cpu")
    noise = torch.rand(batch.images.shape, generator=torch.Generator().manual_seed(1))
    return batch, batch._replace(images=torch.where(batch.known, batch.images, noise))


def test_redrawing_pixels_without_data_changes_no_answer_of_an_evaluation(tmp_path):
    plan = ReliancePlan(
        shapes=False, hidden_fractions=(0.25,), patch_size=8, curve_families=("patches",), transfer_families=("blobs",),
        curve_orders=("random",), sampled_fraction=1.0,
    )  # fmt: skip
    network = classifier().trained_network()
    asked: dict[int, list[Tensor]] = {0: [], 1: []}
    for place, batch in enumerate(batches(write_images(tmp_path))):

        def recorded(images, visible, keys, place=place):
            answer = network.predictor("layer_masking")(images, visible, keys)
            asked[place] += [visible, answer]
            return answer

        Measurement({"a": Asked(recorded, plan, network)}, None, 2).ask(batch)
    assert len(asked[0]) > 2 and all(torch.equal(a, b) for a, b in zip(asked[0], asked[1], strict=True))
    assert all(not each.flatten(1).all(dim=1).any() for each in asked[0][::2])  # every pass hides something


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["fit", *TINY_NETWORK, *TWO_STEPS, "--model.masking=fill", "--model.fill=other_image"],
            "shows pieces of other",
        ),
        (
            ["fit", *TINY_NETWORK, *TWO_STEPS, "--model.masking=layer_masking", "--model.objective=consistency"],
            "objective 'consistency' compares with whole images",
        ),
    ],
    ids=["other_image", "consistency"],
)
def test_what_does_not_know_of_pixels_without_data_refuses_them_in_one_sentence(command, said, tmp_path, capsys):
    root = write_images(tmp_path / "images")
    data = ["--data=Folder", f"--data.root={root}", "--data.visible=alpha", "--data.image_size=32"]
    out = f"--trainer.default_root_dir={tmp_path}"
    assert said in " ".join(
        sentence_of([*command, *data, "--data.batch_size=4", "--data.num_workers=0", out], capsys).split()
    )


def test_a_claim_refuses_samples_that_say_what_may_be_seen_before_it_trains(tmp_path, monkeypatch, capsys):
    whole = Cues.make_samples

    def with_holes(data, split, ids):
        return whole(data, split, ids)._replace(visible=torch.rand(len(ids), 1, 48, 48) < 0.9)

    monkeypatch.setattr(Cues, "make_samples", with_holes)
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml")
    said = sentence_of(["claim", f"--config={config}", f"--out={tmp_path / 'out'}"], capsys)
    assert said.startswith("claim takes images of which every pixel holds data")
    assert not (tmp_path / "out" / "arms").exists()
