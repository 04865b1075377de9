"""Draw docs/hole.png, docs/hole_inside.png and docs/hidden.webp.

python docs/studies/hole_picture.py docs timm/tf_efficientnet_lite0:pretrained timm/tf_efficientnet_lite1:pretrained

The first shows what the first network predicts for a hole, the second the features inside a hole, and the third what
all networks predict with a quarter of the patches hidden, under each masking method. docs/research-networks.md has the
averages.

Objects come from Debian's package tuxpaint-stamps-default, photographs around them from scikit-image. View and scene of
hole.png are an example in which the network names the object. The four objects of hidden.webp are not chosen by what
networks say of them: they are those of the study whose photographs are in the public domain, or of an agency of the
United States, by the package's changelog, each in its first view, with the study's mask.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from cutouts import Cutouts
from matplotlib.axes import Axes
from torch import Tensor, nn

from maskrobust import load_network, sample_keys
from maskrobust.augment import apply_fill, fill_exemplar, patches
from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.methods import is_fill, normalise
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

sys.path.append(str(Path(__file__).parent))
from holes_study import LITE, PATCH, SIDE, VIEWS

OBJECT, LARGE_OBJECT, SCENE = "stethoscope", "elephant", 2
PUBLIC_DOMAIN = ("stethoscope", "lobster", "f22_raptor", "syringe")
METHODS = {"black": "Painted black", "inpainting": "Inpainted", "layer_masking": "Layer masking"}
COLUMNS = {"black": "Black", "mean": "Mean colour", "inpainting": "Inpainting", "layer_masking": "Layer masking"}
INK, WRONG, RIGHT = "#767676", "#d1495b", "#2a9d6f"
"""Colours that stand out from a white page and from a black one."""

CELL, CHEQUERS = 3, torch.tensor([[1.0, 1.0, 1.0], [0.8, 0.0, 0.6]])
"""Side of a chequer in pixels, and its two colours: chequers mark what the network does not see."""

RINGS = 100
"""Enough to fill every hole."""


def first_view(data: Cutouts, name: str) -> tuple[Tensor, Tensor, int, Tensor]:
    """Of the object `name`: picture (1, 3, H, W) in [0, 1], its mask (1, 1, H, W), the label and the id (1,)."""
    data.setup("test")
    samples = data.samples("test")
    names = [data.sample_name("test", int(sample)) for sample in samples.ids]
    row = next(row for row, found in enumerate(names) if found.endswith(f"{name}.png, view 1"))
    one = slice(row, row + 1)
    return samples.images[one] / 255, samples.object_mask[one], int(samples.labels[row]), samples.ids[one]


def example(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The photograph (1, 3, H, W) in [0, 1], the object in it, and which pixels the object leaves (1, 1, H, W)."""
    data = Cutouts()
    picture, object_mask, _, _ = first_view(data, name)
    images, kinds = data.empty_scenes("test", 3 * (SCENE + 1))
    scene = images[[number for number, kind in enumerate(kinds) if kind == "photographs"][SCENE]][None]
    return scene, torch.where(object_mask, picture, scene), ~object_mask


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


def draw_table(networks: Sequence[TrainedNetwork], path: Path) -> None:
    """A row for each object, a column for each method; below each picture the class that each network predicts."""
    figure, axes = plt.subplots(len(PUBLIC_DOMAIN), 1 + len(COLUMNS), figsize=(9.4, 10))
    figure.subplots_adjust(left=0.06, right=0.99, wspace=0.04, hspace=0.32)
    for line, name in zip(axes, PUBLIC_DOMAIN, strict=True):
        data = Cutouts(training_objects="others", views=VIEWS, image_size=SIDE)  # as in holes_study.py, like the mask
        picture, _, label, keys = first_view(data, name)
        keys = sample_keys(0, keys)
        visible = patches(keys, SIDE, SIDE, hidden_fraction=(0.25, 0.25), patch_size=PATCH)
        for axis, (method, title) in zip(line, {"": "Nothing hidden", **COLUMNS}.items(), strict=True):
            looks = networks[0].preprocessing
            filled = chequered(picture, visible) if method else picture
            if method and is_fill(method):
                filled = apply_fill(method, picture, visible, keys=keys, mean=looks.mean)
            show(axis, filled, title if name == PUBLIC_DOMAIN[0] else "")
            axis.title.set_fontsize(13)
            for number, network in enumerate(networks):
                place = {"y": -0.03 - 0.13 * number, "transform": axis.transAxes, "fontsize": 10, "va": "top"}
                if not method:
                    short = network.name.partition(":")[0].rpartition("_")[2].capitalize()
                    axis.text(x=-0.03, s=short, color=INK, ha="right", **place)
                logits = network.predictor(method)(picture, visible, keys) if method else network(picture)
                probability, predicted = logits.softmax(dim=1)[0].max(dim=0)
                answer = (network.class_names or ())[int(predicted)].split(",")[0]
                colour = RIGHT if int(predicted) == label else WRONG
                axis.text(x=0.5, s=f"{answer} {100 * probability:.0f} %", color=colour, ha="center", **place)
    form = {"dpi": 90, "transparent": True, "bbox_inches": "tight", "pad_inches": 0.05}
    figure.savefig(path, pil_kwargs={"quality": 75}, **form)


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
    folder, first = Path(sys.argv[1]), load_network(sys.argv[2])
    with torch.inference_mode():
        draw_answers(first, folder / "hole.png")
        draw_inside(first, folder / "hole_inside.png")
        draw_table([load_network(name, LITE) for name in sys.argv[2:]], folder / "hidden.webp")
