"""Draw docs/repair.png of "A repair" in layer-masking.md: information about the outline against accuracy.

python docs/repair_figure.py docs/repair.png
"""

import sys

import matplotlib.pyplot as plt

GARMENTS = {
    "layer masking": [(0.475, 0.049, 0.034, 0.064), (0.611, 0.038, 0.022, 0.054)],
    "weights w": [(0.476, 0.046, 0.029, 0.061), (0.603, 0.031, 0.016, 0.046)],
    "weights w^4": [(0.438, 0.043, 0.027, 0.059), (0.560, 0.034, 0.019, 0.049)],
    "w = 1 alone": [(0.184, 0.003, -0.010, 0.017), (0.203, 0.019, 0.005, 0.035)],
    "box": [(0.475, 0.060, 0.045, 0.072), (0.611, 0.050, 0.034, 0.066)],
    "circle": [(0.475, 0.0, 0.0, 0.0), (0.611, 0.0, 0.0, 0.0)],
    "centred": [(0.469, 0.044, 0.028, 0.060)],
}
"""Accuracy with half of the patches hidden; what the MLP carries, and its interval: of no_masks, then layer_masking."""

LITE0 = {
    "layer masking": (0.249, 0.041, -0.047, 0.135),
    "weights w": (0.240, 0.038, -0.047, 0.129),
    "weights w^4": (0.246, 0.028, -0.046, 0.107),
    "w = 1 alone": (0.017, -0.030, -0.096, 0.029),
    "box": (0.249, -0.002, -0.091, 0.083),
    "circle": (0.249, -0.014, -0.074, 0.044),
}
"""Accuracy with half of the patches hidden; the scene pull in logits, and its interval."""


def main(target: str) -> None:
    """Draw both data sets side by side."""
    figure, (garments, lite0) = plt.subplots(1, 2, figsize=(10, 3.8))
    for number, (name, rows) in enumerate(GARMENTS.items()):
        style = {"color": f"C{number}", "marker": "os^vDP*"[number], "linestyle": "", "capsize": 3}
        for axes, points in ((garments, rows), (lite0, [LITE0[name]] if name in LITE0 else [])):
            x, y, low, high = zip(*points, strict=True) if points else ((), (), (), ())
            ends = [[a - b for a, b in zip(y, low, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
            axes.errorbar(x, y, yerr=ends, label=name, **style)
    for axes in (garments, lite0):
        axes.axhline(0.0, color="grey", linestyle="--")
        axes.set_xlabel("accuracy, half of the patches hidden")
    garments.set(title="garments, two small ResNets", ylabel="carried information (MLP)")
    lite0.set(title="EfficientNet-Lite0, cut-outs", ylabel="scene pull, logits")
    lite0.legend(*garments.get_legend_handles_labels(), fontsize=8, loc="upper left", bbox_to_anchor=(0.2, 1.0))
    figure.tight_layout()
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
