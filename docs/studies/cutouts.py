"""`Cutouts`: photographs of objects, cut out and pasted on photographs without objects.

A data module from outside, for the studies beside it. In this folder every command knows it: `--data cutouts.Cutouts`.
"""

import math
import os
from collections.abc import Collection, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.augment.random import draw_uniform
from maskrobust.errors import InputError, MissingFileError, check_at_least, check_within
from maskrobust.lm_modules.networks.class_matching import are_wordnet_ids, imagenet_names
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS
from maskrobust.train.data.base import (
    ALL_SPLITS,
    InMemoryDataModule,
    as_float_images,
    drawn_batch,
)
from maskrobust.train.data.files.image_files import decode_image, id_of, list_classes, read_file
from maskrobust.train.data.files.photographs import (
    CROP_NUMBERS,
    LIGHT_NUMBERS,
    random_crop,
    read_photograph,
    shift_light,
    shrink,
)
from maskrobust.train.data_options import Split
from maskrobust.train.storage.files import read_pairs

DEBIAN_STAMPS = Path("/usr/share/tuxpaint/stamps")
"""Where Debian's package tuxpaint-stamps-default puts its pictures."""

OBJECT_BITS = 40
"""Number of bits of an object's id."""

SHIPPED_CLASSES = Path(__file__).parent / "tuxpaint_imagenet.csv"
"""ImageNet's class of those of Debian's pictures that are photographs of one."""

SHIPPED_OTHERS = Path(__file__).parent / "tuxpaint_others.csv"
"""Debian's other photographs, of objects that `SHIPPED_CLASSES` does not show, with the folder of each."""

UNLABELLED = -1
"""Label of an object that shows no class."""

VISIBLE_ALPHA = 128
"""Alpha, of 255, from which a pixel belongs to the object."""


class Cutout(NamedTuple):
    """One object.

    Attributes:
        id: a hash of its path below the folder, in [0, 2^OBJECT_BITS). It stays the same when files are added.
        path: the PNG.
        label: position of its class, or `UNLABELLED`.
    """

    id: int
    path: Path
    label: int


def find_cutouts(folder: str | Path | None) -> Path:
    """The folder of the pictures: `folder` itself, or usr/share/tuxpaint/stamps in it (an unpacked Debian package).

    Args:
        folder: None for where Debian installs the package.

    Raises:
        MissingFileError: there is no such folder.
    """
    root = DEBIAN_STAMPS if folder is None else Path(folder)
    if root.is_dir() and str(folder) != "":
        unpacked = root / DEBIAN_STAMPS.relative_to("/")
        return unpacked if unpacked.is_dir() else root
    raise MissingFileError(
        f"folder must hold the cut-outs, but there is no folder '{'' if folder == '' else root}'; apt install "
        "tuxpaint-stamps-default, or unpack that package anywhere (dpkg -x) and give its folder, or one of your own."
    )


def list_cutouts(
    root: Path, classes: str | Path, leave_out: Collection[str]
) -> tuple[tuple[Cutout, ...], tuple[str, ...]]:
    """The objects, in order of their ids, and the names of their classes, sorted.

    Args:
        root: folder of the pictures.
        classes: "imagenet" for `SHIPPED_CLASSES`; "none" for the same files without labels; "folders" for the folder in
            `root` that a picture lies in, at any depth; else a CSV file with the columns `file`, a path below `root`,
            and `class`, any name. A class of the form of a WordNet id (n01514859) must be one of ImageNet's thousand.
        leave_out: names of folders that "folders" passes over, at any depth.

    Raises:
        MissingFileError: the CSV file, or a picture that it names, is missing; or there is no folder of a class.
        InputError: the CSV file is not as described, a class has no picture, or two pictures have the same id.
    """
    if classes == "none":
        return _in_order(root, dict.fromkeys(_by_file(root, SHIPPED_CLASSES), UNLABELLED)), ()
    named = _by_folder(root, leave_out) if classes == "folders" else _by_file(root, _mapping_file(classes))
    class_names = tuple(sorted(set(named.values())))
    labels = {name: label for label, name in enumerate(class_names)}
    return _in_order(root, {name: labels[of_class] for name, of_class in named.items()}), class_names


def list_others(root: Path) -> tuple[Cutout, ...]:
    """The objects of `SHIPPED_OTHERS`, in order of their ids, without labels.

    Raises:
        MissingFileError: a picture is missing.
    """
    return _in_order(root, dict.fromkeys(_by_file(root, SHIPPED_OTHERS), UNLABELLED))


def read_cutout(path: Path) -> Image.Image:
    """A picture with its colours multiplied by alpha (mode RGBa), without the transparent margin around the object.

    Raises:
        InputError: it is no PNG that can be read whole, has no alpha channel, or no pixel with an alpha of .5 or more.
    """
    with Image.open(path, formats=["PNG"]) as image:
        if not image.has_transparency_data:
            raise InputError(
                f"'{path}' must be a PNG with an alpha channel: save it with transparency around the object."
            )
        pixels = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    rows, columns = np.nonzero(pixels[..., 3])
    if pixels[..., 3].max(initial=0) < VISIBLE_ALPHA:
        raise InputError(f"'{path}' must show an object, but no pixel has an alpha of .5 or more; remove it.")
    inside = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return Image.fromarray(inside).convert("RGBa")


def _in_order(root: Path, labels: Mapping[str, int]) -> tuple[Cutout, ...]:
    """Objects by their paths below `root`, in order of their ids."""
    cutouts: dict[int, Cutout] = {}
    for name, label in labels.items():
        cutout = Cutout(id_of(Path(name)) >> (63 - OBJECT_BITS), root / name, label)
        if cutout.id in cutouts:
            raise InputError(
                f"'{cutout.path}' and '{cutouts[cutout.id].path}' have the same id, a hash of their paths; rename one."
            )
        cutouts[cutout.id] = cutout
    return tuple(cutouts[each] for each in sorted(cutouts))


def _mapping_file(classes: str | Path) -> Path:
    path = SHIPPED_CLASSES if classes == "imagenet" else Path(classes)
    if not path.is_file():
        raise MissingFileError(
            f"classes must be imagenet, folders or a CSV file with the columns file and class, but there is no file "
            f"'{classes}'; check it."
        )
    return path


def _by_folder(root: Path, leave_out: Collection[str]) -> dict[str, str]:
    """The class of each picture by its path below `root`."""
    named: dict[str, str] = {}
    for name in list_classes(root):
        if name in leave_out:
            continue
        inside = [path.relative_to(root) for path in sorted((root / name).rglob("*"))]
        found = [
            path
            for path in inside
            if path.suffix.lower() == ".png"
            and not any(part in leave_out or part.startswith(".") for part in path.parts[1:])
        ]
        if not found:
            raise InputError(f"'{root / name}' must hold pictures (.png), but holds none; add some, or remove it.")
        named |= dict.fromkeys(map(Path.as_posix, found), name)
    if not named:
        raise InputError(f"'{root}' must hold folders other than {', '.join(leave_out)}, but has none; check it.")
    return named


def _by_file(root: Path, path: Path) -> dict[str, str]:
    """The class of each picture by its path below `root`."""
    named = read_pairs(path, "file", "class")
    for name in named:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(f"'{path}' must name each file by its path below folder, got '{name}'; correct it.")
        if not os.path.isfile(root / name):  # False for a name that no file can have, too
            raise MissingFileError(
                f"'{path}' names '{name}', but there is no such file in '{root}'; correct it, or remove that line (of "
                "a copy, for classes)."
            )
    _check_wordnet_ids(path, set(named.values()))
    return named


def _check_wordnet_ids(path: Path, class_names: Collection[str]) -> None:
    written = {name for name in class_names if are_wordnet_ids([name])}
    unknown = sorted(written - set(imagenet_names(1000).wordnet_ids or ())) if written else []
    if unknown:
        raise InputError(
            f"'{path}' must give classes by their WordNet ids in ImageNet's list of 1,000, or by other names, got "
            f"'{unknown[0]}'; correct it."
        )


SCENE_NUMBERS = CROP_NUMBERS + LIGHT_NUMBERS
"""Uniform numbers that one scene takes."""


class PhotographPart(NamedTuple):
    """A part of one of scikit-image's photographs that shows none of ImageNet's objects.

    Attributes:
        file_name: name of the file, as `read_photograph` takes it.
        rows: first, and the one after the last; likewise `columns`.
    """

    file_name: str
    rows: tuple[int, int]
    columns: tuple[int, int]


Scene = PhotographPart | Path

PHOTOGRAPH_PARTS: dict[Split, tuple[PhotographPart, ...]] = {
    "train": (
        PhotographPart("gravel.png", (0, 512), (0, 512)),
        PhotographPart("ihc.png", (0, 512), (0, 512)),
        PhotographPart("cell.png", (0, 660), (0, 330)),
        PhotographPart("astronaut.png", (0, 180), (0, 150)),
    ),
    "val": (
        PhotographPart("hubble_deep_field.jpg", (0, 872), (0, 1000)),
        PhotographPart("retina.jpg", (300, 1111), (300, 1111)),
    ),
    "test": (
        PhotographPart("brick.png", (0, 512), (0, 512)),
        PhotographPart("coffee.png", (0, 400), (480, 600)),
        PhotographPart("grass.png", (0, 512), (0, 512)),
        PhotographPart("moon.png", (0, 512), (0, 512)),
        PhotographPart("motorcycle_left.png", (0, 130), (30, 260)),
        PhotographPart("rocket.jpg", (0, 250), (60, 300)),
    ),
}
"""The scenes of each split; no photograph is in two."""

DEBIAN_SHARE = Path("/usr/share")
"""Where Debian's packages put their pictures."""

INSTALLED_PHOTOGRAPHS = (
    *(
        f"backgrounds/mate/nature/{name}.jpg"
        for name in ("Blinds", "Dune", "GreenMeadow", "RainDrops", "Storm", "Wood")
    ),
    *(f"wallpapers/{name}/contents/images/2560x1600.jpg" for name in ("BytheWater", "FallenLeaf", "Grey", "Path")),
    *(f"wallpapers/{name}/contents/images/5120x2880.jpg" for name in ("OneStandsOut", "Volna")),
)
"""Photographs without ImageNet's objects in Debian's mate-backgrounds and plasma-workspace-wallpapers."""

NOISE_SPECTRA = (0.0, 0.5, 1.0, 1.5)
"""Exponents of noise: the amplitude at a frequency f is proportional to f to the minus this."""

_NOISE_STD = 0.15
_WIDTHS = (0.6, 1.0)
_UPRIGHT = [3, 5]
_STRAIGHT = 0.75


def installed_photographs() -> tuple[Path, ...]:
    """The files of `INSTALLED_PHOTOGRAPHS` that are installed."""
    return tuple(path for name in INSTALLED_PHOTOGRAPHS if (path := DEBIAN_SHARE / name).is_file())


def draw_scenes(
    scenes: Sequence[Scene], turns: NDArray[np.int64], image_size: int, numbers: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Cut one upright square of each chosen scene, mirror it and change its light at random.

    Args:
        scenes: what to cut from; none for plain colours, each channel drawn from [64, 192).
        turns: (N,) from 0; the scenes are gone through again and again.
        image_size: side of the squares in pixels.
        numbers: (N, SCENE_NUMBERS) uniform numbers in [0, 1), for `random_crop` and `shift_light`.

    Returns:
        (N, image_size, image_size, 3) uint8.

    Raises:
        InputError: an image cannot be read.
    """
    images = np.empty((len(turns), image_size, image_size, 3), dtype=np.uint8)
    if not scenes:
        images[:] = (64 + 128 * numbers[:, None, None, :3]).astype(np.uint8)
        return images
    crop_numbers, light_numbers = numbers[:, :CROP_NUMBERS].copy(), numbers[:, CROP_NUMBERS:]
    crop_numbers[:, _UPRIGHT] = _STRAIGHT
    choice = turns % len(scenes)
    for chosen in np.unique(choice):
        photograph = _resized(_read_scene(scenes[chosen]), image_size)
        for row in np.flatnonzero(choice == chosen):
            images[row] = shift_light(
                random_crop(photograph, image_size, _WIDTHS, crop_numbers[row]), light_numbers[row]
            )
    return images


def draw_noise(spectra: Sequence[float], colours: NDArray[np.float32], white: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Noise of given spectra around a colour, with a standard deviation of .15 before it is clipped to [0, 1].

    Args:
        spectra: N exponents; see `NOISE_SPECTRA`.
        colours: (N, 3) uniform numbers in [0, 1), for colours from [64, 192).
        white: (N, 3, S, S) uniform numbers in [0, 1).

    Returns:
        (N, S, S, 3) uint8.
    """
    size = white.shape[-1]
    frequencies = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    frequencies[0, 0] = np.inf  # no mean
    scale = frequencies ** -np.asarray(spectra, dtype=np.float64)[:, None, None, None] * np.isfinite(frequencies)
    noise = np.fft.irfft2(np.fft.rfft2(white) * scale, s=(size, size))
    noise *= _NOISE_STD / noise.std(axis=(2, 3), keepdims=True)
    images = (64 + 128 * colours[:, :, None, None] + 255 * noise).clip(0, 255)
    return np.asarray(np.rint(images), dtype=np.uint8).transpose(0, 2, 3, 1)


def _read_scene(scene: Scene) -> NDArray[np.uint8]:
    if isinstance(scene, Path):
        return decode_image(read_file(scene), str(scene)).permute(1, 2, 0).numpy()
    return read_photograph(scene.file_name)[slice(*scene.rows), slice(*scene.columns)]


def _resized(photograph: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """Small enough to be fast, and large enough that the averaging of `random_crop` never has to enlarge a square."""
    smallest = math.ceil(image_size / _WIDTHS[0])
    scale = smallest / min(photograph.shape[:2])
    if scale <= 1:
        return shrink(photograph, 2 * smallest)
    height, width = (math.ceil(scale * side) for side in photograph.shape[:2])
    return np.asarray(cv2.resize(photograph, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


PLACE_NUMBERS = 4
"""Uniform numbers that pasting one cut-out takes."""

TrainingObjects = Literal["none", "split", "others"]

_SMALLEST_IMAGE = 32
_VIEW_BITS = 20
_SPLIT_NUMBERS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}
_LENGTHS = (0.6, 0.75)
_MARGIN = 1
_TEST_FRACTION, _VAL_FRACTION = 0.4, 0.1


class Cutouts(InMemoryDataModule):
    """Photographs of objects with an alpha channel, laid over backgrounds.

    The pictures of Debian's package tuxpaint-stamps-default are the default: 111 of its photographs, which show 93 of
    ImageNet's classes. Each object is shown `views` times, on scenes that differ as long as there are enough of them. A
    sample depends on (seed, id) alone: its scene, and the object's size (longer side .6 to .75 of the image's), place
    and direction (as it is, or mirrored). The object mask holds the pixels with an alpha of .5 or more. No scene is in
    two splits (`PHOTOGRAPH_PARTS`).

    Args:
        folder: folder with the pictures (PNG with an alpha channel), or an unpacked Debian package; None for where
            Debian installs it.
        classes: "imagenet": WordNet ids of ImageNet's classes, for the pictures of Debian's package; "none": all 419
            photographs of the package without labels, for `evaluate` to take a network's own answers for them;
            "folders": the folder that a picture lies in; or a CSV file, as `list_cutouts` describes it.
        leave_out: names of folders to pass over, at any depth; for "folders" only.
        training_objects: "none": validation and test have all objects, and there is no training split, to measure
            networks that were trained on other images. "split": no object is in two splits; two fifths are of the test
            split, a tenth of validation, the rest of training, as decided by (seed, object). It is for classes with
            many objects: of the classes "imagenet" 78 of 93 have one, which is then in no other split, so that a
            trained network knows hardly any class of validation (0 to 3 of 11 objects). "others", with the classes
            "imagenet": all objects are of the test split; training and validation, a tenth, have 308 further
            photographs of Debian's package, without labels (-1), for `MaskRobustClassifier` to learn from a network's
            own answers. The data's classes are then all 1000 of ImageNet's, in the order of a network's outputs.
        views: images of each object in each split, at least 1.
        image_size: side of the images in pixels, at least 32.
        batch_size: samples per batch.
        num_workers: loader processes.
        seed: decides the images, the split of the objects, and the training order.
        mean: channel means in [0, 1] that a network trained on these images is to subtract; ImageNet's by default.
        std: standard deviations that it is to divide by.

    Raises:
        MissingFileError: the folder, the CSV file or a picture that it names is missing.
        InputError: a number is out of its range, the CSV file is not as described, a class has no picture, or there are
            too few objects to split.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        classes: str | Path = "imagenet",
        leave_out: Sequence[str] = ("symbols", "cartoon"),
        training_objects: TrainingObjects = "none",
        views: int = 6,
        image_size: int = 224,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        check_within(f"[1, {2**_VIEW_BITS})", "views", views)
        check_at_least("image_size", image_size, _SMALLEST_IMAGE)
        self.folder = find_cutouts(folder)
        self.cutouts, self.class_names = list_cutouts(self.folder, classes, leave_out)
        if classes == "none":
            self.cutouts = tuple(sorted((*self.cutouts, *list_others(self.folder))))
        self.training_objects, self.views = training_objects, views
        self.image_size, self.mean, self.std = image_size, mean, std
        self._others: tuple[Cutout, ...] = ()
        if training_objects == "others":
            self._add_others(classes)
        self.num_classes = len(self.class_names)
        if training_objects == "split" and not all(map(self.objects, ALL_SPLITS)):
            raise InputError(
                f"training_objects 'split' needs objects for each of training, validation and test, but "
                f"'{self.folder}' has {len(self.cutouts)}; add some, or leave it out to evaluate on all of them."
            )

    @property
    def splits(self) -> tuple[Split, ...]:
        """The names of the splits: all three if there are training objects, else "val" and "test"."""
        return ("val", "test") if self.training_objects == "none" else ALL_SPLITS

    def objects(self, split: Split) -> tuple[Cutout, ...]:
        """The objects of a split, in order of their ids.

        Raises:
            InputError: there is no such split.
        """
        if split not in self.splits:
            raise InputError(
                "Cutouts keeps all objects for evaluation, and has no training images, unless training_objects is "
                "split or others; set it, or give other data to train on."
            )
        if self.training_objects == "none" or (self.training_objects == "others" and split == "test"):
            return self.cutouts
        to_split, test_fraction = (self._others, 0.0) if self._others else (self.cutouts, _TEST_FRACTION)
        order = np.argsort(self._draw(torch.tensor([each.id for each in to_split]), "split"), kind="stable")
        first = round(test_fraction * len(order))
        second = first + round(_VAL_FRACTION * len(order))
        chosen = {"test": order[:first], "val": order[first:second], "train": order[second:]}[split]
        return tuple(to_split[row] for row in sorted(chosen.tolist()))

    def object_of(self, ids: Tensor) -> Tensor:
        """The object's number, a hash of its file's path; see `AnnotatedDataModule`."""
        return torch.bitwise_and(ids, 2**OBJECT_BITS - 1)

    def sample_name(self, split: Split, sample_id: int) -> str:
        """File and view of a sample."""
        wanted = int(self.object_of(torch.tensor(sample_id)))
        path = next(each.path for each in (*self.cutouts, *self._others) if each.id == wanted)
        return f"{path.relative_to(self.folder)}, view {_view_of(torch.tensor(sample_id)) + 1}"

    def ids(self, split: Split) -> Tensor:
        """(N,) int64 ids of the samples of `split`, all objects in their first view, then in their second."""
        return self._ids_of(split, self.objects(split))

    def _ids_of(self, split: Split, objects: Sequence[Cutout]) -> Tensor:
        views = torch.arange(self.views)[:, None] << OBJECT_BITS
        first_id = _SPLIT_NUMBERS[split] << (OBJECT_BITS + _VIEW_BITS)
        return (first_id + views + torch.tensor([each.id for each in objects])).flatten()

    def make_samples(self, split: Split, ids: Tensor) -> Batch:
        """Paste objects of `split` onto its scenes, each in all its views, so that its picture is read once.

        Raises:
            InputError: a picture or a background cannot be read, a picture has no alpha channel, or it is so thin that
                nothing of it is left.
        """
        wanted = set(self.object_of(ids).tolist())
        objects = [each for each in self.objects(split) if each.id in wanted]
        ids = self._ids_of(split, objects)
        images = self._backgrounds(split, ids)
        object_mask = np.zeros(images.shape[:3], dtype=np.bool_)
        numbers = self._draw(ids, "place", PLACE_NUMBERS)
        for column, each in enumerate(objects):
            cutout = read_cutout(each.path)
            for row in range(column, len(ids), len(objects)):
                images[row], object_mask[row] = paste(cutout, images[row], numbers[row])
                if not object_mask[row].any():
                    raise InputError(f"nothing of '{each.path}' is left at image_size {self.image_size}; remove it.")
        return drawn_batch(ids, images, object_mask, torch.tensor([each.label for each in objects]).repeat(self.views))

    def empty_scenes(self, split: Split, count: int) -> EmptyScenes:
        """Plain colours, noise and photographs in turn; see `AnnotatedDataModule`.

        Noise has the spectra `NOISE_SPECTRA` in turn. Photographs are other crops of those behind the samples, on the
        test split then of `INSTALLED_PHOTOGRAPHS`.
        """
        photographs: tuple[Scene, ...] = PHOTOGRAPH_PARTS[split]
        if split == "test":
            photographs += installed_photographs()
        images = np.empty((count, self.image_size, self.image_size, 3), dtype=np.uint8)
        step = len(SCENE_KINDS)
        for first, kind in enumerate(SCENE_KINDS):
            turns = torch.arange(len(images[first::step]))
            numbers = self._draw(turns, f"empty {split} scene", SCENE_NUMBERS)
            if kind == "noise":
                white = self._draw(turns, f"noise of {split}", 3, self.image_size, self.image_size)
                spectra = [NOISE_SPECTRA[turn % len(NOISE_SPECTRA)] for turn in turns.tolist()]
                images[first::step] = draw_noise(spectra, numbers[:, :3], white)
            else:
                scenes = photographs if kind == "photographs" else ()
                images[first::step] = draw_scenes(scenes, turns.numpy(), self.image_size, numbers)
        return EmptyScenes(as_float_images(images), tuple(islice(cycle(SCENE_KINDS), count)))

    def without_object(self, split: Split, ids: Tensor) -> Tensor:
        """The samples' scenes; see `AnnotatedDataModule`."""
        return as_float_images(self._backgrounds(split, ids))

    def _add_others(self, classes: str | Path) -> None:
        """Take `SHIPPED_OTHERS` as training objects, and number the classes as ImageNet does."""
        if classes != "imagenet":
            raise InputError(
                f"training_objects 'others' are those of Debian's package beside the classes imagenet, got classes "
                f"'{classes}'; choose training_objects split, or classes imagenet."
            )
        self._others = list_others(self.folder)
        numbered = imagenet_names(1000).wordnet_ids or ()
        self.cutouts = tuple(each._replace(label=numbered.index(self.class_names[each.label])) for each in self.cutouts)
        self.class_names = numbered

    def _backgrounds(self, split: Split, ids: Tensor) -> NDArray[np.uint8]:
        """One scene for each sample: the views of an object go through the scenes from one drawn for it."""
        first_view = ids - (_view_of(ids) << OBJECT_BITS)
        scenes = PHOTOGRAPH_PARTS[split]
        start = (self._draw(first_view, "first scene") * len(scenes)).astype(np.int64)
        numbers = self._draw(ids, "scene", SCENE_NUMBERS)
        return draw_scenes(scenes, start + _view_of(ids).numpy(), self.image_size, numbers)

    def _draw(self, ids: Tensor, stream: str, *shape: int) -> NDArray[np.float32]:
        return draw_uniform(self.seed, ids, f"cutouts {stream}", *shape)


def paste(
    cutout: Image.Image, background: NDArray[np.uint8], numbers: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scale an object, mirror it or not, and lay it over a random place of a background, at least 1 pixel inside.

    A pixel becomes alpha x colour + (1 - alpha) x background, where alpha x colour and alpha are resampled by Pillow's
    triangle filter, which averages where it shrinks.

    Args:
        cutout: a cut-out of mode RGBa (colours multiplied by alpha).
        background: (S, S, 3) uint8.
        numbers: (PLACE_NUMBERS,) uniform numbers in [0, 1): length of the longer side, from .6 to .75 S, then top, left
            and whether it is mirrored.

    Returns:
        Image (S, S, 3) uint8, and object mask (S, S) bool, True where alpha is .5 or more.
    """
    image_size = len(background)
    length = round(image_size * (_LENGTHS[0] + (_LENGTHS[1] - _LENGTHS[0]) * float(numbers[0])))
    width, height = (max(1, round(side * length / max(cutout.size))) for side in cutout.size)
    scaled = np.asarray(cutout.resize((width, height), Image.Resampling.BILINEAR))
    if numbers[3] < 0.5:
        scaled = scaled[:, ::-1]
    top, left = (
        _MARGIN + int(number * (image_size - 2 * _MARGIN - side + 1))
        for number, side in zip(numbers[1:3], (height, width), strict=True)
    )
    window = slice(top, top + height), slice(left, left + width)
    image, object_mask = background.copy(), np.zeros(background.shape[:2], dtype=np.bool_)
    colours, alpha = scaled[..., :3].astype(np.float32), scaled[..., 3:].astype(np.float32) / 255
    image[window] = np.rint(colours + (1 - alpha) * background[window]).astype(np.uint8)
    object_mask[window] = scaled[..., 3] >= VISIBLE_ALPHA
    return image, object_mask


def _view_of(ids: Tensor) -> Tensor:
    """Number of the view, from 0, of (N,) sample ids."""
    return torch.bitwise_and(ids >> OBJECT_BITS, 2**_VIEW_BITS - 1)
