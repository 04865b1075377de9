"""The scripts of docs/gallery; `python -m tests.pages.gallery` draws their pictures anew."""

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

PICTURES = Path(__file__).parents[2] / "docs" / "gallery"
SCRIPTS = [PICTURES / f"{name}.py" for name in ("hide", "train", "evaluate")]  # the last reads what the second writes


def draw(folder: Path, sizes: dict[str, int]) -> list[Path]:
    """Run the scripts in order.

    Args:
        folder: the current folder of the scripts.
        sizes: values for names that the scripts set, such as `max_epochs`.

    Returns:
        The pictures that they have drawn.
    """
    plt.switch_backend("agg")
    with contextlib.chdir(folder):
        for script in SCRIPTS:
            text = re.sub(
                r"\b(\w+)=\d+",
                lambda given: f"{given[1]}={sizes[given[1]]}" if given[1] in sizes else given[0],
                script.read_text(encoding="utf-8"),
            )
            exec(compile(text, script.name, "exec"), {"__name__": "__main__"})
            plt.close("all")
    return sorted(folder.glob("*.png"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for picture in draw(Path(temporary), {}):
            shutil.copy(picture, PICTURES)
