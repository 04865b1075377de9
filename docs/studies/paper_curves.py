"""The paper's curves, for docs/research-networks.md: what is left of the answers while more and more is hidden.

    python docs/studies/paper_curves.py OUT timm/tf_efficientnet_lite0:lite0.safetensors \
        timm/tf_efficientnet_lite1:lite1.safetensors

asks, part by part, keeps each answer in OUT, and writes OUT/curves.md and OUT/paper_curves.webp. What is there is not
asked again. Needs Debian's tuxpaint-stamps-default and wordnet-base.

The plan, written before a network was run on these holes. (Lite0 had been run on other random patches of the same
pictures, a quarter, half and three quarters of them.) The first plan had five fractions, inpainting in every order, and
18 tests; it was cut before any answer with hidden pixels, because the machine was shared.

- One picture of each of the 111 objects that have a class of ImageNet. Patches of 16 x 16 pixels, or SLIC's superpixels
  (about 100, as in the paper), are hidden at random, most salient first, or least salient first. Saliency is the
  fraction of a segment that lies on the annotated object; the paper's code takes the number of its pixels, which is the
  same for patches and puts large superpixels first. A fifth, .4, .6 and .8 of the pixels are hidden, which are four of
  the paper's eleven points. All ways of hiding and both networks are shown the same holes (seed 0). Inpainting is asked
  at random alone. `PARTS` has the order; what is not asked by the end is left out of the tables.
- Accuracy; the entropy of the histogram of answers, in nats as in the paper; the WordNet similarity of answer and
  class, which is Wu and Palmer's in the paper (with that its stored similarities with everything hidden, where all
  answers are one class, come out to .0001). Intervals are Student's over objects. That of an entropy is over the terms
  -ln(how frequent this picture's answer is).
- Tests, two-sided, Holm's correction over six within each network: the mean of the accuracy over the four fractions,
  at random, patches and superpixels, layer masking minus black, mean colour and inpainting. A difference is shown where
  both networks have it with a corrected p below 0.05. Everything else is a description.
"""

import argparse
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from cutouts import Cutouts
from holes_study import BATCH, SIDE, Array, Found, answers, holm, over_objects, read_network
from numpy.typing import NDArray

from maskrobust import sample_keys
from maskrobust.augment import Batch
from maskrobust.lm_modules.networks.class_matching import imagenet_names
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.holes.curves import CurveFamily, CurveOrder, curve_holes
from maskrobust.train.cli import keep_freed_memory

FRACTIONS = (0.2, 0.4, 0.6, 0.8)
FAMILIES: Mapping[CurveFamily, str] = {"patches": "patches", "slic": "superpixels"}
ORDERS: Mapping[CurveOrder, str] = {
    "random": "at random", "most_salient": "most salient first", "least_salient": "least salient first",
}  # fmt: skip
METHODS = {"layer_masking": "layer masking", "mean": "mean colour", "black": "black", "inpainting": "inpainting"}
COLOURS = {"layer_masking": "#2a9d6f", "mean": "#767676", "black": "#d1495b", "inpainting": "#3a7cc3"}
LINES = {"patches": "-", "slic": "--"}
Curve = tuple[CurveFamily, CurveOrder]

_FILLED: Sequence[str] = ("layer_masking", "mean", "black")
PARTS: Sequence[tuple[str, Curve]] = [
    *((method, (family, "random")) for method, family in product(METHODS, FAMILIES)),
    *((method, (family, order)) for family, order in product(FAMILIES, list(ORDERS)[1:]) for method in _FILLED),
]
"""What is asked, in this order."""

PAPER_FRACTIONS = np.arange(11) / 10
PAPER = {
    "accuracy": {
        "mean": (0.919, 0.808, 0.542, 0.273, 0.104, 0.038, 0.011, 0.006, 0.002, 0.001, 0.001),
        "layer_masking": (0.919, 0.911, 0.887, 0.854, 0.802, 0.729, 0.597, 0.433, 0.227, 0.073, 0.000),
    },
    "entropy": {
        "mean": (6.477, 6.420, 5.949, 4.730, 3.354, 2.431, 1.873, 1.643, 1.582, 1.753, 0.000),
        "layer_masking": (6.477, 6.479, 6.481, 6.472, 6.447, 6.418, 6.364, 6.162, 5.696, 5.064, 0.000),
    },
    "similarity": {
        "mean": (0.958, 0.917, 0.789, 0.642, 0.544, 0.499, 0.486, 0.486, 0.488, 0.492, 0.410),
        "layer_masking": (0.958, 0.956, 0.950, 0.940, 0.924, 0.897, 0.845, 0.764, 0.648, 0.523, 0.457),
    },
}
"""The paper's torchvision ResNet-50, random patches, 1,408 pictures of ImageNet's training set.

Computed from results/*.npy of the authors' repository, github.com/SriramB-98/layer_masking, commit a2610a5.
"""

PAPER_READ = {
    "accuracy": {
        ("black", "patches"): (0.27, 0.04, 0.01, 0.00),
        ("black", "slic"): (0.65, 0.35, 0.13, 0.05),
        ("mean", "slic"): (0.79, 0.52, 0.22, 0.06),
        ("layer_masking", "slic"): (0.88, 0.76, 0.50, 0.17),
    },
    "entropy": {
        ("black", "patches"): (4.08, 1.76, 1.22, 1.25),
        ("black", "slic"): (6.30, 5.51, 4.57, 4.04),
        ("mean", "slic"): (6.48, 6.11, 5.08, 4.18),
        ("layer_masking", "slic"): (6.53, 6.48, 6.31, 5.45),
    },
    "similarity": {
        ("black", "patches"): (0.61, 0.49, 0.48, 0.48),
        ("black", "slic"): (0.85, 0.68, 0.56, 0.49),
        ("mean", "slic"): (0.91, 0.80, 0.64, 0.55),
        ("layer_masking", "slic"): (0.95, 0.91, 0.79, 0.59),
    },
}
"""The same network in another run, at `FRACTIONS`, read off the figures in "Generate plots and tables.ipynb"."""


class WordNet:
    """How alike two nouns are.

    Args:
        folder: holds WordNet 3.0's data.noun, as Debian's wordnet-base does.
    """

    def __init__(self, folder: Path) -> None:
        self._parents, self._words = dict[str, list[str]](), dict[str, str]()
        with (folder / "data.noun").open(encoding="utf-8") as lines:
            for fields in (line.split() for line in lines if not line.startswith(" ")):
                start = 4 + 2 * int(fields[3], 16)  # a word has two fields, a pointer four; see wndb(5WN)
                pointers = fields[start + 1 : start + 1 + 4 * int(fields[start])]
                above = zip(pointers[::4], pointers[1::4], strict=True)
                self._parents[f"n{fields[0]}"] = [f"n{offset}" for symbol, offset in above if symbol in ("@", "@i")]
                self._words[f"n{fields[0]}"] = fields[4].lower()
        self.similarity = cache(self._similarity)
        self._depth, self._climb = cache(self._find_depth), cache(self._find_climb)

    def _find_depth(self, node: str, which: Callable[..., int]) -> int:
        """Steps up to the root by the shortest (min) or longest (max) way."""
        return which((1 + self._depth(parent, which) for parent in self._parents[node]), default=0)

    def _find_climb(self, node: str) -> dict[str, int]:
        """The fewest steps up to each node above, and to the node itself."""
        found = {node: 0}
        for parent in self._parents[node]:
            for above, steps in self._climb(parent).items():
                found[above] = min(found.get(above, steps + 1), steps + 1)
        return found

    def _distance(self, one: str, other: str) -> int:
        """The fewest steps up from both to one node."""
        climbs = self._climb(one), self._climb(other)
        return min(climbs[0][node] + climbs[1][node] for node in climbs[0].keys() & climbs[1].keys())

    def _similarity(self, one: str, other: str) -> float:
        """Wu and Palmer's similarity ("Verb semantics and lexical selection", ACL 1994) as NLTK 3 computes it.

        2 d / (2 d + steps to both), d the number of nodes from the deepest common ancestor to the root. NLTK takes the
        ancestor by its shortest way up, but d by its longest, so that a node may be less than 1 like itself.
        """
        common = self._climb(one).keys() & self._climb(other).keys()
        deepest = max(self._depth(node, min) for node in common)
        lowest = {node for node in common if self._depth(node, min) == deepest}
        ancestor = one if one in lowest else min(lowest, key=self._words.__getitem__)
        depth = 1 + self._depth(ancestor, max)
        return 2 * depth / (2 * depth + self._distance(one, ancestor) + self._distance(other, ancestor))


class Data(NamedTuple):
    """What both networks are shown.

    Attributes:
        batch: a picture of each object.
        names: WordNet ids of the 1,000 classes.
        wordnet: how alike they are.
    """

    batch: Batch
    names: Sequence[str]
    wordnet: WordNet


def ask_curve(trained: TrainedNetwork, method: str, data: Data, curve: Curve) -> Array:
    """The predicted classes (F, N) with a growing fraction of the pixels hidden."""
    family, order = curve
    keys = sample_keys(0, data.batch.ids)
    holes = curve_holes(keys, data.batch, family=family, order=order, hidden_fractions=FRACTIONS)
    predict = trained.predictor(method)
    with torch.inference_mode():
        said = [answers(predict, data.batch.images, visible).argmax(dim=1) for visible in holes.visible]
    return torch.stack(said).numpy()


def ask_clean(trained: TrainedNetwork, data: Data) -> Array:
    """The predicted classes (1, N) with nothing hidden."""
    with torch.inference_mode():
        said = torch.cat([trained(some.float() / 255) for some in data.batch.images.split(BATCH)])
    return said.argmax(dim=1)[None].numpy()


def terms(metric: str, predicted: Array, data: Data) -> NDArray[np.float64]:
    """What a metric averages over the pictures, (F, N), of predicted classes (F, N)."""
    labels = data.batch.labels.numpy()
    if metric == "accuracy":
        return np.asarray(predicted == labels, dtype=np.float64)
    if metric == "entropy":
        counts = np.stack([np.bincount(each, minlength=len(data.names))[each] for each in predicted])
        return np.asarray(np.log(predicted.shape[1] / counts))
    alike = [
        [data.wordnet.similarity(data.names[said], data.names[true]) for said, true in zip(each, labels, strict=True)]
        for each in predicted
    ]
    return np.array(alike)


def score(parts: Mapping[tuple[str, Curve], Array], curve: Curve, method: str, metric: str, data: Data) -> Array:
    """Of each picture, (N,), the mean over the fractions."""
    return np.asarray(terms(metric, parts[method, curve], data).mean(axis=0))


def shown(found: Found, metric: str) -> str:
    """In percent, or to two digits."""
    if metric == "accuracy":
        return f"{100 * found.value:.0f} ± {100 * found.half:.0f} %"
    return f"{found.value:.2f} ± {found.half:.2f}"


def tables(parts: Mapping[tuple[str, Curve], Array], clean: Array, data: Data) -> Iterator[str]:
    """Lines: nothing hidden, the planned tests, the scores, and every point."""
    metrics = tuple(PAPER)
    for metric in metrics:
        yield f"nothing hidden, {metric}: {shown(over_objects(terms(metric, clean, data)[0]), metric)}\n"
    curves = list(product(FAMILIES, ORDERS))
    tests: list[tuple[Curve, str]] = [((family, "random"), other) for family in FAMILIES for other in list(METHODS)[1:]]
    found = [
        over_objects(
            score(parts, curve, "layer_masking", "accuracy", data) - score(parts, curve, other, "accuracy", data)
        )
        for curve, other in tests
    ]
    yield "| layer masking minus | segments | accuracy, mean of the curve | p | after Holm |\n|---|---|---|---|---|"
    for (curve, other), each, corrected in zip(tests, found, holm([each.p for each in found]), strict=True):
        name = f"{METHODS[other]} | {FAMILIES[curve[0]]}"
        yield f"| {name} | {shown(each, 'accuracy')} | {each.p:.2g} | {corrected:.2g} |"
    for metric in metrics:
        yield f"\n{metric}\n\n| segments | hidden | method | mean | {' | '.join(map(str, FRACTIONS))} |"
        yield "|---" * (4 + len(FRACTIONS)) + "|"
        for curve, method in product(curves, METHODS):
            if (method, curve) not in parts:
                continue
            points = [score(parts, curve, method, metric, data), *terms(metric, parts[method, curve], data)]
            cells = [shown(over_objects(point), metric) for point in points]
            yield f"| {FAMILIES[curve[0]]} | {ORDERS[curve[1]]} | {METHODS[method]} | {' | '.join(cells)} |"


def draw(path: Path, parts: Mapping[tuple[str, Curve], Array], clean: Array, data: Data) -> None:
    """A row for each metric: the paper's network, then one of ours for each order."""
    titles = {"accuracy": "accuracy", "entropy": "class entropy (nats)", "similarity": "WordNet similarity"}
    tops = {"accuracy": 1.0, "entropy": 7.0, "similarity": 1.0}
    figure, axes = plt.subplots(len(titles), 1 + len(ORDERS), figsize=(11, 7), sharex=True, sharey="row")
    for row, (metric, title) in zip(axes, titles.items(), strict=True):
        row[0].set(ylabel=title, ylim=(0, tops[metric]))
        for method, values in PAPER[metric].items():
            row[0].plot(PAPER_FRACTIONS, values, color=COLOURS[method], marker="o", markersize=3)
        for (method, family), values in PAPER_READ[metric].items():
            row[0].plot(FRACTIONS, values, LINES[family], color=COLOURS[method], marker="o", markersize=3)
        for axis, order in zip(row[1:], ORDERS, strict=True):
            for method, family in product(METHODS, FAMILIES):
                if (method, (family, order)) not in parts:
                    continue
                points = [terms(metric, said, data).mean(axis=1) for said in (clean, parts[method, (family, order)])]
                axis.plot(
                    (0, *FRACTIONS), np.concatenate(points), color=COLOURS[method], marker="o", markersize=3,
                    linestyle=LINES[family], label=f"{METHODS[method]}, {FAMILIES[family]}",
                )  # fmt: skip
    for axis, title in zip(axes[0], ("the paper's ResNet-50: at random", *ORDERS.values()), strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("fraction hidden")
    figure.legend(*axes[0][1].get_legend_handles_labels(), loc="lower center", ncol=4, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=100, pil_kwargs={"lossless": True})


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask part by part, and write tables and figure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"), help="folder of data.noun")
    parser.add_argument("--report", action="store_true", help="ask no more, write what is there")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    options.out.mkdir(parents=True, exist_ok=True)
    batch = Cutouts(training_objects="others", views=1, image_size=SIDE).samples("test")
    data = Data(batch, imagenet_names(1000).wordnet_ids or (), WordNet(options.wordnet))
    networks = {re.split("[/:]", name)[-1].split(".")[0]: read_network(name).trained for name in options.networks}

    def kept(name: str, *part: str) -> Path:
        return Path(options.out, f"{'-'.join((name, *part))}.npy")

    todo = [(kept(name, "clean"), partial(ask_clean, each, data)) for name, each in networks.items()]
    todo += [
        (kept(name, method, *curve), partial(ask_curve, each, method, data, curve))
        for (method, curve), (name, each) in product(PARTS, networks.items())
    ]
    for path, ask in todo:
        if not (path.exists() or options.report):
            start = time.process_time()
            np.save(options.out / "part.npy", ask())
            (options.out / "part.npy").rename(path)
            print(f"{path.stem}: {time.process_time() - start:.0f} s", flush=True)
    there = {
        name: (
            {part: np.load(path) for part in PARTS if (path := kept(name, part[0], *part[1])).exists()},
            np.load(kept(name, "clean")),
        )
        for name in networks
    }
    lines = [line for name, (parts, clean) in there.items() for line in (f"{name}\n", *tables(parts, clean, data), "")]
    (options.out / "curves.md").write_text("\n".join(lines) + "\n")
    draw(options.out / "paper_curves.webp", *next(iter(there.values())), data)


if __name__ == "__main__":
    main()
