"""Every way to say which pixels may be seen says the same, and what does not fit is told before anything is trained."""

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import ExifTags, Image

from maskrobust.errors import MissingFileError
from maskrobust.train.cli import main
from maskrobust.train.data import Folder, ImagesWithMasks, Shards
from maskrobust.train.data.files.reading import Reading
from tests.train.data.layouts import joined, save
from tests.train.test_cli import sentence_of

BOX = (20, 12, 41, 29)
"""Left, top, right and bottom of what is hidden."""
WIDTH, HEIGHT = 60, 48
PLACES = [f"train/{name}/{number}.png" for name in ("cat", "dog") for number in (0, 1)]
SMALL: Any = {"image_size": 32, "num_workers": 0, "batch_size": 4}
WAYS = ("alpha", "0", "masks", "boxes.csv", "{hidden_box: [20, 12, 41, 29]}")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Images, of which the pixels in the box are 0 and transparent, and what else says so."""
    left, top, right, bottom = BOX
    seen = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    seen[top:bottom, left:right] = 0
    rows = ["image,left,top,right,bottom"]
    for number, place in enumerate(PLACES):
        pixels = np.random.default_rng(number).integers(1, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        pixels[seen == 0] = 0
        save(np.dstack([pixels, seen]), tmp_path / "images" / place)
        save(seen, tmp_path / "masks" / place)
        save(255 - seen, tmp_path / "objects" / place)
        named = place.removesuffix(".png") if number % 2 else place
        rows += [f"{named},{left},{top},{right - 9},{bottom}", f"{named},{left + 5},{top},{right},{bottom}"]
    (tmp_path / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(way):
    """As the command line parses it."""
    return {"hidden_box": [*BOX]} if way.startswith("{") else way


@pytest.mark.parametrize("way", WAYS)
def test_every_way_hides_the_box_and_no_pixel_beside_it(way, root):
    for place in PLACES:
        image, visible = Reading(given(way)).read(root / "images" / place, place)
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(Image.open(root / "images" / place))[..., :3])
        assert visible is not None
        rows, columns = (~visible[0]).nonzero().T
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == BOX
        assert (~visible).sum() == (BOX[2] - BOX[0]) * (BOX[3] - BOX[1])


@pytest.mark.parametrize("way", WAYS)
def test_training_evaluation_and_shards_hide_alike_whatever_says_so(way, root):
    def folder(visible):
        return Folder("images", visible=visible, **SMALL)  # type: ignore[arg-type]

    data, known = folder(given(way)), folder("alpha")
    data.setup("train")
    for loader in (lambda data: data.train_dataloader(), lambda data: data.whole_split("train")):
        some, others = joined(loader(data)), joined(loader(known))
        assert some.visible is not None and not some.visible.all()
        assert all(torch.equal(a, b) for a, b in zip(some, others, strict=True))
    main(["shards", "--data=Folder", "--data.root=images", f"--data.visible={way}", "--out=shards"])
    options = yaml.safe_load((root / "shards" / "shards.yaml").read_text())["data"]["init_args"]
    stored = joined(Shards(**options, **SMALL).whole_split("train"))
    for image, visible in zip(stored.images, stored.known, strict=True):
        (place,) = (others.images == image).flatten(1).all(dim=1).nonzero()
        assert torch.equal(visible, others.known[place[0]])


def test_images_with_masks_take_it_by_the_path_below_their_own_folder(root):
    options = {"masks": "objects/train", "image_size": 32, "num_workers": 0, "batch_size": 4}
    data = ImagesWithMasks("images/train", visible="masks/train", **options)  # type: ignore[arg-type]
    data.setup("validate")
    found = joined(data.val_dataloader())
    expected = joined(Folder("images", visible="masks", **SMALL).whole_split("train"))
    assert torch.equal(found.images, expected.images) and torch.equal(found.known, expected.known)
    with pytest.raises(MissingFileError, match=r"lacks 'masks/cat/0\.png' for 'cat/0\.png'; add it"):
        ImagesWithMasks("images/train", visible="masks", **options).setup("validate")  # type: ignore[arg-type]


def test_a_box_counts_pixels_of_the_photograph_as_it_is_displayed(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    save(np.zeros((30, 50, 3), dtype=np.uint8), tmp_path / "a.jpg", exif=exif)
    reading = Reading({"hidden_box": [10, 40, 30, 50]})
    reading.check(tmp_path / "a.jpg", "a.jpg")
    image, visible = reading.read(tmp_path / "a.jpg", "a.jpg")
    assert image.shape[1:] == (50, 30) and visible is not None
    assert not visible[0, 40:, 10:].any() and visible.sum() == 50 * 30 - 10 * 20


def listed(*rows):
    return "\n".join(["image,left,top,right,bottom", *rows])


FULL = [f"{place},,,," for place in PLACES]


@pytest.mark.parametrize(
    ("way", "boxes", "said"),
    [
        ("boxes.csv", listed(*FULL[:3]), "lacks 'train/dog/1.png'; add it, without numbers where nothing is hidden"),
        ("boxes.csv", listed(*FULL, "train/cat/0.png,0,0,61,9"), "60 pixels wide and 48 high, got (0, 0, 61, 9)"),
        ("boxes.csv", listed(*FULL, "train/cat/0.png,9,0,9,9"), "must hide a box (left, top, right, bottom) within"),
        ("boxes.csv", listed(*FULL, "train/cat/0.png,1,2,3,x"), "in whole pixels, or no number where"),
        ("boxes.csv", "image,x,y,w,h\na,1,2,3,4", "whose first line is image,left,top,right,bottom"),
        ("nowhere.csv", "", "'nowhere.csv' must hold image and left"),
        ("alhpa", "", "or {hidden_box: [left, top, right, bottom]}, got 'alhpa' (did"),
        ("inf", "", "must be a value that pixels can have, got inf"),
        ("{hidden_box: [1, 2, 3]}", "", "must be {hidden_box: [left, top, right, bottom]} where it is one box"),
        ("{box: [1, 2, 3, 4]}", "", "must be {hidden_box: [left, top, right, bottom]} where it is one box"),
        ("{hidden_box: [40, 40, 70, 45]}", "", "60 pixels wide and 48 high, got (40, 40, 70, 45)"),
        ("masks", "smaller", "masks/train/cat/0.png' must have the size of its image"),
        ("masks", "missing", "lacks 'masks/train/cat/0.png' for 'train/cat/0.png'; add it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_the_first_step(way, boxes, said, root, capsys, caplog):
    mask = root / "masks" / PLACES[0]
    if boxes == "missing":
        mask.unlink()
    elif boxes == "smaller":
        save(np.full((HEIGHT, WIDTH - 1), 255, dtype=np.uint8), mask)
    elif boxes:
        (root / "boxes.csv").write_text(boxes, encoding="utf-8")
    data = ["--data=Folder", "--data.root=images", "--data.val_fraction=0.3", f"--data.visible={way}"]
    arguments = ["fit", *data, "--data.image_size=32", "--trainer.max_epochs=1", "--trainer.default_root_dir=runs"]
    assert said in " ".join(f"{sentence_of(arguments, capsys)} {caplog.text}".split())
    assert not [*(root / "runs").glob("run/*/checkpoints")]
