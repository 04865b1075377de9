"""Read image files and mask files, and match them."""

import hashlib
import io
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from maskrobust.augment.visible_pixels import holds_nodata
from maskrobust.errors import InputError, MissingFileError, UnreadableError
from maskrobust.train.data.files.bands import GDAL_NODATA, nodata_of

MaskCode = Literal["binary", "imagenet_s", "trimap"]

NoData = float | Literal["alpha"]
"""Which pixels hold no data: those of which every band has this value in the file, or that are fully transparent."""

IMAGE_SUFFIXES: tuple[str, ...] = (*IMG_EXTENSIONS, ".gif", ".jfif", ".npy")
"""Suffixes of the files that are read as images, in lower case."""

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP")
"""Pillow's formats that are read, whatever a file's suffix says; for some others Pillow starts Ghostscript."""

MOST_PIXELS = 2**30 // 12
"""Largest number of pixels of an image, about 9,500 x 9,500: where Pillow warns of decompression bombs, too."""

IMAGENET_S_IGNORE = 1000
"""Value in masks of ImageNet-S for pixels that are neither object nor background."""

_WINDOWS_FILES = ("thumbs.db", "desktop.ini")
_TRIMAP, _TRIMAP_BACKGROUND = (1, 2, 3), 2
_TRIMAPS = ({1, 2, 3}, {1, 2})
"""Numbers of a trimap, with and without a band along the outline."""
_LOSSY = ("jpeg", "tiff_jpeg", "webp")
"""Formats, and compressions of a TIFF, that may change pixels."""
_TRANSPOSING = (5, 6, 7, 8)
"""EXIF orientations that exchange height and width."""
_FLIPPED = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}
"""Dimensions that each EXIF orientation flips, after height and width have been exchanged."""


class ObjectMask(Protocol):
    """An object mask that says itself how it is read; `str` of it names it in messages. It must be picklable."""

    def read(self) -> Tensor:
        """The mask at the image's full size, (1, H, W) bool, True on the object.

        Raises:
            InputError: it cannot be read.
        """


class ImageFile(NamedTuple):
    """One labelled image file.

    Attributes:
        id: a hash of the image's path below the data set's root, in [0, 2^63). It stays the same when files are added.
        image: the file.
        mask: the mask file of the image, which is read by the data module's `mask_code`, or what reads itself; None
            where there is none.
        label: position of its class.
    """

    id: int
    image: Path
    mask: Path | ObjectMask | None
    label: int


class ImageListing(NamedTuple):
    """The files of one split.

    Attributes:
        images: the images that are read, sorted by path.
        others: files with another suffix than `IMAGE_SUFFIXES`; hidden files are not among them.
    """

    images: list[ImageFile]
    others: list[Path]


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in `folder`, sorted; hidden folders (.name) are left out.

    Raises:
        MissingFileError: there is no such folder, or no class folder in it.
    """
    if not folder.is_dir():
        raise MissingFileError(
            f"'{folder}' must be a folder with one folder for each class, but it does not exist; check root."
        )
    classes = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name)))
    if not classes:
        raise MissingFileError(
            f"'{folder}' must hold one folder for each class, but holds none; sort the images into folders by class."
        )
    return classes


def list_images(root: Path, split: str, mask_root: Path | None, labels: Mapping[str, int]) -> ImageListing:
    """The images of one split, and what else lies among them.

    Args:
        root: images lie in root/split/class/, at any depth. Files and folders whose name begins with a dot are left
            out, and so is what Windows keeps in its folders.
        split: name of the split's folder.
        mask_root: the mask of root/split/class/name.jpg is mask_root/split/class/name.png; None where there are none.
        labels: label of each class.

    Raises:
        MissingFileError: there is no such folder, or no image in it.
        InputError: a class folder has no label, or files but no image.
    """
    listing = ImageListing([], [])
    for name in list_classes(root / split):
        if name not in labels:
            raise InputError(
                f"'{root / split}' must hold classes of the training split alone, got '{name}'; remove it, or add it "
                "to the training split."
            )
        found = list_folder(root, root / split / name, mask_root, labels[name])
        if found.others and not found.images:
            raise InputError(
                f"'{root / split / name}' must hold images ({', '.join(IMAGE_SUFFIXES)}), but holds only other files, "
                f"'{found.others[0].name}' among them; convert them."
            )
        listing.images.extend(found.images)
        listing.others.extend(found.others)
    if not listing.images:
        raise MissingFileError(
            f"'{root / split}' must hold images ({', '.join(IMAGE_SUFFIXES)}), but holds none; check root."
        )
    return listing


def list_folder(root: Path, folder: Path, mask_root: Path | None, label: int) -> ImageListing:
    """The images at any depth of a folder below `root`, all under one label, and what else lies among them.

    Folders of images and of masks are listed, and no file is asked about by its name: on a shared file system each such
    question may be one to a server.

    Args:
        root: root folder of the images; hidden files and folders are left out, as by `list_images`.
        folder: the one that is listed, sorted by path; links to folders below it are not followed.
        mask_root: the mask of root/folder/name.jpg is mask_root/folder/name.png; None where there are none.
        label: the label of all of them.
    """
    listing = ImageListing([], [])
    inside = folder.relative_to(root)
    mask_folder = None if mask_root is None else mask_root / inside
    masks = {entry.name for entry in _entries(mask_folder) if entry.is_file()} if mask_folder else set()
    for entry in _entries(folder):
        path, (stem, suffix) = folder / entry.name, os.path.splitext(entry.name)
        if _is_hidden(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            below = list_folder(root, path, mask_root, label)
            listing.images.extend(below.images)
            listing.others.extend(below.others)
        elif suffix.lower() in IMAGE_SUFFIXES:
            mask = mask_folder / f"{stem}.png" if mask_folder and f"{stem}.png" in masks else None
            listing.images.append(ImageFile(id_of(inside / entry.name), path, mask, label))
        elif entry.is_file():
            listing.others.append(path)
    return listing


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name; nothing where there is no such folder."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=attrgetter("name"))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _WINDOWS_FILES


def read_file(path: Path) -> bytes:
    """The content of an image file or a mask file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(_unreadable(str(path), error)) from error


def check_header(path: Path, nodata: NoData | None = None) -> tuple[int, int]:
    """(H, W) of an image as `size_of` finds it, but for an orientation that comes after a PNG's pixels.

    Args:
        path: the file.
        nodata: what `decode_visible` will be given.

    Raises:
        InputError: it is no image, or is refused by `decode_visible` for its format.
    """
    with _opened(path, str(path)) as image:
        _check_lossless(image, nodata, str(path))
        is_plain = image.format == "PNG" and "exif" not in image.info  # Pillow would read all of it to look for one
        return (image.height, image.width) if is_plain else _displayed_size(image)


def decode_image(content: bytes, name: str) -> Tensor:
    """An encoded image as (3, H, W) uint8, turned as its EXIF orientation says.

    Grey values v of 16 bits become round(v / 257); colours of 16 bits keep their upper 8. Transparency is left out.

    Args:
        content: bytes of an image file.
        name: what messages call the image.

    Raises:
        InputError: it is no image that can be read whole, or its numbers have no known range.
    """
    with _opened(content, name) as image:
        pixels = torch.from_numpy(_colours(_in_8_bits(image))).permute(2, 0, 1)
        return turned(pixels, _orientation(image))


def decode_visible(content: bytes, nodata: NoData | Literal["nodata"], name: str) -> Tensor:
    """Which pixels of an encoded image hold data, (1, H, W) bool, turned as `decode_image` turns the image.

    Args:
        content: bytes of an image file.
        nodata: a value, compared with the numbers of the file, so that one of 16 bits is compared with all of them, and
            a palette's with its colours; alpha is no band. Or "alpha": pixels with an alpha of 0 hold none, and an
            image without transparency holds data everywhere. Or "nodata": the value that a GeoTIFF calls none; an image
            that is none holds data everywhere.
        name: what messages call the image.

    Raises:
        InputError: it is no image that can be read whole, or `nodata` is no value of its integer type or is compared
            with a lossy file.
    """
    with _opened(content, name) as image:
        value: NoData | None = None if nodata == "nodata" else nodata
        if nodata == "nodata" and isinstance(image, TiffImageFile):
            value = nodata_of(image.tag_v2.get(GDAL_NODATA))
        if value is None or (value == "alpha" and not image.has_transparency_data):
            return torch.ones(1, *_displayed_size(image), dtype=torch.bool)
        if value == "alpha":
            alpha = torch.from_numpy(np.array(image.convert("RGBA"))[..., 3])
            return turned(alpha[None], _orientation(image)) != 0
        _check_lossless(image, value, name)
    return holds_data(decode_numbers(content, name), value, name)


def holds_data(numbers: Tensor, nodata: float, name: str) -> Tensor:
    """Where a band holds another number than the no-data value, rounded as floats are: (1, H, W) bool of (C, H, W).

    Raises:
        InputError: the value is none of an integer type.
    """
    try:
        return ~holds_nodata(numbers[None], nodata)[0].all(dim=0, keepdim=True)
    except InputError as error:
        raise InputError(f"in '{name}', {error}") from error


def size_of(content: bytes | Path, name: str) -> tuple[int, int]:
    """(H, W) that `decode_image` gives an image, encoded or in a file, from its header alone.

    Raises:
        InputError: it is no image.
    """
    with _opened(content, name) as image:
        return _displayed_size(image)


def decode_numbers(content: bytes | Path, name: str) -> Tensor:
    """An image as (1, H, W) or (3, H, W) of the integers that it holds, turned as it is displayed; alpha is no band.

    Raises:
        InputError: it is no image that can be read whole, or has 16 bits for each colour.
    """
    with _opened(content, name) as image:
        numbers = _numbers_or_colours(image)
        return turned(as_tensor(numbers).reshape(*numbers.shape[:2], -1).permute(2, 0, 1), _orientation(image))


def decode_classes(content: bytes, name: str) -> Tensor:
    """An image of one band as (1, H, W) of the numbers that it holds, of a palette those that name its colours.

    Raises:
        InputError: it is no image that can be read whole, or has colours.
    """
    with _opened(content, name) as image:
        return turned(as_tensor(_palette_numbers(image))[None], _orientation(image))


def as_tensor(numbers: NDArray[Any]) -> Tensor:
    """An array as a tensor of its own memory, whatever its order of bytes."""
    return torch.from_numpy(np.array(numbers, dtype=numbers.dtype.newbyteorder("="), order="C"))


def check_size(mask: object, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Refuse a mask, named by `mask`, that has not the (height, width) of its image."""
    if found != size:
        raise UnreadableError(
            f"'{mask}' must have the size of its image as it is displayed, turned by any EXIF orientation, {size} "
            f"(height, width), got {found}; make it again from that image."
        )


def decode_mask(content: bytes, code: MaskCode, name: str) -> Tensor:
    """An encoded mask as (1, H, W) bool, True on the object, turned as its EXIF orientation says where it has one.

    Args:
        content: bytes of a mask file.
        code: "binary": what is not black is the object, however dark; a trimap is refused. "imagenet_s" (Gao et al.,
            "Large-scale Unsupervised Semantic Segmentation", TPAMI 2022): a pixel's class is red + 256 green, or its
            grey value, 0 is no object, and 1000, which is to be ignored, counts as none. "trimap" (Parkhi et al., "Cats
            and Dogs", CVPR 2012): 1 is the object, 2 the background, and 3 the band along the outline, which counts as
            object: a hole must not leave its fur.
        name: what messages call the mask.

    Raises:
        InputError: it is no image that can be read whole, its numbers have no known range, it has 16 bits for each
            colour, or it has colours, or numbers but 1, 2 and 3, where "trimap" has none.
    """
    with _opened(content, name) as image:
        inside = _object_pixels(image, code)
        return turned(torch.from_numpy(inside).unsqueeze(0), _orientation(image))


def decode_imagenet_s(content: bytes, name: str) -> Tensor:
    """An encoded map of ImageNet-S's class ids, (H, W) int32, turned as its EXIF orientation says where it has one.

    Args:
        content: bytes of a PNG.
        name: what messages call the map.

    Raises:
        InputError: it is no image that can be read whole.
    """
    with _opened(content, name) as image:
        return turned(torch.from_numpy(_imagenet_s_classes(image).astype(np.int32)), _orientation(image))


def id_of(path: Path) -> int:
    """The id of an image, in [0, 2^63): a hash of its path below the data set's root."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(path.as_posix()), digest_size=8).digest(), "big") >> 1


def _object_pixels(image: Image.Image, code: MaskCode) -> NDArray[np.bool_]:
    """(H, W) bool of a mask as it is stored."""
    if code == "trimap":
        numbers = _palette_numbers(image)
        if not np.isin(numbers, _TRIMAP).all():
            raise InputError(
                f"it must hold 1, 2 and 3, but holds numbers from {int(numbers.min())} to {int(numbers.max())}"
            )
        return np.asarray(numbers != _TRIMAP_BACKGROUND)
    if code == "binary":
        numbers = _numbers_or_colours(image)
        if numbers.all() and {*np.unique(numbers).tolist()} in _TRIMAPS:
            raise InputError("it holds 1, 2 and 3 alone, as a trimap does, and nothing black: set mask_code to trimap")
        return np.asarray(numbers.any(axis=2)) if numbers.ndim == 3 else numbers.astype(np.bool_)
    classes = _imagenet_s_classes(image)
    return np.asarray((classes > 0) & (classes != IMAGENET_S_IGNORE))


def _palette_numbers(image: Image.Image) -> NDArray[Any]:
    """(H, W), one number for each pixel."""
    if image.mode == "F":
        raise InputError(_unknown_range(image))
    if _has_colours(image) and image.mode != "P":
        raise InputError("it has colours, where one number is wanted for each pixel")
    return np.asarray(image)


def _imagenet_s_classes(image: Image.Image) -> NDArray[Any]:
    """(H, W): red + 256 green, or the grey value."""
    numbers = _numbers_or_colours(image)
    return np.asarray(numbers[..., 0] + np.int32(256) * numbers[..., 1]) if numbers.ndim == 3 else numbers


def _numbers_or_colours(image: Image.Image) -> NDArray[Any]:
    """(H, W) grey values or (H, W, 3) colours of a mask as it is stored."""
    if image.mode == "F":
        raise InputError(_unknown_range(image))
    if _has_colours(image) and ";16" in str(getattr(image, "tile", "")):  # how pixels are packed, as RGB;16B
        raise InputError("it has 16 bits for each colour, of which 8 would be lost: save it with 8")
    return _colours(image) if _has_colours(image) else np.asarray(image)


def _has_colours(image: Image.Image) -> bool:
    return image.mode not in ("1", "L") and not image.mode.startswith("I")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from EXIF or XMP, 1 where none can be read; 1 for a TIFF that is loaded, as Pillow turns it."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1


def _displayed_size(image: Image.Image) -> tuple[int, int]:
    """(H, W), which Pillow exchanges by itself in a TIFF."""
    exchanged = image.format != "TIFF" and _orientation(image) in _TRANSPOSING
    return (image.width, image.height) if exchanged else (image.height, image.width)


def turned(pixels: Tensor, orientation: int) -> Tensor:
    """(..., H, W) as an EXIF orientation says that they are to be displayed."""
    exchanged = pixels.mT if orientation in _TRANSPOSING else pixels
    return exchanged.flip(_FLIPPED[orientation]) if orientation in _FLIPPED else exchanged


def _colours(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, without transparency; Pillow would warn of the transparency of a palette."""
    image.load()
    image.info.pop("transparency", None)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _in_8_bits(image: Image.Image) -> Image.Image:
    """An image of 16-bit integers in 8, any other as it is; an `InputError` where its numbers have no known range."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        values: NDArray[np.uint32] = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(_unknown_range(image))
    return image


def _unknown_range(image: Image.Image) -> str:
    numbers = "floating-point numbers" if image.mode == "F" else "signed or 32-bit integers"
    return f"mode {image.mode} holds {numbers}, whose white is not known: save it with 8 or 16 bits"


@contextmanager
def _opened(content: bytes | Path, name: str) -> Iterator[Image.Image]:
    """An image whose header has been read; whatever is wrong with it, then or later, is an `InputError`."""
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"it has {image.height} x {image.width} pixels (height x width), and at most {MOST_PIXELS} may be"
                )
            _check_pages(image)
            yield image
    except UnidentifiedImageError as error:
        raise UnreadableError(_unreadable(name, "it is of no known format")) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(_unreadable(name, error)) from error


def _check_pages(image: Image.Image) -> None:
    """Refuse a TIFF of several pages of one size, of which Pillow would read the first alone."""
    if isinstance(image, TiffImageFile) and (pages := image.n_frames) > 1:
        size = image.size
        image.seek(1)  # further pages may be smaller copies
        if image.size == size:
            raise InputError(f"it is a TIFF of {pages} pages of one size: save one picture in a file")
        image.seek(0)


def _check_lossless(image: Image.Image, nodata: NoData | None, name: str) -> None:
    """Refuse to compare a value with pixels that compression has moved off it, or onto it."""
    compression = image.info.get("compression") if image.format == "TIFF" else f"{image.format}".lower()
    if nodata not in (None, "alpha") and compression in _LOSSY:
        raise InputError(
            f"visible {nodata} must be compared with pixels as they were, but '{name}' is compressed by {compression}, "
            "which changes them; make lossless PNG or TIFF files of the originals."
        )


def _unreadable(name: str, reason: object) -> str:
    return f"'{name}' cannot be read as an image ({reason}); repair the file, or remove it from the data set."
