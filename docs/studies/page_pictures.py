"""Draw docs/masks.webp, docs/explanation.webp and docs/logged.webp by the project's own commands, in a few minutes.

    python docs/studies/page_pictures.py docs timm/tf_efficientnet_lite0:lite0.safetensors

The first two are parts of the pages that `masks` and `explain` write (of a photograph of scikit-image, by the given
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
CURVES = {
    "val/accuracy": "val/accuracy",
    "val/accuracy_half_hidden": "val/accuracy_half_hidden",
    "reliance/black/silhouette_accuracy": "behind outlines, black",
}


def photograph(page: Path, part: str, out: Path, width: int) -> None:
    """Keep what Chromium draws of an element of a page.

    Args:
        page: an HTML file.
        part: selector of the element.
        out: the picture, WebP.
        width: of the window, in pixels.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": width, "height": 1000})
        window.goto(page.as_uri())
        window.locator(part).first.screenshot(path=out.with_suffix(".png"))
        browser.close()
    save(Image.open(out.with_suffix(".png")), out)
    out.with_suffix(".png").unlink()


def save(picture: Image.Image, out: Path) -> None:
    """As WebP, in at most 150 kB."""
    picture.convert("RGB").save(out, quality=80, method=6)
    assert out.stat().st_size < 150_000, out


def logged(run: Path, media: Path) -> Image.Image:
    """Curves of a run's metrics.csv above the pictures that it logged."""
    with (run / "metrics.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    figure, axes = plt.subplots(3, 1, figsize=(7, 5.4), layout="constrained", height_ratios=(3, 2, 2))
    for name, label in CURVES.items():
        points = [(int(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        axes[0].plot(*zip(*points, strict=True), marker="o", label=label)
    axes[0].set(xlabel="epoch", ylim=(0, 1))
    axes[0].legend(fontsize=8)
    for axis, name in zip(axes[1:], ("train", "reliance"), strict=True):
        shown = sorted((media / name).glob("shown_*.png"))[-1]
        axis.imshow(Image.open(shown))
        axis.set_title(f"{name}/shown", fontsize=9)
        axis.axis("off")
    figure.savefig(media / "logged.png", dpi=120)
    return Image.open(media / "logged.png")


def draw(arguments: Sequence[str]) -> None:
    """Draw all pictures into the folder that the first argument names, the second with the network of the second."""
    out, network = Path(arguments[0]).resolve(), arguments[1]
    os.environ["WANDB_MODE"] = "offline"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "photographs").mkdir()
        Image.fromarray(chelsea()).crop((75, 0, 375, 300)).save(folder / "photographs" / "cat.png")
        shown = [f"--families={FAMILIES}", f"--fills={FILLS}", "--images=1"]
        main(["masks", "--config=cues.yaml", *shown, f"--out={folder}"])
        photograph(folder / "masks.html", "table", out / "masks.webp", 900)
        main(["explain", f"--network={network}", f"--images={folder / 'photographs'}", f"--out={folder / 'explained'}"])
        photograph(folder / "explained" / "report.html", "table", out / "explanation.webp", 900)
        main(["fit", "--config=cues.yaml", "--wandb=true", f"--trainer.default_root_dir={folder}"])
        (media,) = folder.glob("**/files/media/images")
        save(logged(folder / "cues" / "version_0", media), out / "logged.webp")


if __name__ == "__main__":
    draw(sys.argv[1:])
