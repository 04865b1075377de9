"""`maskrobust masks`: a page of mask families and fills on one's own images, to see what a network will be shown."""

import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from maskrobust.train.masks.config import parse_config
from maskrobust.train.running.progress import CountingDisplay
from maskrobust.train.storage.files import check_folder, write_text


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust masks` with command-line arguments, the command first."""
    config = parse_config(arguments[1:])  # before the rest is imported, which takes seconds
    from maskrobust.train.masks.drawing import draw_gallery
    from maskrobust.train.report.pictures.masks import render_gallery

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
