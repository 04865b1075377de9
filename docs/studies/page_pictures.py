"""Draw docs/masks.webp, docs/explanation.webp and docs/logged.webp by the project's own commands.

    python docs/studies/page_pictures.py docs             # or some of them: masks explanation logged

The first is the table of the page that `masks` writes, drawn by Chromium; the second a picture of the notebook
explain_a_picture (`python -m tests.pages.notebooks FILE` runs it); the third what `fit --config cues.yaml` logs to
Weights & Biases, from the files of an offline run, in some minutes. The workspace itself needs the server.
"""

import base64
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
from PIL import Image
from playwright.sync_api import sync_playwright

from maskrobust.train.cli import main

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "explain_a_picture.ipynb"
FAMILIES, FILLS = "[patches, blobs, slic, silhouettes]", "[black, mean, inpainting, exemplar, layer_masking]"
CURVES = ("val/accuracy", "val/accuracy_half_hidden")


def save(picture: Image.Image, out: Path) -> None:
    """As WebP, in at most 150 kB."""
    picture.convert("RGB").save(out, quality=80, method=6)
    assert out.stat().st_size < 150_000, out


def masks(folder: Path) -> None:
    """The table of `masks.html`, of one generated image."""
    shown = [f"--families={FAMILIES}", f"--fills={FILLS}", "--images=1"]
    main(["masks", "--config=cues.yaml", *shown, f"--out={folder}"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 900, "height": 1000})
        window.goto((folder / "masks.html").as_uri())
        drawn = window.locator("table").first.screenshot()
        browser.close()
    save(Image.open(io.BytesIO(drawn)), folder / "masks.webp")


def explanation(folder: Path) -> None:
    """The first picture of the notebook."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = (output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output)
    drawn = next(data["image/png"] for data in outputs if "image/png" in data)
    save(Image.open(io.BytesIO(base64.b64decode(drawn))), folder / "explanation.webp")


def logged(folder: Path) -> None:
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
    """Draw the pictures that the arguments name behind a folder, or all."""
    out, *names = arguments
    for part in (masks, explanation, logged):
        if not names or part.__name__ in names:
            with TemporaryDirectory() as folder:
                part(Path(folder))
                shutil.copy(Path(folder, part.__name__).with_suffix(".webp"), out)


if __name__ == "__main__":
    draw(sys.argv[1:])
