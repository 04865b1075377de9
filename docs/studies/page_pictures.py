"""Draw docs/masks.webp, docs/gaps.webp, docs/explanation.webp and docs/logged.webp by the project's own commands.

    python docs/studies/page_pictures.py docs             # or some of them: masks gaps explanation logged

The first is the table of the page that `masks` writes, drawn by Chromium, the second that of the tiles on the page that
`./scripts/demo` has written before; the next a picture of the notebook
explain_a_picture (`python -m tests.pages.notebooks FILE` runs it); the last the picture that `RelianceCallback` gives
to Weights & Biases, whose workspace itself needs the server.
"""

import base64
import io
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright
from torchvision.transforms.v2.functional import to_pil_image

from maskrobust import Batch
from maskrobust.lm_modules.callbacks.reliance import draw_panel
from maskrobust.train.cli import main
from maskrobust.train.data import Cues

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "explain_a_picture.ipynb"
FAMILIES, FILLS = "[patches, blobs, slic, silhouettes]", "[black, mean, inpainting, exemplar, layer_masking]"


def save(picture: Image.Image, out: Path) -> None:
    """As WebP, in at most 150 kB."""
    picture.convert("RGB").save(out, quality=80, method=6)
    assert out.stat().st_size < 150_000, out


def masks(folder: Path) -> None:
    """The table of `masks.html`, of one generated image."""
    shown = [f"--families={FAMILIES}", f"--fills={FILLS}", "--images=1"]
    main(["masks", "--config=cues.yaml", *shown, f"--out={folder}"])
    screenshot(folder / "masks.html", "table", folder / "masks.webp")


def gaps(folder: Path) -> None:
    """The tiles of the demo with their gaps exchanged, and what its networks answer."""
    screenshot(ROOT / "runs" / "demo" / "report.html", "#exchanged", folder / "gaps.webp")


def screenshot(page: Path, part: str, out: Path) -> None:
    """The first of some parts of a page, by a CSS selector, as Chromium draws it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 900, "height": 1000})
        window.goto(page.as_uri())
        drawn = window.locator(part).first.screenshot()
        browser.close()
    save(Image.open(io.BytesIO(drawn)), out)


def explanation(folder: Path) -> None:
    """The first picture of the notebook."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    outputs = (output["data"] for cell in cells for output in cell.get("outputs", ()) if "data" in output)
    drawn = next(data["image/png"] for data in outputs if "image/png" in data)
    save(Image.open(io.BytesIO(base64.b64decode(drawn))), folder / "explanation.webp")


def logged(folder: Path) -> None:
    """`reliance/shown` of generated images, in two and a half times their size."""
    data = Cues(val_images=3)
    batch = Batch.cat(list(data.val_dataloader())).to("cpu")
    drawn = to_pil_image(draw_panel(batch, ("black", "mean", "layer_masking"), data.mean, seed=0))
    size = [5 * each // 2 for each in drawn.size]
    save(drawn.resize((size[0], size[1]), Image.Resampling.NEAREST), folder / "logged.webp")


def draw(arguments: Sequence[str]) -> None:
    """Draw the pictures that the arguments name behind a folder, or all."""
    out, *names = arguments
    for part in (masks, gaps, explanation, logged):
        if not names or part.__name__ in names:
            with TemporaryDirectory() as folder:
                part(Path(folder))
                shutil.copy(Path(folder, part.__name__).with_suffix(".webp"), out)


if __name__ == "__main__":
    draw(sys.argv[1:])
