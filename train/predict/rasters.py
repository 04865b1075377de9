"""Predict a class for each pixel of image files, and write rasters of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from maskrobust.augment import sample_keys
from maskrobust.augment.batch import in_unit_range
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data.files.bands import GDAL_NODATA
from maskrobust.train.data.files.image_files import id_of
from maskrobust.train.data.files.reading import Reading, TilePlanes, reading_for
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.networks import load_for
from maskrobust.train.predict.answers import WHOLE, chosen_methods
from maskrobust.train.predict.command import PredictConfig
from maskrobust.train.predict.pictures import PictureFile, list_pictures
from maskrobust.train.report.results import as_csv
from maskrobust.train.running.processes import find_device, first_of_each_machine_first, gathered, is_first
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import atomic_path, printable, write_text

_GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737)
"""Tags of a GeoTIFF that say where it lies: scale, tie points, transformation, keys, and their numbers and texts."""


def predict_rasters(config: PredictConfig, console: Console) -> None:
    """Write OUT/NAME.tif for each file, and OUT/classes.csv, each process a part of the files.

    A raster has the size of its file, uint8 (uint16 of more than 255 classes), and the largest number of its type,
    which its no-data tag names, at pixels that are not visible. That of a GeoTIFF lies where the file does.

    Raises:
        InputError: an option is given that is about classes of whole images, several methods are, files would have one
            raster, or none can be read.
    """
    defaults = {"top": 5, "features": None, "preprocess": None}
    if given := [name for name, default in defaults.items() if getattr(config, name) != default]:
        raise InputError(f"'{config.network}' classifies pixels, and takes no {given[0]}; leave that out.")
    files = list_pictures(config.images)
    names = {file.path: file.name.with_suffix(".tif") for file in files}
    if len({*names.values()}) < len(names):
        raise InputError("files to predict must differ in more than their ending, or their rasters would not; rename.")
    with first_of_each_machine_first():
        network = load_for(config.network, None, config.precision, of_pixels=True).to(find_device(config.device))
    tiles = TilePlanes(Path(), "visible", {})  # so that a TIFF has the bands that it has
    reading = reading_for([network], Reading(config.visible, tiles=tiles))
    (method, *others) = chosen_methods(network, config.methods, is_whole=not reading.hides)
    if others:
        raise InputError(f"a raster has one class for each pixel, got {1 + len(others)} methods; name one of them.")
    rank, number = rank_and_number()
    errors = list[str]()
    with CountingDisplay(console) as progress:
        for file in progress.track(files[rank::number]):
            try:
                write_raster(config.out / names[file.path], file.path, classes_of(network, method, reading, file))
            except InputError as error:
                errors.append(f"{error}")
    failed = [each for of_one in gathered(errors) for each in of_one]
    if len(failed) == len(files):
        raise InputError(f"none of {len(files)} files could be predicted; the first: {failed[0]}")
    if is_first():
        classes = enumerate(network.class_names or map(str, range(network.num_classes)))
        write_text(config.out / "classes.csv", as_csv(("value", "class"), [*classes]))
        told = [
            f"predicted: {len(files) - len(failed)} of {len(files)} images",
            *failed[:1],
            f"written:   {config.out}",
        ]
        console.print(*map(printable, told), sep="\n", markup=False, highlight=False, soft_wrap=True)


@torch.inference_mode()
def classes_of(
    network: TrainedNetwork, method: MaskingMethod, reading: Reading, file: PictureFile
) -> NDArray[np.unsignedinteger[Any]]:
    """The class of each pixel of a file, (H, W), and the largest number of the type where nothing is visible.

    Raises:
        InputError: the file cannot be read, or the network does not take images of its size.
    """
    image, known = reading.read(file.path, file.name.as_posix())
    images = in_unit_range(image[None].to(next(network.parameters()).device))
    visible = torch.ones_like(images[:, :1], dtype=torch.bool) if known is None else known[None].to(images.device)
    try:
        if images.shape[1] != len(network.preprocessing.mean):
            raise RuntimeError(f"it has {images.shape[1]} bands, and not {len(network.preprocessing.mean)}")
        keys = sample_keys(0, torch.tensor([id_of(file.name)], device=images.device))
        logits = network(images) if method == WHOLE else network.predictor(method)(images, visible, keys)
        if logits.shape[2:] != images.shape[2:]:
            raise RuntimeError(f"logits have the size {tuple(logits.shape[2:])}, and not {tuple(images.shape[2:])}")
    except RuntimeError as error:
        raise InputError(
            f"'{file.path}' cannot go through '{network.name}' ({f'{error}'.strip().splitlines()[0]}); give it images "
            "of its bands, cut to a size that its strides divide."
        ) from error
    kind = np.uint8 if network.num_classes <= np.iinfo(np.uint8).max else np.uint16
    found = logits.argmax(dim=1).masked_fill(~visible[:, 0], np.iinfo(kind).max)
    return found[0].cpu().numpy().astype(kind)


def write_raster(path: Path, source: Path, classes: NDArray[np.unsignedinteger[Any]]) -> None:
    """Write classes (H, W) as a TIFF, with the georeference of the image that they are of, if it is a GeoTIFF."""
    import tifffile  # a tenth of a second

    tags: list[tuple[Any, ...]] = [(GDAL_NODATA, "s", 0, str(np.iinfo(classes.dtype).max), True)]
    if source.suffix.lower() in (".tif", ".tiff"):
        with tifffile.TiffFile(source) as file:
            own = file.pages.first.tags
            tags += [(tag.code, tag.dtype, tag.count, tag.value, True) for tag in map(own.get, _GEOREFERENCE) if tag]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, classes, compression="zlib", photometric="minisblack", extratags=tags)
