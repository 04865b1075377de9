"""Draw docs/hole.png and docs/hole_inside.png: what a network predicts for a hole, and the features inside the hole.

python docs/studies/hole_picture.py timm/tf_efficientnet_lite0:pretrained docs

The stethoscope is in the public domain (https://en.wikipedia.org/wiki/Image:Stethoscope.jpg), from Debian's package
tuxpaint-stamps-default; the photograph is scikit-image's. View and scene are an example: the network names the object
there. docs/imagenet-networks.md has what holes do on average.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from maskrobust import load_network, sample_keys
from maskrobust.augment import apply_fill, fill_exemplar
from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.methods import is_fill, normalise
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.train.data import Cutouts

OBJECT, LARGE_OBJECT, VIEW, SCENE = "stethoscope", "elephant", 1, 2
METHODS = {"black": "Painted black", "inpainting": "Inpainted", "layer_masking": "Layer masking"}
INK, WRONG, RIGHT = "#767676", "#d1495b", "#2a9d6f"
"""Colours that stand out from a white page and from a black one."""

CELL, CHEQUERS = 3, torch.tensor([[1.0, 1.0, 1.0], [0.8, 0.0, 0.6]])
"""Side of a chequer in pixels, and its two colours: chequers mark what the network does not see."""

RINGS = 100
"""Enough to fill every hole."""


def example(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The photograph (1, 3, H, W) in [0, 1], the object in it, and which pixels the object leaves (1, 1, H, W)."""
    data = Cutouts()
    data.setup("test")
    samples = data.samples("test")
    wanted = f"{name}.png, view {VIEW}"
    row = next(row for row, sample in enumerate(samples.ids) if data.sample_name("test", int(sample)).endswith(wanted))
    images, kinds = data.empty_scenes("test", 3 * (SCENE + 1))
    scene = images[[number for number, kind in enumerate(kinds) if kind == "photographs"][SCENE]][None]
    object_mask = samples.object_mask[row : row + 1]
    return scene, torch.where(object_mask, samples.images[row : row + 1] / 255, scene), ~object_mask


def show(axis: Axes, picture: Tensor, title: str) -> None:
    """Draw a picture (1, 3, H, W) under its title."""
    axis.imshow(picture[0].permute(1, 2, 0).clamp(0, 1))
    axis.set_title(title, color=INK)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def chequered(picture: Tensor, visible: Tensor) -> Tensor:
    """The picture (1, 3, H, W) with chequers in place of hidden pixels."""
    row, column = (torch.arange(size) // CELL for size in picture.shape[-2:])
    cells = CHEQUERS[(row[:, None] + column) % 2].permute(2, 0, 1)[None]
    return picture.where(visible, cells)


def draw_answers(network: TrainedNetwork, path: Path) -> None:
    """The object and its hole under three methods, each with the object's probability and the class predicted."""
    scene, composite, visible = example(OBJECT)
    keys = sample_keys(0, torch.zeros(1, dtype=torch.int64))
    shown = [("With the object", composite, network(composite))]
    for method, title in METHODS.items():
        filled = chequered(scene, visible)
        if is_fill(method):
            filled = apply_fill(method, scene, visible, keys=keys, mean=network.preprocessing.mean)
        shown.append((title, filled, network.predictor(method)(scene, visible, keys)))
    names = [name.split(",")[0] for name in network.class_names or ()]
    figure, axes = plt.subplots(1, len(shown), figsize=(12, 4.2))
    for axis, (title, picture, logits) in zip(axes, shown, strict=True):
        probabilities = logits.softmax(dim=1)[0]
        predicted = names[int(probabilities.argmax())]
        show(axis, picture, title)
        colour = RIGHT if picture is composite else WRONG if predicted == OBJECT else INK
        likely = f"{OBJECT} {100 * probabilities[names.index(OBJECT)]:.0f} %"
        axis.set_xlabel(likely, color=colour, fontweight="bold")
        below = {"transform": axis.transAxes, "color": INK, "fontsize": 12, "ha": "center", "va": "top"}
        axis.text(0.5, -0.13, f"predicted: {predicted}", **below)
    figure.savefig(path, dpi=100, transparent=True, bbox_inches="tight", pad_inches=0.05)


def draw_inside(network: TrainedNetwork, path: Path) -> None:
    """The hole filled by both paddings and the exemplar; below, the first layer's features, padded in the same way."""
    scene, _, visible = example(LARGE_OBJECT)

    def pad(features: Tensor, seen: Tensor) -> dict[str, Tensor]:
        rings = functional.neighbour_rings(seen, RINGS)
        return {
            "Mean": functional.neighbour_padding(features, seen, rings),
            "Mirrored": functional.mirrored_padding(features, seen, functional.mirrored_places(seen, RINGS)),
        }

    looks = network.preprocessing
    stem = nn.Sequential(*(network.network.get_submodule(name) for name in ("conv_stem", "bn1")))

    def first_layer(images: Tensor) -> Tensor:
        features: Tensor = stem(normalise(images, looks.mean, looks.std))
        return features

    filled = fill_exemplar(scene, visible, looks.mean)
    pixels = {"The hole": functional.hide(scene, visible), **pad(scene, visible), "Exemplar": filled}
    whole, seen = first_layer(scene), functional.propagate_visible(visible, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    features = {"The hole": whole, **pad(whole, seen), "Exemplar": first_layer(filled)}
    axes_of_features = torch.linalg.eigh(torch.cov(whole[0].flatten(1))).eigenvectors[:, -3:]
    spread = (whole[0].flatten(1).T @ axes_of_features).std()
    figure, axes = plt.subplots(2, len(pixels), figsize=(12, 6.2))
    for (above, below), (title, picture) in zip(axes.T, pixels.items(), strict=True):
        show(above, picture, title)
        colours = torch.einsum("bchw,cd->bdhw", features[title], axes_of_features)
        shown = 0.5 + colours / (6 * spread)
        show(below, functional.hide(shown, seen) if title == "The hole" else shown, "")
    for axis, name in zip(axes[:, 0], ("Pixels", "First layer"), strict=True):
        axis.set_ylabel(name, color=INK)
    figure.savefig(path, dpi=100, transparent=True, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    plt.rcParams["font.size"] = 15
    named, folder = load_network(sys.argv[1]), Path(sys.argv[2])
    with torch.inference_mode():
        draw_answers(named, folder / "hole.png")
        draw_inside(named, folder / "hole_inside.png")
