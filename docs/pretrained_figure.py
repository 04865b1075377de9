"""Draw docs/pretrained.png from the rows of an evaluation: empty scenes, retention and the leak against its margin.

python docs/pretrained_figure.py runs/pretrained/reliance.json docs/pretrained.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def main(source: str, target: str) -> None:
    """Draw the rows of the only network in `source`."""
    content: dict[str, Any] = json.loads(Path(source).read_text())
    methods = content["methods"]
    figure, (scenes, retention, margins) = plt.subplots(1, 3, figsize=(12, 3.6))
    for number, method in enumerate(methods):
        style = {"color": f"C{number}", "marker": "os^vD*P"[number], "label": method.replace("_", " ")}

        def rows(measure: str, method: str = method) -> list[dict[str, Any]]:
            return [row for row in content["rows"] if row["measure"] == measure and row["method"] == method]

        (told,) = rows("outline_2afc")
        ends = [[told["value"] - told["low"]], [told["high"] - told["value"]]]
        scenes.errorbar([told["value"]], [-number], xerr=ends, capsize=3, **style)
        kept = rows("clean_accuracy") + rows("retention")
        hidden = [row["parameters"].get("hidden_fraction", 0.0) for row in kept]
        retention.plot(hidden, [row["value"] for row in kept], **style)
        leak = rows("margin_leak")
        margins.plot([row["parameters"]["margin"] for row in leak], [row["value"] for row in leak], **style)
    scenes.axvline(0.5, color="grey", linestyle="--")
    scenes.set(xlabel="single-scene 2AFC (chance: .5)", yticks=[], xlim=(0.45, 1.02))
    retention.set(xlabel="fraction of the patches hidden", ylabel="accuracy among 1000 classes")
    margins.set(xlabel="margin around the object, pixels", ylabel="silhouette leak")
    scenes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
