"""`maskrobust masks`: a page that shows mask families and fills on a user's own images."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from maskrobust.augment import FAMILIES, FILLS, OTHER_IMAGE, read_families
from maskrobust.augment.families.mask_family import check_hidden_fraction
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.methods import LAYER_MASKING, check_methods
from maskrobust.train.command_line import PARSER_OPTIONS, Parser, parse_with_data
from maskrobust.train.data_options import AnnotatedDataModule, Split
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder, write_text


@dataclass(frozen=True)
class GalleryConfig:
    """What to draw.

    Attributes:
        data: where the images come from, instantiated.
        out: folder of masks.html, which is replaced where an earlier call has written it.
        images: number of images, at least 1.
        split: which split to use.
        families: mask families, in the order of rows. Options of one are given as in {rectangles: {count: 3}}.
        fills: masking methods, and "other_image" for Patch Mixing, in the order of columns.
        hidden_fraction: (low, high) fraction of the image that is hidden, for families that can choose it.
        patch_size: side of a patch in pixels, at least 1.
        seed: seed of the masks and of random fills.
    """

    data: AnnotatedDataModule
    out: Path
    images: int = 3
    split: Split = "val"
    families: tuple[str | dict[str, float | dict[str, Any]], ...] = tuple(FAMILIES)
    fills: tuple[str, ...] = (*FILLS, LAYER_MASKING, OTHER_IMAGE)
    hidden_fraction: tuple[float, float] = (0.5, 0.5)
    patch_size: int = 16
    seed: int = 0


def parse_config(arguments: Sequence[str]) -> GalleryConfig:
    """Parse and check the arguments of `maskrobust masks`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, or no data are named.
    """
    parser = Parser(prog="maskrobust masks", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(GalleryConfig, skip={"data"})
    given, _ = parse_with_data(parser, arguments)
    config = GalleryConfig(**given)
    check_at_least("images", config.images, 1)
    check_at_least("patch_size", config.patch_size, 1)
    check_hidden_fraction(config.hidden_fraction)
    for name in ("families", "fills"):
        if not getattr(config, name):
            raise InputError(f"{name} must name at least one, got none; leave the option out for all of them.")
    for family in config.families:
        read_families(family, "families")
    check_methods([name for name in config.fills if name != OTHER_IMAGE], "fills")
    return config


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust masks` with command-line arguments, the command first."""
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.masks.gallery import draw_gallery, render_gallery

    check_folder(config.out)
    console = Console()
    with CountingDisplay(console) as progress:
        gallery = draw_gallery(config, progress)
    path = config.out / "masks.html"
    write_text(path, render_gallery(gallery, shlex.join(sys.argv)))
    if len(gallery.images) < config.images:
        reason = "the split holds no more, or no more with an object"
        console.print(f"shown: {len(gallery.images)} of {config.images} images: {reason}", markup=False, soft_wrap=True)
    for reason in dict.fromkeys(gallery.left_out.values()):
        names = ", ".join(name for name, its_reason in gallery.left_out.items() if its_reason == reason)
        console.print(f"left out: {names}: {reason}", markup=False, soft_wrap=True)
    console.print(f"masks: {path}", markup=False, soft_wrap=True)
