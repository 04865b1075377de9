"""Cut-outs: photographs of one object each, with an alpha channel; which files there are, and of which class."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from maskrobust.errors import InputError, MissingFileError
from maskrobust.lm_modules.networks.class_matching import are_wordnet_ids, imagenet_names
from maskrobust.train.data.files.image_files import decode_cutout, id_of, list_classes, read_file
from maskrobust.train.storage.files import parse_pairs

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
        id: in [0, 2^OBJECT_BITS), a hash of its path below the folder: it stays when files are added.
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
    pixels = decode_cutout(read_file(path), str(path))
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
    content = read_file(path)
    try:
        named = parse_pairs(content, "file", "class")
    except ValueError as error:
        raise InputError(
            f"'{path}' must be a CSV file in UTF-8 whose first line is file,class and whose others hold a file and its "
            f"class, but is not ({error}); correct it."
        ) from error
    if not named:
        raise InputError(f"'{path}' must name at least one file with its class, but names none; add some.")
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
