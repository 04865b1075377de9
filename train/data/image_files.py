"""Image files and mask files: which belong together, and what is in them."""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.io import ImageReadMode, decode_jpeg, decode_png

from maskrobust.errors import InputError, MissingFileError

MaskCode = Literal["binary", "imagenet_s", "trimap"]

IMAGE_SUFFIXES: tuple[str, ...] = (*IMG_EXTENSIONS, ".gif", ".jfif")
"""Of files that are read as images, in lower case."""

MOST_PIXELS = 2**30 // 12
"""Of an image that is read, about 9,500 by 9,500: that is where Pillow warns of decompression bombs, too."""

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "BMP", "PPM", "WEBP")
"""Of Pillow's, those that are read, whatever a file's suffix is: it would start Ghostscript for others."""

_OF_WINDOWS = ("thumbs.db", "desktop.ini")
_IMAGENET_S_IGNORE = 1000
_TRIMAP_BACKGROUND = 2
_JPEG, _EXIF_OR_XMP, _PIXELS = b"\xff\xd8\xff", b"\xff\xe1", b"\xff\xda"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Second bytes of the markers behind which a JPEG says its height and width."""
_WITHOUT_LENGTH = range(0xD0, 0xDA)
"""Second bytes of markers that no length follows, and that have no place in a header."""
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPE, _PALETTE = slice(25, 26), b"\x03"
_PNG_METADATA = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
"""What begins a part of a PNG that may hold an orientation."""
_ON_THEIR_SIDE = (5, 6, 7, 8)
"""Orientations of EXIF that exchange height and width."""
_FLIPPED = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}
"""By orientation, the dimensions that are flipped, after height and width have been exchanged."""


class ImageFile(NamedTuple):
    """One labelled image file.

    Attributes:
        id: in [0, 2^63), a hash of the image's path below the data set's root: it stays when files are added.
        image: the file.
        mask: its mask file, None where there is none.
        label: position of its class.
    """

    id: int
    image: Path
    mask: Path | None
    label: int


class ImageListing(NamedTuple):
    """The files of one split.

    Attributes:
        images: those that are read, sorted by path.
        others: those whose suffix is none of `IMAGE_SUFFIXES`; hidden files are not among them.
    """

    images: list[ImageFile]
    others: list[Path]


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in `folder`, sorted; a folder whose name begins with a dot is none.

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
        InputError: a class folder has no label, or files but no image; or two images have the same id.
    """
    listing = ImageListing([], [])
    for name in list_classes(root / split):
        if name not in labels:
            raise InputError(
                f"'{root / split}' must hold classes of the training split alone, got '{name}'; remove it, or add it "
                "to the training split."
            )
        found = _list_class(root, root / split / name, mask_root, labels[name])
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
    check_unique(listing.images)
    return listing


def _list_class(root: Path, folder: Path, mask_root: Path | None, label: int) -> ImageListing:
    listing = ImageListing([], [])
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(root)
        if any(map(_is_hidden, path.relative_to(folder).parts)):
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES:
            mask = None if mask_root is None else (mask_root / inside).with_suffix(".png")
            mask = mask if mask is not None and mask.is_file() else None
            listing.images.append(ImageFile(id_of(inside), path, mask, label))
        elif path.is_file():
            listing.others.append(path)
    return listing


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_WINDOWS


def read_file(path: Path) -> bytes:
    """The content of an image file or a mask file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(_unreadable(str(path), error)) from error


def read_image(path: Path) -> Tensor:
    """An image file as (3, H, W) uint8.

    Raises:
        InputError: the file is no image that can be read whole.
    """
    return decode_image(read_file(path), str(path))


def decode_image(content: bytes, name: str) -> Tensor:
    """An encoded image as (3, H, W) uint8, turned as its EXIF orientation says.

    Grey values v of 16 bits become round(v / 257); colours of 16 bits keep their upper 8. Transparency is left out.

    Args:
        content: of an image file.
        name: of the image, for messages.

    Raises:
        InputError: it is no image that can be read whole, or its numbers have no known range.
    """
    decoded: Tensor | None = None
    jpeg = _jpeg_header(content)
    if jpeg is not None and jpeg.pixels <= MOST_PIXELS:
        with suppress(RuntimeError):  # what torchvision cannot read, Pillow may, or say why not
            decoded = decode_jpeg(_as_tensor(content), ImageReadMode.RGB)
    if jpeg is not None and decoded is not None and not jpeg.may_be_turned:
        return decoded
    with _opened(content, name) as image:
        return _turned(_colours(_in_8_bits(image)) if decoded is None else decoded, _orientation(image))


def size_of(content: bytes, name: str) -> tuple[int, int]:
    """(H, W) that `decode_image` gives an encoded image, from its header alone unless it is a TIFF.

    Raises:
        InputError: it is no image.
    """
    with _opened(content, name) as image:
        if image.format == "TIFF":
            image.load()  # which turns it
        height, width = image.height, image.width
        return (width, height) if _orientation(image) in _ON_THEIR_SIDE else (height, width)


def is_on_its_side(content: bytes, name: str) -> bool:
    """Whether the EXIF orientation of an encoded image exchanges height and width.

    Raises:
        InputError: it is no image.
    """
    with _opened(content, name) as image:
        return _orientation(image) in _ON_THEIR_SIDE


def read_mask(path: Path, code: MaskCode) -> Tensor:
    """A mask file as (1, H, W) bool, True on the object.

    Args:
        path: the file.
        code: how it is to be read; see `decode_mask`.

    Raises:
        InputError: the file is no image that can be read whole.
    """
    return decode_mask(read_file(path), code, str(path))


def decode_mask(content: bytes, code: MaskCode, name: str) -> Tensor:
    """An encoded mask as (1, H, W) bool, True on the object, turned as its EXIF orientation says where it has one.

    Args:
        content: of a mask file.
        code: "binary": what is not black is the object, however dark. "imagenet_s" (Gao et al., "Large-scale
            Unsupervised Semantic Segmentation", TPAMI 2022): a pixel's class is red + 256 green, or its grey value, 0
            is no object, and 1000, which is to be ignored, counts as none. "trimap" (Parkhi et al., "Cats and Dogs",
            CVPR 2012): 1 is the object, 2 the background, and 3 the band along the outline, which counts as object: a
            hole must not leave its fur.
        name: of the mask, for messages.

    Raises:
        InputError: it is no image that can be read whole, its numbers have no known range, or it has 16 bits for each
            colour where "imagenet_s" has 8, or colours where "trimap" has none.
    """
    if code == "trimap":
        with _opened(content, name) as image:
            regions = np.asarray(image)
            if regions.ndim != 2:
                raise InputError("it has colours, where the code trimap has one number for each pixel")
            inside = torch.from_numpy(regions != _TRIMAP_BACKGROUND).unsqueeze(0)
            return _turned(inside, _orientation(image))
    colours = _mask_colours(content, name)
    if code == "binary":
        return colours.bool() if len(colours) == 1 else colours.bool().any(dim=0, keepdim=True)
    if len(colours) == 3 and colours.dtype != torch.uint8:
        raise InputError(_unreadable(name, "it has 16 bits for each colour, where the code imagenet_s has 8"))
    red, green = colours[0].int(), colours[1].int() if len(colours) == 3 else 0
    classes = red + 256 * green
    return ((classes > 0) & (classes != _IMAGENET_S_IGNORE)).unsqueeze(0)


def id_of(path: Path) -> int:
    """The id of an image, in [0, 2^63): a hash of its path below the data set's root."""
    return int.from_bytes(hashlib.blake2b(path.as_posix().encode(), digest_size=8).digest(), "big") >> 1


def check_unique(files: Sequence[ImageFile]) -> None:
    """Raise a `InputError` where two images have the same id."""
    first: dict[int, Path] = {}
    for file in files:
        other = first.setdefault(file.id, file.image)
        if other != file.image:
            raise InputError(f"'{other}' and '{file.image}' have the same id by chance; rename one of them.")


def _as_tensor(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _mask_colours(content: bytes, name: str) -> Tensor:
    """The numbers of a mask file as they are stored, without transparency: (1, H, W) grey or (3, H, W) colours."""
    is_plain = content[_PNG_COLOUR_TYPE] != _PALETTE and not any(each in content for each in _PNG_METADATA)
    if content.startswith(_PNG) and is_plain and _png_pixels(content) <= MOST_PIXELS:  # torchvision ignores a palette
        with suppress(RuntimeError):  # what torchvision cannot read, Pillow may, or say why not
            stored: Tensor = decode_png(_as_tensor(content), ImageReadMode.UNCHANGED)
            return stored[:3] if len(stored) >= 3 else stored[:1]
    with _opened(content, name) as image:
        if image.mode == "F":
            raise InputError(_unknown_range(image))
        if image.mode in ("1", "L"):
            numbers = torch.from_numpy(np.array(image)).unsqueeze(0)
        elif image.mode.startswith("I"):
            numbers = torch.from_numpy(np.asarray(image).astype(np.int32)).unsqueeze(0)
        else:
            numbers = _colours(image)
        return _turned(numbers, _orientation(image))


def _png_pixels(content: bytes) -> int:
    width, height = content[16:20], content[20:24]
    return int.from_bytes(width, "big") * int.from_bytes(height, "big")


def _orientation(image: Image.Image) -> int:
    """Orientation in EXIF, 1 where none can be read; Pillow turns a TIFF when it loads the pixels, and then it is 1."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1


def _turned(pixels: Tensor, orientation: int) -> Tensor:
    """(..., H, W) as they are to be seen by an orientation of EXIF."""
    exchanged = pixels.mT if orientation in _ON_THEIR_SIDE else pixels
    return exchanged.flip(_FLIPPED[orientation]) if orientation in _FLIPPED else exchanged


class _JpegHeader(NamedTuple):
    """What is said ahead of a JPEG's pixels: their number, and whether anything there may be an orientation."""

    pixels: int
    may_be_turned: bool


def _jpeg_header(content: bytes) -> _JpegHeader | None:
    """The header of a JPEG; None where the content is none, or is not understood.

    It takes a tenth of the time that Pillow does to find out; most photographs of data sets have no metadata.
    """
    if not content.startswith(_JPEG):
        return None
    place, pixels, may_be_turned = 2, 0, False
    while (marker := content[place : place + 2]) != _PIXELS:
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        is_segment = b"\xff\xc0" <= marker < b"\xff\xff" and marker[1] not in _WITHOUT_LENGTH
        if not is_segment or length < 2 or len(content) < place + 9:
            return None
        if marker[1] in _FRAMES:
            sides = content[place + 5 : place + 9]
            pixels = max(pixels, int.from_bytes(sides[:2], "big") * int.from_bytes(sides[2:], "big"))
        may_be_turned |= marker == _EXIF_OR_XMP
        place += 2 + length
    return _JpegHeader(pixels, may_be_turned)


def _colours(image: Image.Image) -> Tensor:
    """(3, H, W) uint8, without transparency; Pillow would warn of the transparency of a palette."""
    image.load()
    image.info.pop("transparency", None)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _in_8_bits(image: Image.Image) -> Image.Image:
    """An image of 16-bit integers in 8, any other as it is; a `InputError` where its numbers have no known range."""
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
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """An image whose header has been read; whatever is wrong with it, then or later, is a `InputError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the number of pixels is checked below
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        with opened as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(f"it has {image.width} x {image.height} pixels, and at most {MOST_PIXELS} may be")
            yield image
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(_unreadable(name, error)) from error


def _unreadable(name: str, error: object) -> str:
    reason = "it is of no known format" if isinstance(error, UnidentifiedImageError) else error
    return f"'{name}' cannot be read as an image ({reason}); repair the file, or remove it from the data set."
