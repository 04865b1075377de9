"""Read the bands of TIFF files and NumPy arrays, of any number and type, with the numbers that they hold."""

import io
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError

_PARSING = threading.Lock()
"""NumPy parses the header of an array by `ast`, which fails at random in two threads of Python 3.11 (gh-106905)."""
_ARRAY, _TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
GDAL_NODATA, _ORIENTATION = 42113, 274
_ALPHA = (1, 2)
_MOST_BANDS = 13
"""Columns of a page that are rather bands, as many as Sentinel-2 has."""
_IN_COLOUR, _GREY = ("RGB", "PALETTE", "YCBCR", "SEPARATED"), ("MINISBLACK", "MINISWHITE")


class Bands(NamedTuple):
    """An image as it is stored.

    Attributes:
        numbers: (C, H, W); of a header alone a view of one number.
        opacity: which of the bands a file calls alpha; None for none.
        nodata: the value that a GeoTIFF calls none; None where it says nothing.
        orientation: as EXIF counts it.
    """

    numbers: NDArray[Any]
    opacity: int | None = None
    nodata: float | None = None
    orientation: int = 1


def read_bands(content: bytes | Path, name: str, *, header_only: bool = False, any_tiff: bool = False) -> Bands | None:
    """The bands of a NumPy array, or of a TIFF that is no photograph; None for any other file.

    A photograph is grey, of 8 or 16 bits, or has colours of 8 bits. An array (H, W, C) or (C, H, W) has its bands on
    the shorter of the outer axes. Pages of one size are bands, too.

    Args:
        content: bytes of the file, or its path.
        name: what messages call it.
        header_only: leave the numbers on the disk, but for their number and type.
        any_tiff: whether a photograph in a TIFF is read by its bands, too.

    Raises:
        InputError: the file cannot be read, or has other axes.
    """
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as stream:
        magic = stream.read(6)
        stream.seek(0)
        try:
            if magic == _ARRAY:
                with _PARSING:
                    loaded = np.load(stream, allow_pickle=False)
                return Bands(_bands_first(loaded, "array"))
            return _of_tiff(stream, header_only, any_tiff) if magic[:4] in _TIFF else None
        except InputError:
            raise
        except Exception as error:  # a damaged file can make its reader raise anything
            raise InputError(
                f"'{name}' cannot be read by its bands ({' '.join(f'{error}'.split())[:200]}); repair the file, or "
                "remove it from the data set."
            ) from error


def _of_tiff(stream: Any, header_only: bool, any_tiff: bool) -> Bands | None:
    import tifffile  # a tenth of a second

    with tifffile.TiffFile(stream) as file:
        series, page = file.series[0], file.pages.first
        if not any_tiff and _is_photograph(series, page):
            return None
        nodata = nodata_of(page.tags.get(GDAL_NODATA))
        opacity = [place for place, each in enumerate(page.extrasamples) if each in _ALPHA]
        if header_only:
            numbers = _bands_first(np.broadcast_to(np.zeros((), series.dtype), series.shape), series.axes)
        else:
            try:
                numbers = _bands_first(series.asarray(), series.axes)
            except ValueError as error:  # of a compression that tifffile alone does not know
                stream.seek(0)
                numbers = _by_rasterio(stream.read(), error)
        place = len(numbers) - len(page.extrasamples) + opacity[0] if opacity else None
        return Bands(numbers, place, nodata, getattr(page.tags.get(_ORIENTATION), "value", 1))


def nodata_of(tag: Any) -> float | None:
    """The number in GDAL's tag of a TIFF; None without the tag."""
    return None if tag is None else float(str(getattr(tag, "value", tag)).strip("\0 "))


def _is_photograph(series: Any, page: Any) -> bool:
    colours = page.samplesperpixel - len(page.extrasamples)
    is_grey = page.photometric.name in _GREY and colours == 1 and series.dtype in (np.uint8, np.uint16, np.bool_)
    in_colour = page.photometric.name in _IN_COLOUR and series.dtype == np.uint8
    bands = page.samplesperpixel - colours - sum(each in _ALPHA for each in page.extrasamples)
    return (is_grey or in_colour) and bands == 0 and len(series.pages) == 1


def _bands_first(numbers: NDArray[Any], axes: str) -> NDArray[Any]:
    """(C, H, W) of an array whose axes a TIFF names, or of a NumPy array."""
    if numbers.ndim == 2:
        numbers, axes = numbers[None], "CYX"
    outer = (numbers.shape[0], numbers.shape[-1])
    if numbers.ndim != 3 or numbers.dtype.kind not in "buif" or (axes == "array" and outer[0] == outer[1]):
        raise ValueError(f"it has shape {numbers.shape} of {numbers.dtype}, where bands, height and width belong")
    if axes[0] in "QI" and outer[1] <= _MOST_BANDS < outer[0]:  # pages without a meaning of their own
        raise ValueError(
            f"its {outer[0]} pages look like rows of an image (H, W, C), which tifffile writes as one with "
            "planarconfig='contig'"
        )
    last = outer[1] < outer[0] if axes == "array" else not axes.endswith("YX")
    return np.moveaxis(numbers, -1, 0) if last else numbers


def _by_rasterio(content: bytes, error: Exception) -> NDArray[Any]:
    """(C, H, W) as GDAL reads it; `error` says why tifffile cannot."""
    try:
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.io import MemoryFile
    except ImportError:
        raise ValueError(f"{error}, and rasterio, which can, is missing: pip install rasterio") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(content) as memory, memory.open() as dataset:
            numbers: NDArray[Any] = dataset.read()
            return numbers
