"""`Reading`: how image files are read, which says what may be seen of them."""

from collections.abc import Iterable, Mapping
from functools import partial
from math import inf, isfinite
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeGuard, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from maskrobust.errors import InputError, MissingFileError, did_you_mean
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.bands import Bands, read_bands
from maskrobust.train.data.files.image_files import (
    ImageFile,
    NoData,
    as_tensor,
    check_header,
    check_size,
    decode_classes,
    decode_image,
    decode_mask,
    decode_numbers,
    decode_visible,
    holds_data,
    list_folder,
    read_file,
    size_of,
    turned,
)
from maskrobust.train.data_options import GivenVisible
from maskrobust.train.storage.files import printable, read_rows

Marked = Literal["alpha", "nan", "nodata"]
"""In place of a no-data value."""

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


class TilePlanes(NamedTuple):
    """The masks or label maps of tiles: SPLIT/KIND/a/b.png for SPLIT/images/a/b.tif, and any suffix of images.

    Attributes:
        root: folder of the splits.
        kind: name of their folder, "visible" or "labels".
        listed: the files by the paths of their tiles below root, without suffix.
    """

    root: Path
    kind: str
    listed: Mapping[str, Path]

    @classmethod
    def below(cls, root: Path, kind: str) -> "TilePlanes":
        """Those of all splits."""
        listed = {}
        for folder in sorted(root.glob(f"*/{kind}")):
            for file in list_folder(root, folder, None, 0).images:
                place = folder.parent / "images" / file.image.relative_to(folder)
                listed[place.relative_to(root).with_suffix("").as_posix()] = file.image
        return cls(root, kind, listed)

    def of(self, place: str) -> Path:
        """The file of a tile; a `MissingFileError` where it has none."""
        wanted = PurePosixPath(place)
        if (found := self.listed.get(f"{wanted.with_suffix('')}")) is None:
            folder = self.root / wanted.parts[0] / self.kind
            raise MissingFileError(
                f"every tile must have a file of its name in '{folder}', but '{place}' has none; add it, or remove the "
                "tile."
            )
        return found

    def check_listed(self, places: Iterable[str]) -> None:
        """Refuse tiles without a file."""
        for place in places:
            self.of(place)

    def check(self, place: str, size: tuple[int, int]) -> None:
        """Refuse a file of another size, by its header."""
        check_size(self.of(place), plane_size(self.of(place)), size)

    def visible(self, place: str, size: tuple[int, int]) -> Tensor:
        """(1, H, W) bool, what is not 0."""
        numbers = read_plane(self.of(place))[None]
        check_size(self.of(place), tuple(numbers.shape[1:]), size)
        return numbers != 0


class Header(NamedTuple):
    """What the header of an image says of what `Reading.read` gives."""

    bands: int
    dtype: torch.dtype
    height: int
    width: int


class Reading:
    """How image files are read.

    Args:
        visible: which pixels may be seen. "alpha": those that are not fully transparent. A number, such as 0 or -9999:
            those of which a band holds another one in the file. "nan": those of which no band is NaN. "nodata": those
            of which a band has another value than the one that a GeoTIFF calls none. A folder of masks, white where
            visible, in which a/b.png belongs to the image a/b.jpg. A CSV file of boxes to hide, whose first line is
            `image,left,top,right,bottom`; an image may have several lines, and has one without numbers where nothing is
            hidden. {"hidden_box": [left, top, right, bottom]}, one box to hide in all images. Boxes count pixels of the
            file as it is displayed, and end before `right` and `bottom`. "all": all pixels. None: all, but where a
            network's own training says otherwise.
        value_range: numbers of a file that become 0 and 1; others beyond them become these, too. All bands of a file
            are then read. None for 0 and the largest number of unsigned integers, and for 0 and 1 of others, which must
            lie between them; photographs are then read as red, green and blue.
        show_bands: numbers from 1 of the three bands that pictures show as red, green and blue.
        tiles: masks of tiles, if there are any, which hide further pixels; None for images that are no tiles. All
            pixels of a tile may be hidden, and a TIFF has the bands that it has, without `value_range`, too.

    Attributes:
        given: `visible` as given.
        hides: whether images come with `visible`.

    Raises:
        MissingFileError, InputError: an argument is none of these.
    """

    def __init__(
        self,
        visible: GivenVisible | Path | None = None,
        value_range: tuple[float, float] | None = None,
        show_bands: tuple[int, int, int] | None = None,
        tiles: TilePlanes | None = None,
    ) -> None:
        if value_range is not None and not (len(value_range) == 2 and -inf < value_range[0] < value_range[1] < inf):
            raise InputError(f"value_range must be two numbers, the lower one first, got {value_range}; correct it.")
        if show_bands is not None and not (
            len(show_bands) == 3 and min(show_bands) >= 1 and {*map(type, show_bands)} == {int}
        ):
            raise InputError(f"show_bands must be three numbers of bands, from 1 on, got {show_bands}; correct it.")
        self.value_range, self.show_bands = value_range, show_bands
        self.given = visible = f"{visible}" if isinstance(visible, Path) else visible
        self.marked: NoData | Marked | None = None
        self.tiles, self.beside = tiles, list[HiddenBoxes | MaskFolder | TilePlanes]()
        if tiles is not None and tiles.listed:
            self.beside.append(tiles)
        if isinstance(visible, Mapping):
            self.beside.append(_one_box(visible))
        elif visible is not None and is_beside_images(visible):
            self.beside.append(_files_beside(Path(visible)))
        elif visible not in (None, ALL):
            self.marked = visible if visible in get_args(Marked) else float(visible)  # type: ignore[assignment]
        if isinstance(self.marked, float) and not isfinite(self.marked):
            raise InputError(f"visible must be a value that pixels can have, got {visible}; correct it.")
        self.hides = self.marked is not None or bool(self.beside)

    @property
    def beside_files(self) -> bool:
        """Whether other files than the images say what is visible of these images alone."""
        return bool(self.beside) and not isinstance(self.given, Mapping)

    def as_dict(self) -> dict[str, Any]:
        """What is given, as plain values."""
        given: dict[str, Any] = {name: getattr(self, name) for name in ("value_range", "show_bands")}
        given["visible"] = self.given
        return {
            name: [*value] if isinstance(value, tuple) else value for name, value in given.items() if value is not None
        }

    def check_listed(self, places: Iterable[str]) -> None:
        """Refuse images, by their paths below the folder of images, of which nothing says what is visible.

        Raises:
            MissingFileError, InputError: naming the first.
        """
        named = [*places]
        for each in self.beside:
            each.check_listed(named)

    def check(self, path: Path, place: str) -> Header:
        """Refuse a file, and what hides parts of it, by no more than their headers.

        Args:
            path: the file.
            place: its path below the folder of images.

        Returns:
            Bands and type that `read` gives, and height and width as the image is displayed.

        Raises:
            InputError: it cannot be read, or a box or mask does not fit.
        """
        found = self._bands(path, str(path), header_only=True)
        if found is None:
            value = None if isinstance(self.marked, str) and self.marked != "alpha" else self.marked
            read = partial(size_of, name=str(path)) if self.beside else partial(check_header, nodata=value)
            header = Header(3, torch.uint8, *read(path))
        else:
            height, width = turned(torch.empty(found.numbers.shape[1:], device="meta"), found.orientation).shape
            dtype = torch.uint8 if self._keeps(found.numbers) else torch.float32
            header = Header(len(found.numbers), dtype, height, width)
        for each in self.beside:
            each.check(place, (header.height, header.width))
        return header

    def _bands(self, content: bytes | Path, name: str, *, header_only: bool = False) -> Bands | None:
        """The bands of a file; None for a photograph that is read as red, green and blue."""
        has_range = self.value_range is not None
        found = read_bands(content, name, header_only=header_only, any_tiff=has_range or self.tiles is not None)
        if found is None:
            return Bands(decode_numbers(content, name).numpy()) if has_range else None
        if found.nodata is not None and self.given is None:
            raise InputError(
                f"'{name}' calls {found.nodata:g} no data; hide such pixels (--data.visible nodata), or see them (all)."
            )
        if self.marked == "alpha" and found.opacity is not None and header_only:
            return found._replace(numbers=found.numbers[1:])
        return found

    def _keeps(self, numbers: NDArray[Any]) -> bool:
        return numbers.dtype == np.uint8 and self.value_range is None

    def read(self, path: Path, place: str) -> tuple[Tensor, Tensor | None]:
        """An image, and what is visible of it, (1, H, W) bool; None where nothing is hidden.

        A photograph is (3, H, W) uint8, other files have all of their bands, float32 in [0, 1] unless they are uint8.
        Hidden pixels of these are 0.

        Args:
            path: the file.
            place: its path below the folder of images.

        Raises:
            InputError: one of the files cannot be read, they do not fit, no pixel is visible (of what is no tile), or a
                visible one is no finite number, or none in [0, 1] where `value_range` does not say what 0 and 1 are.
        """
        return self.decode(read_file(path), str(path), place)

    def decode(self, content: bytes, name: str, place: str = "") -> tuple[Tensor, Tensor | None]:
        """As `read`, from the bytes of the file that messages call `name`."""
        found = self._bands(content, name)
        image = decode_image(content, name) if found is None else turned(as_tensor(found.numbers), found.orientation)
        visible = None
        if self.marked is not None:
            image, visible = self._split(image, found, content, name)
        for each in self.beside:
            shown = each.visible(place or name, (image.shape[1], image.shape[2]))
            visible = shown if visible is None else visible & shown
        if visible is not None and self.tiles is None and not visible.any():
            raise InputError(f"no pixel of '{name}' may be seen, for visible is {self.given}; leave it out.")
        return image if found is None else self._scaled(image, visible, name), visible

    def _split(self, image: Tensor, found: Bands | None, content: bytes, name: str) -> tuple[Tensor, Tensor]:
        """The bands without their opacity, and what is visible of them; of a photograph without `Bands`."""
        value: Any = found.nodata if found is not None and self.marked == "nodata" else self.marked
        if value == "nan" and not image.is_floating_point():
            raise InputError(f"'{name}' holds whole numbers, which are never NaN; give --data.visible another value.")
        if value == "nan":
            return image, ~image.isnan().any(dim=0, keepdim=True)
        if found is None:
            return image, decode_visible(content, value, name)
        if value == "alpha" and found.opacity is not None:
            kept = [band for band in range(len(image)) if band != found.opacity]
            return image[kept], image[found.opacity][None] != 0
        if value is None or value == "alpha":
            return image, torch.ones_like(image[:1], dtype=torch.bool)
        return image, holds_data(image, value, name)

    def _scaled(self, image: Tensor, visible: Tensor | None, name: str) -> Tensor:
        """Numbers of a file in [0, 1] by `value_range`, 0 where they are hidden; bytes without it as they are."""
        numbers = image.numpy()
        if self._keeps(numbers):
            return image
        unsigned = numbers.dtype.kind in "bu"
        low, high = self.value_range or (0, np.iinfo(numbers.dtype).max if numbers.dtype.kind == "u" else 1)
        values = (numbers.astype(np.float64) - low) / (high - low)
        values = values if visible is None else np.where(visible.numpy(), values, 0.0)
        least, most = values.min(), values.max()
        if not isfinite(least) or not isfinite(most):
            raise InputError(f"'{name}' is NaN or infinite at pixels that may be seen; hide NaN (--data.visible nan).")
        if self.value_range is None and not unsigned and (least < 0 or most > 1):
            raise InputError(
                f"'{name}' holds numbers from {least:g} to {most:g}; say which become 0 and 1 (--data.value_range '[0, "
                f"{most:g}]')."
            )
        return torch.from_numpy(values.clip(0, 1).astype(np.float32))


def read_plane(path: Path) -> Tensor:
    """A label map or a mask of one band as (H, W) int64.

    Raises:
        InputError: it cannot be read, has several bands, or holds no whole numbers.
    """
    content, name = read_file(path), str(path)
    found = read_bands(content, name, any_tiff=True)
    numbers = decode_classes(content, name) if found is None else turned(as_tensor(found.numbers), found.orientation)
    if len(numbers) != 1 or numbers.is_floating_point():
        raise InputError(
            f"'{path}' must hold one band of whole numbers, got {len(numbers)} of {numbers.dtype}; write it as uint8."
        )
    return numbers[0].long()


def plane_size(path: Path) -> tuple[int, int]:
    """(H, W) of a file that `read_plane` reads, from its header, but for an orientation after a PNG's pixels."""
    _, _, height, width = Reading(ALL).check(path, "")
    return height, width


def place_of(file: ImageFile, root: Path) -> str:
    """The path of an image below a folder, its parts between slashes; its name where it lies elsewhere."""
    return file.image.relative_to(root).as_posix() if file.image.is_relative_to(root) else file.image.name


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
    asked, taken = [*networks], given.as_dict()
    for option in ("visible", "value_range", "show_bands"):
        said = {network.name: network.read_as.get(option) for network in asked}
        name, value = next(iter(said.items()), ("", None))
        if option in taken or not any(each is not None for each in said.values()):
            continue
        if other := next((each for each in said if said[each] != value), None):
            raise InputError(
                f"'{name}' was trained with {option} {value} and '{other}' with {said[other]}; say how these images "
                f"are to be read (--data.{option})."
            )
        numbers = value if isinstance(value, list) and {*map(type, value)} <= {int, float} else []
        if not (isinstance(value, float | int | str | dict) if option == "visible" else numbers):
            raise InputError(f"'{name}' must say {option} in words or numbers, got {type(value)}; save it again.")
        told = printable(f"{option}: {value}, as in the training of '{name}'")
        if is_beside_images(value):
            rank_zero_info(f"{told}, says nothing about these images, which are all visible without --data.visible")
            continue
        rank_zero_info(f"{told} (--data.{option} says otherwise)")
        taken[option] = tuple(numbers) if numbers else value
    return given if taken == given.as_dict() else Reading(**taken, tiles=given.tiles)
