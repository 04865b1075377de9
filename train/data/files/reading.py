"""`Reading`: how image files are read, which says what may be seen of them."""

from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard, get_args

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from maskrobust.errors import InputError, MissingFileError, did_you_mean
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.arguments import GivenVisible
from maskrobust.train.data.files.image_files import (
    Marked,
    NoData,
    check_header,
    check_size,
    decode_image,
    decode_mask,
    decode_visible,
    read_file,
    size_of,
)
from maskrobust.train.storage.files import printable, read_rows

ALL = "all"
"""In place of `visible`: all pixels may be seen, whatever a network's training says."""

_BOX = ("left", "top", "right", "bottom")
_EVERY = ""
"""In place of an image, among boxes: every one."""


class HiddenBoxes(NamedTuple):
    """Boxes that hide parts of images.

    Attributes:
        given: what names them in messages.
        listed: the boxes (left, top, right, bottom) by the path of an image; of all images under `_EVERY`.
    """

    given: str
    listed: Mapping[str, list[tuple[int, ...]]]

    @classmethod
    def read(cls, path: Path) -> "HiddenBoxes":
        """Those of a CSV file; an InputError or a MissingFileError where it is none."""
        listed: dict[str, list[tuple[int, ...]]] = {}
        for image, *numbers in read_rows(path, "image", *_BOX):
            boxes = listed.setdefault(image, [])
            if not any(numbers):
                continue
            if not all(map(str.isdecimal, numbers)):
                raise InputError(
                    f"'{path}' must give boxes in whole pixels, or no number where nothing is hidden, got "
                    f"'{','.join(numbers)}' of '{image}'; correct it."
                )
            boxes.append(tuple(map(int, numbers)))
        return cls(f"{path}", listed)

    def of(self, place: str) -> list[tuple[int, ...]]:
        """The boxes of an image, by its path below the folder of images, with or without suffix."""
        for key in (place, str(PurePosixPath(place).with_suffix("")), _EVERY):
            if key in self.listed:
                return self.listed[key]
        raise InputError(
            f"'{self.given}' must list every image by its path below the folder of images, but lacks '{place}'; add "
            "it, without numbers where nothing is hidden."
        )

    def check_listed(self, places: Iterable[str]) -> None:
        """Refuse images without a line."""
        for place in places:
            self.of(place)

    def check(self, place: str, size: tuple[int, int]) -> None:
        """Refuse a box that lies beyond an image of a size."""
        for box in self.of(place):
            left, top, right, bottom = box
            if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
                raise InputError(
                    f"'{self.given}' must hide a box (left, top, right, bottom) within '{place}', which is {size[1]} "
                    f"pixels wide and {size[0]} high, got {box}; correct it."
                )

    def visible(self, place: str, size: tuple[int, int]) -> Tensor:
        """(1, H, W) bool, False in the boxes."""
        self.check(place, size)
        visible = torch.ones(1, *size, dtype=torch.bool)
        for left, top, right, bottom in self.of(place):
            visible[:, top:bottom, left:right] = False
        return visible


class MaskFolder(NamedTuple):
    """FOLDER/a/b.png for the image a/b.jpg, white where it may be seen."""

    folder: Path

    def of(self, place: str) -> Path:
        """The mask's file."""
        return (self.folder / place).with_suffix(".png")

    def check_listed(self, places: Iterable[str]) -> None:
        """Refuse images without a mask; the folder is listed, and no file asked about by its name."""
        there = {*self.folder.rglob("*.png")}
        for place in places:
            if self.of(place) not in there:
                raise MissingFileError(
                    f"'{self.folder}' must hold a mask of every image, white where it may be seen, but lacks "
                    f"'{self.of(place)}' for '{place}'; add it."
                )

    def check(self, place: str, size: tuple[int, int]) -> None:
        """Refuse a mask of another size, by its header."""
        check_size(self.of(place), size_of(self.of(place), str(self.of(place))), size)

    def visible(self, place: str, size: tuple[int, int]) -> Tensor:
        """(1, H, W) bool, what is not black."""
        visible = decode_mask(read_file(self.of(place)), "binary", str(self.of(place)))
        check_size(self.of(place), tuple(visible.shape[1:]), size)
        return visible


class Reading:
    """How image files are read.

    Args:
        visible: which pixels may be seen. "alpha": those that are not fully transparent. A number, such as 0 or -9999:
            those of which a band holds another one in the file. A folder of masks, white where visible, in which
            a/b.png belongs to the image a/b.jpg. A CSV file of boxes to hide, whose first line is
            `image,left,top,right,bottom`; an image may have several lines, and has one without numbers where nothing is
            hidden. {"hidden_box": [left, top, right, bottom]}, one box to hide in all images. Boxes count pixels of the
            file as it is displayed, and end before `right` and `bottom`. "all": all pixels. None: all, but where a
            network's own training says otherwise.

    Attributes:
        given: `visible` as given.
        hides: whether images come with `visible`.

    Raises:
        MissingFileError, InputError: `visible` is none of these.
    """

    def __init__(self, visible: GivenVisible | Path | None = None) -> None:
        self.given = visible = f"{visible}" if isinstance(visible, Path) else visible
        self.marked: NoData | None = None
        self.beside: HiddenBoxes | MaskFolder | None = None
        if isinstance(visible, Mapping):
            self.beside = _one_box(visible)
        elif visible is not None and is_beside_images(visible):
            self.beside = _files_beside(Path(visible))
        elif visible not in (None, ALL):
            self.marked = visible if visible in get_args(Marked) else float(visible)  # type: ignore[assignment]
        if isinstance(self.marked, float) and not isfinite(self.marked):
            raise InputError(f"visible must be a value that pixels can have, got {visible}; correct it.")
        self.hides = self.marked is not None or self.beside is not None

    @property
    def beside_files(self) -> bool:
        """Whether other files than the images say what is visible of these images alone."""
        return self.beside is not None and not isinstance(self.given, Mapping)

    def as_dict(self) -> dict[str, Any]:
        """What is given, as plain values."""
        return {} if self.given is None else {"visible": self.given}

    def check_listed(self, places: Iterable[str]) -> None:
        """Refuse images, by their paths below the folder of images, of which nothing says what is visible.

        Raises:
            MissingFileError, InputError: naming the first.
        """
        if self.beside is not None:
            self.beside.check_listed(places)

    def check(self, path: Path, place: str) -> None:
        """Refuse a file, and what hides parts of it, by no more than their headers.

        Args:
            path: the file.
            place: its path below the folder of images.

        Raises:
            InputError: it cannot be read, or a box or mask does not fit.
        """
        size = check_header(path, self.marked)
        if self.beside is not None:
            self.beside.check(place, size)

    def read(self, path: Path, place: str) -> tuple[Tensor, Tensor | None]:
        """An image (3, H, W) uint8, and what is visible of it, (1, H, W) bool; None where nothing is hidden.

        Args:
            path: the file.
            place: its path below the folder of images.

        Raises:
            InputError: one of the files cannot be read, they do not fit, or no pixel is visible.
        """
        return self.decode(read_file(path), str(path), place)

    def decode(self, content: bytes, name: str, place: str = "") -> tuple[Tensor, Tensor | None]:
        """As `read`, from the bytes of the file that messages call `name`."""
        image, visible = decode_image(content, name), None
        if self.marked is not None:
            visible = decode_visible(content, self.marked, name)
        elif self.beside is not None:
            visible = self.beside.visible(place or name, (image.shape[1], image.shape[2]))
        if visible is not None and not visible.any():
            raise InputError(f"no pixel of '{name}' may be seen, for visible is {self.given}; leave it out.")
        return image, visible


def is_beside_images(visible: object) -> TypeGuard[str]:
    """Whether it names files that say what is visible, and no value of pixels."""
    if not isinstance(visible, str) or visible in (*get_args(Marked), ALL):
        return False
    try:
        float(visible)
    except ValueError:
        return True
    return False


def _files_beside(path: Path) -> HiddenBoxes | MaskFolder:
    if path.suffix.lower() == ".csv":
        return HiddenBoxes.read(path)
    if path.is_dir():
        return MaskFolder(path)
    choices = [*get_args(Marked), ALL]
    raise MissingFileError(
        f"visible must be {', '.join(choices)}, a no-data value such as 0, a folder of masks, a CSV file of boxes, or "
        f"{{hidden_box: [left, top, right, bottom]}}, got '{path}'{did_you_mean(str(path), choices)}; correct it."
    )


def _one_box(given: Mapping[str, list[int]]) -> HiddenBoxes:
    box = given.get("hidden_box")
    if [*given] != ["hidden_box"] or not isinstance(box, list | tuple) or [*map(type, box)] != [int] * len(_BOX):
        raise InputError(
            f"visible must be {{hidden_box: [left, top, right, bottom]}} where it is one box, got {given}; correct it."
        )
    return HiddenBoxes("hidden_box", {_EVERY: [tuple(box)]})


def reading_for(networks: Iterable[TrainedNetwork], given: Reading) -> Reading:
    """How files are read for networks: as given, and what that leaves open as in their training, which a line says.

    Args:
        networks: who say in `read_as` how their training read files.
        given: what the user says.

    Raises:
        InputError: networks were trained in different ways, or with something that is none.
    """
    if given.given is not None:
        return given
    said = {network.name: network.read_as.get("visible") for network in networks}
    name, visible = next(iter(said.items()), ("", None))
    if not isinstance(visible, float | int | str | dict | None):
        raise InputError(f"'{name}' must say what is visible in words or numbers, got {type(visible)}; save it again.")
    if other := next((each for each in said if said[each] != visible), None):
        raise InputError(
            f"'{name}' was trained with visible {visible} and '{other}' with {said[other]}; say which pixels of these "
            "images may be seen (--data.visible), or all."
        )
    if visible is None:
        return given
    told = printable(f"visible: {visible}, as in the training of '{name}'")
    if is_beside_images(visible):
        rank_zero_info(
            f"{told}, says nothing about these images: all of them is visible unless --data.visible is given"
        )
        return given
    rank_zero_info(f"{told} (--data.visible says otherwise)")
    return Reading(visible)
