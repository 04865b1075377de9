"""What `maskrobust masks` draws, from which data."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from augment.families import FAMILIES, FamilyName, check_hidden_fraction
from lm_modules import MASKING_METHODS, MaskingMethod
from train.arguments import PARSER_OPTIONS, import_data_modules
from train.data import AnnotatedDataModule
from train.data.base import Split, check_at_least

Column = MaskingMethod | Literal["other_image"]
COLUMNS: tuple[Column, ...] = (*MASKING_METHODS, "other_image")


@dataclass(frozen=True)
class GalleryConfig:
    """What to draw.

    Attributes:
        data: where the images come from, instantiated.
        out: folder of masks.html.
        images: number of images, at least 1.
        split: of which split.
        families: mask families, in the order of rows.
        fills: masking methods, and "other_image" for Patch Mixing, in the order of columns.
        hidden_fraction: (low, high) share of the image that is hidden, by the families that can choose it.
        patch_size: side of a patch in pixels, at least 1.
        seed: of the masks and of random fills.
    """

    data: AnnotatedDataModule
    out: Path
    images: int = 3
    split: Split = "val"
    families: tuple[FamilyName, ...] = FAMILIES
    fills: tuple[Column, ...] = COLUMNS
    hidden_fraction: tuple[float, float] = (0.5, 0.5)
    patch_size: int = 16
    seed: int = 0


def parse_config(arguments: Sequence[str]) -> GalleryConfig:
    """Parse and check the arguments of `maskrobust masks`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        ValueError: an argument leaves its domain, or a configuration file has no data.
    """
    import_data_modules()
    parser = ArgumentParser(prog="maskrobust masks", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--config", type=str, help="YAML whose `data` is taken, the rest not; a shipped name or a path")
    parser.add_class_arguments(GalleryConfig, skip={"data"})
    parser.add_subclass_arguments(AnnotatedDataModule, "data", required=True)
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    path = first.parse_known_args(arguments)[0].config
    if path is not None:
        parser.set_defaults({"data": _data_of(path)})
    made = parser.instantiate(parser.parse_args(list(arguments)))
    config = GalleryConfig(**{key: value for key, value in made.items() if key != "config"})
    check_at_least("images", config.images, 1)
    check_at_least("patch_size", config.patch_size, 1)
    check_hidden_fraction(config.hidden_fraction)
    for name in ("families", "fills"):
        if not getattr(config, name):
            raise ValueError(f"{name} must name at least one, got none; leave the option out for all of them.")
    return config


def _data_of(path: str) -> Any:
    reader = ArgumentParser(**PARSER_OPTIONS)
    reader.add_argument("--config", type=dict[str, Any], enable_path=True)
    content: dict[str, Any] = reader.parse_args(["--config", path]).config
    if "data" not in content:
        raise ValueError(f"'{path}' says nothing about data; name a configuration with data, or give --data.")
    return content["data"]
