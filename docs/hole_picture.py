"""Draw docs/hole.png: what a network takes a hole for, in a picture that shows no object.

python docs/hole_picture.py timm/tf_efficientnet_lite0:pretrained docs/hole.png

The stethoscope is in the public domain (https://en.wikipedia.org/wiki/Image:Stethoscope.jpg), from Debian's package
tuxpaint-stamps-default; the photograph is scikit-image's. View and scene are an example: the network names the object
there. docs/results-pretrained.md has what it does on average.
"""

import sys

import matplotlib.pyplot as plt
import torch

from maskrobust import load_network, sample_keys
from maskrobust.lm_modules.methods import illustrate
from maskrobust.train.data import Cutouts

OBJECT, VIEW, SCENE = "stethoscope", 1, 2
METHODS = ("black", "mean", "inpainting", "layer_masking")


def main(name: str, path: str) -> None:
    """Draw the picture for a network named as for `load_network`."""
    network = load_network(name)
    assert network.class_names is not None
    data = Cutouts()
    data.setup("test")
    samples = data.samples("test")
    wanted = f"{OBJECT}.png, view {VIEW}"
    row = next(row for row, sample in enumerate(samples.ids) if data.sample_name("test", int(sample)).endswith(wanted))
    images, kinds = data.empty_scenes("test", 3 * (SCENE + 1))
    photographs = [number for number, kind in enumerate(kinds) if kind == "photographs"]
    scene, object_mask = images[photographs[SCENE:]], samples.object_mask[row : row + 1]
    keys = sample_keys(0, torch.zeros(1, dtype=torch.int64))
    shown = [("the photograph", scene, network(scene))]
    composite = torch.where(object_mask, samples.images[row : row + 1] / 255, scene)
    shown.append(("with an object", composite, network(composite)))
    for method in METHODS:
        filled = illustrate(method, scene, ~object_mask, keys, network.preprocessing.mean)
        logits = network.predictor(method)(scene, ~object_mask, keys)
        shown.append((f"its hole: {method.replace('_', ' ')}", filled, logits))
    figure, axes = plt.subplots(1, len(shown), figsize=(2.1 * len(shown), 2.75))
    for axis, (title, picture, logits) in zip(axes, shown, strict=True):
        likely, answer = logits.softmax(dim=1)[0].max(dim=0)
        axis.imshow(picture[0].permute(1, 2, 0).clamp(0, 1))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(f"“{network.class_names[int(answer)].split(',')[0]}”\n{likely:.2f}", fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    with torch.inference_mode():
        main(*sys.argv[1:])
