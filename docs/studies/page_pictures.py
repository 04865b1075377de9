"""Draw docs/masks.webp, docs/explanation.webp and docs/logged.webp by the project's own commands, in a few minutes.

    python docs/studies/page_pictures.py docs timm/tf_efficientnet_lite0:lite0.safetensors

The first two are tables of the pages that `masks` and `explain` write (of a photograph of scikit-image, by the given
network), drawn by Chromium. The third is what `fit --config cues.yaml` logs to Weights & Biases, from the files of an
offline run. The workspace of Weights & Biases itself needs its server.
"""

import csv
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from PIL import Image
from playwright.sync_api import sync_playwright
from skimage.data import chelsea

from maskrobust.train.cli import main

FAMILIES, FILLS = "[patches, blobs, slic, silhouettes]", "[black, mean, inpainting, exemplar, layer_masking]"
CURVES = ("val/accuracy", "val/accuracy_half_hidden")


def photograph(page: Path, part: str, out: Path) -> None:
    """Keep what Chromium draws of an element of a page.

    Args:
        page: an HTML file.
        part: selector of the element.
        out: the picture, WebP.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 900, "height": 1000})
        window.goto(page.as_uri())
        window.locator(part).first.screenshot(path=out.with_suffix(".png"))
        browser.close()
    save(Image.open(out.with_suffix(".png")), out)
    out.with_suffix(".png").unlink()


def save(picture: Image.Image, out: Path) -> None:
    """As WebP, in at most 150 kB."""
    picture.convert("RGB").save(out, quality=80, method=6)
    assert out.stat().st_size < 150_000, out


def masks(folder: Path, _: str) -> None:
    """`masks.html`, of one generated image."""
    shown = [f"--families={FAMILIES}", f"--fills={FILLS}", "--images=1"]
    main(["masks", "--config=cues.yaml", *shown, f"--out={folder}"])
    photograph(folder / "masks.html", "table", folder / "masks.webp")


def explanation(folder: Path, network: str) -> None:
    """The rows of `report.html`, of one photograph."""
    (folder / "photographs").mkdir()
    Image.fromarray(chelsea()).crop((75, 0, 375, 300)).save(folder / "photographs" / "cat.png")
    main(["explain", f"--network={network}", f"--images={folder / 'photographs'}", f"--out={folder}"])
    photograph(folder / "report.html", "table", folder / "explanation.webp")


def logged(folder: Path, _: str) -> None:
    """Curves of a run's metrics.csv above the pictures that it logged."""
    os.environ["WANDB_MODE"] = "offline"
    main(["fit", "--config=cues.yaml", "--wandb=true", f"--trainer.default_root_dir={folder}"])
    with (folder / "cues" / "version_0" / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    (media,) = folder.glob("**/files/media/images")
    figure, axes = plt.subplots(3, 1, figsize=(7, 5.4), layout="constrained", height_ratios=(3, 2, 2))
    for name in CURVES:
        points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        axes[0].plot(*zip(*points, strict=True), marker="o", label=name)
    axes[0].set(xlabel="epoch", ylim=(0, 1))
    axes[0].legend(fontsize=8)
    for axis, name in zip(axes[1:], ("train", "reliance"), strict=True):
        axis.imshow(Image.open(sorted((media / name).glob("shown_*.png"))[-1]))
        axis.set_title(f"{name}/shown", fontsize=9)
        axis.axis("off")
    figure.savefig(folder / "logged.png", dpi=120)
    save(Image.open(folder / "logged.png"), folder / "logged.webp")


def draw(arguments: Sequence[str]) -> None:
    """Draw the pictures that the arguments name behind a folder and a network, or all."""
    out, network, *names = arguments
    for part in (masks, explanation, logged):
        if not names or part.__name__ in names:
            with TemporaryDirectory() as folder:
                part(Path(folder), network)
                shutil.copy(Path(folder, part.__name__).with_suffix(".webp"), out)


if __name__ == "__main__":
    draw(sys.argv[1:])
