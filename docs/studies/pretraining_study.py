"""What masked pre-training teaches an encoder about the outline of a hole: the tables of docs/results-pretraining.md.

    python docs/studies/pretraining_study.py runs/pretraining --photographs /usr/share/backgrounds

64 px, without labels: half garments on photographs, half crops of photographs. Two encoders, a ResNet and a MobileNet,
each with a deepest stride of 8. Patches of 8 px hide 60 %. Each encoder is pre-trained in four ways, and one is not.
"zeros" is what SparK computes: a position is visible if its patch is, and features are multiplied by that mask in each
layer. "partial" is partial convolution, and the others are `MaskedPretraining` with both paddings. Each encoder is then
asked as it is, by its pooled features, and after fine-tuning as a plain network on a few labels of garments.
One file for each network and seed; those that are there stay, so that the same command goes on after an interruption.

    python docs/studies/pretraining_study.py runs/outlines --photographs FOLDER --networks resnet --epochs 15 --outlines

asks instead how well the class can be read from the outline of a hole in an encoder's features.
"""

import argparse
import copy
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from maskrobust import LayerMasking, patches, sample_keys
from maskrobust.augment import Batch, enclosing_circles, fill_mean
from maskrobust.lm_modules.masking import VisibleMap
from maskrobust.lm_modules.masking.visible_map import Window
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES
from maskrobust.train.data.sets.images import Images

sys.path.append(str(Path(__file__).parent))
from fashion import Fashion
from padding_variants import partial_convolutions

IMAGE_SIZE, PATCH_SIZE, BATCH_SIZE, HIDDEN, DECODER_WIDTH = 64, 8, 64, 0.6, 16
PROBED, TESTED, SCENES = 1500, 600, 300
LABELS = {"1 % of labels": (40, 30), "10 % of labels": (400, 12)}
"""Labelled images, and epochs of fine-tuning."""

NETWORKS = ("resnet", "mobilenet")
PADDINGS = ("zeros", "partial", "mean", "mirror")
ENCODERS, OUTLINE_ENCODERS = ("none", *PADDINGS), ("none", "zeros", "mean")
OWN = "its own padding"
"""Holes are presented as in the pre-training of an encoder; with mean padding, if it had none."""

PLAN = (
    ("outline read, under zeros: zeros - none", "zeros, outline under zeros", "none, outline under zeros"),
    ("outline read: zeros - mean", f"zeros, outline under {OWN}", f"mean, outline under {OWN}"),
    ("outline read: partial - mean", f"partial, outline under {OWN}", f"mean, outline under {OWN}"),
    ("outline pull: zeros - mean", f"zeros, pull under {OWN}", f"mean, pull under {OWN}"),
    ("10 % of labels, nothing hidden: mean - none", "mean, 10 % of labels, clean", "none, 10 % of labels, clean"),
    (
        "10 % of labels, half hidden, mean padding: mean - zeros",
        "mean, 10 % of labels, half hidden under mean",
        "zeros, 10 % of labels, half hidden under mean",
    ),
)
"""Comparisons written down before the run, for each network: a name, and the two numbers."""

OUTLINE_PLAN = (
    ("outline carried, under zeros: zeros - none", "zeros, carried under zeros", "none, carried under zeros"),
    ("outline carried: zeros - mean", "zeros, carried under zeros", "mean, carried under mean"),
)
"""Comparisons of `outline_numbers`, written down before their own run, but after the ResNet's results for `PLAN`."""

Numbers = dict[str, float]


def encoder_of(name: str, num_classes: int) -> nn.Module:
    """A network with random weights whose deepest map has a stride of 8."""
    if name == "resnet":
        return build_network("small_resnet", num_classes)
    stages = [[1, 16, 1, 1], [4, 24, 2, 2], [4, 32, 2, 2], [4, 64, 2, 1]]
    return mobilenet_v2(num_classes=num_classes, width_mult=0.5, inverted_residual_setting=stages, dropout=0.0)


def head_of(network: nn.Module) -> str:
    """The path of the last layer."""
    return "fc" if hasattr(network, "fc") else "classifier"


@contextmanager
def zeros_in_each_layer() -> Iterator[None]:
    """Within the context zeros as padding compute what SparK does, for patches that each stride divides."""
    after = VisibleMap.window

    def window(self: VisibleMap, window: Window) -> VisibleMap:
        if window.stride == (1, 1):
            return self
        size, (down, across) = after(self, window).positions.shape[2:], window.stride
        positions = self.positions[:, :, ::down, ::across]
        assert positions.shape[2:] == size
        return VisibleMap(positions, self.options)

    with patch.object(VisibleMap, "window", window):
        yield


def computing(padding: str) -> AbstractContextManager[None]:
    """The context in which a network padded with zeros computes what a pre-training does."""
    return {"zeros": zeros_in_each_layer, "partial": partial_convolutions}.get(padding, nullcontext)()


def rule_of(padding: str) -> Any:
    """The padding of layer masking."""
    return "zeros" if padding == "partial" else padding


def masking(network: nn.Module, padding: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A network of normalised images and `visible`, padded as in one of the pre-trainings."""
    masked = LayerMasking(network, padding=rule_of(padding))

    def compute(images: Tensor, visible: Tensor) -> Tensor:
        with computing(padding):
            answer: Tensor = masked(images, visible)
        return answer

    return compute


def write_corpus(folder: Path, garments: Tensor, photographs: Path, seed: int) -> None:
    """Write garments (N, 3, H, W) uint8, and as many square crops of the photographs below a folder."""
    part = folder.with_suffix(".part")  # so that a corpus is there whole, or not at all
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files = sorted(each for each in photographs.rglob("*") if each.suffix.lower() in IMAGE_SUFFIXES)
    read = [cv2.imread(str(file)) for file in files]
    scenes = [_small(each) for each in read if each is not None]
    rng = np.random.default_rng(seed)
    for index, garment in enumerate(garments):
        cv2.imwrite(str(part / f"garment-{index}.png"), garment.permute(1, 2, 0).numpy()[..., ::-1])
        scene = scenes[rng.integers(len(scenes))]
        side = int(rng.integers(IMAGE_SIZE, min(scene.shape[:2]) + 1))
        top, left = (int(rng.integers(length - side + 1)) for length in scene.shape[:2])
        crop = scene[top : top + side, left : left + side]
        crop = cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(part / f"photograph-{index}.png"), crop)
    part.rename(folder)


def _small(picture: NDArray[Any]) -> NDArray[Any]:
    scale = 256 / min(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def pretrained(name: str, corpus: Path, data: Fashion, padding: str, seed: int, epochs: int) -> nn.Module:
    """An encoder after pre-training on the images of a folder, or with its random weights under "none"."""
    pl.seed_everything(seed, verbose=False)
    network = encoder_of(name, data.num_classes)
    if padding == "none":
        return network
    module = MaskedPretraining(
        network,
        data.num_classes,
        mean=data.mean,
        std=data.std,
        hidden_fraction=(HIDDEN, HIDDEN),
        patch_size=PATCH_SIZE,
        layer_masking={"padding": rule_of(padding)},
        decoder_width=DECODER_WIDTH,
        learning_rate=2e-3,
        seed=seed,
    )
    options = {"image_size": IMAGE_SIZE, "batch_size": BATCH_SIZE, "num_workers": 0, "seed": seed}
    with computing(padding):
        trainer(epochs).fit(module, datamodule=Images(str(corpus), mean=data.mean, std=data.std, **options))
    return network


def trainer(epochs: int) -> pl.Trainer:
    """Without files and bars."""
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def holes(samples: Batch, seed: int) -> dict[str, Tensor]:
    """`visible` of each kind of hole."""
    keys = sample_keys(seed, samples.ids)
    half = patches(keys, IMAGE_SIZE, IMAGE_SIZE, hidden_fraction=(0.5, 0.5), patch_size=PATCH_SIZE)
    return {
        "clean": torch.ones_like(samples.object_mask),
        "half hidden": half,
        "outline": ~samples.object_mask,
        "circle": ~enclosing_circles(samples.object_mask),
    }


Answer = Callable[[Batch, Tensor], Tensor]
"""What a network returns for samples of which only a part is visible."""


def presented(network: nn.Module, data: Fashion, paddings: Mapping[str, str]) -> dict[str, Answer]:
    """What a network in eval mode returns for holes, painted in the mean colour or padded, by names."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    masked = {name: masking(network, padding) for name, padding in paddings.items()}

    @torch.inference_mode()
    def answer(name: str, samples: Batch, visible: Tensor) -> Tensor:
        found = []
        for images, shown in zip((samples.images / 255).split(200), visible.split(200), strict=True):
            if name == "painted":
                found.append(network((fill_mean(images, shown, data.mean) - mean) / std))
            else:
                found.append(masked[name]((images - mean) / std, shown))
        return torch.cat(found)

    return {name: partial(answer, name) for name in ("painted", *paddings)}


class Shown(NamedTuple):
    """Images, and `visible` of each kind of hole in them."""

    samples: Batch
    visible: Mapping[str, Tensor]


def fitted(shown: Shown, hole: str, answer: Answer) -> Any:
    """A linear probe of the features of images with a kind of hole."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return probe.fit(answer(shown.samples, shown.visible[hole]).numpy(), shown.samples.labels.numpy())


def score(probe: Any, shown: Shown, hole: str, answer: Answer) -> float:
    """The accuracy of a probe on images with a kind of hole."""
    return float(probe.score(answer(shown.samples, shown.visible[hole]).numpy(), shown.samples.labels.numpy()))


def to_probe(encoder: nn.Module, data: Fashion, seed: int) -> tuple[nn.Module, Shown, Shown]:
    """A copy of an encoder without its head, in eval mode, with images to fit probes on and to test them on."""
    encoder = copy.deepcopy(encoder).eval()
    setattr(encoder, head_of(encoder), nn.Identity())
    training, test = data.samples("train").select(slice(PROBED)), data.samples("test")
    return encoder, Shown(training, holes(training, seed)), Shown(test, holes(test, seed))


def probe_numbers(encoder: nn.Module, padding: str, data: Fashion, seed: int) -> Numbers:
    """Of an encoder as it is: a linear probe fitted on whole images, and what it answers for holes."""
    encoder, training, test = to_probe(encoder, data, seed)
    own = "mean" if padding == "none" else padding
    answers = presented(encoder, data, {each: each for each in ("zeros", "mean", own)})
    pictured = test.samples.select(slice(SCENES))
    scenes = pictured._replace(images=255 * data.empty_scenes("test", SCENES).images)
    clean = fitted(training, "clean", answers["painted"])
    objects = answers["painted"](pictured, test.visible["clean"][:SCENES])
    found = {"probe, clean": score(clean, test, "clean", answers["painted"])}
    for name, answer in answers.items():
        right = {hole: score(clean, test, hole, answer) for hole in ("half hidden", "outline", "circle")}
        found[f"half hidden under {name}"] = right["half hidden"]
        found[f"outline under {name}"] = right["outline"] - right["circle"]
        outlines, circles = (answer(scenes, test.visible[hole][:SCENES]) for hole in ("outline", "circle"))
        found[f"pull under {name}"] = likeness(outlines, objects) - likeness(circles, objects)
    for what in ("half hidden", "outline", "pull"):
        found[f"{what} under {OWN}"] = found[f"{what} under {own}"]
    return found


def outline_numbers(encoder: nn.Module, data: Fashion, seed: int) -> Numbers:
    """How much of a hidden garment's class the outline of its hole leaves in the features, whatever the encoder knows.

    The accuracy of a linear probe fitted and tested on images whose garment is hidden along its outline, minus that of
    one fitted and tested with the enclosing circle hidden.
    """
    encoder, training, test = to_probe(encoder, data, seed)
    found: Numbers = {}
    for name, answer in presented(encoder, data, {each: each for each in ("zeros", "mean")}).items():
        for hole in ("outline", "circle"):
            found[f"{hole} under {name}"] = score(fitted(training, hole, answer), test, hole, answer)
        found[f"carried under {name}"] = found[f"outline under {name}"] - found[f"circle under {name}"]
    return found


def likeness(holes: Tensor, objects: Tensor) -> float:
    """How much nearer the features of scenes with a hole are to those of the hole's own object than to others.

    The cosine with the hole's own object minus its mean over all other objects; both are centred first.

    Args:
        holes: (N, C), of empty scenes with a hole that is made by an object.
        objects: (N, C), of these objects.
    """
    centred = [nn.functional.normalize(each - each.mean(dim=0), dim=1) for each in (holes, objects)]
    cosines = centred[0] @ centred[1].mT
    others = (cosines.sum() - cosines.trace()) / (len(holes) * (len(holes) - 1))
    return float(cosines.diagonal().mean() - others)


def tuned_numbers(encoder: nn.Module, few: Mapping[str, Fashion], seed: int) -> Numbers:
    """After fine-tuning the plain network on a few labels; the data by the keys of `LABELS`."""
    found: Numbers = {}
    for name, data in few.items():
        pl.seed_everything(seed, verbose=False)
        network, path = copy.deepcopy(encoder), head_of(encoder)
        width = {"fc": 64, "classifier": 1280}[path]
        setattr(network, path, nn.Linear(width, data.num_classes))
        model = MaskRobustClassifier(network, data.num_classes, mean=data.mean, std=data.std, masking="none", seed=seed)
        trainer(LABELS[name][1]).fit(model, datamodule=data)
        test, answers = data.samples("test"), presented(network.eval(), data, {"mean": "mean"})
        shown = holes(test, seed)

        def right(how: str, hole: str, test: Batch = test, answers: Any = answers, shown: Any = shown) -> float:
            return float((answers[how](test, shown[hole]).argmax(1) == test.labels).float().mean())

        found[f"{name}, clean"] = right("painted", "clean")
        for how in ("painted", "mean"):
            found[f"{name}, half hidden under {how}"] = right(how, "half hidden")
    return found


def run(
    network: str, out: Path, photographs: Path, seed: int, images: int, epochs: int, *, outlines: bool = False
) -> Numbers:
    """All numbers of a network and a seed; or those of `outline_numbers`."""
    make = partial(Fashion, val_images=1, test_images=TESTED, image_size=IMAGE_SIZE, seed=seed)
    data = make(train_images=max(images // 2, PROBED), batch_size=BATCH_SIZE)
    few = {name: make(train_images=labelled, batch_size=16) for name, (labelled, _) in LABELS.items()}
    corpus = out / f"corpus-{seed}-{images}"
    if not corpus.exists():
        write_corpus(corpus, data.samples("train").images[: images // 2].to(torch.uint8), photographs, seed)
    found: Numbers = {}
    for padding in OUTLINE_ENCODERS if outlines else ENCODERS:
        encoder = pretrained(network, corpus, data, padding, seed, epochs)
        if outlines:
            numbers = outline_numbers(encoder, data, seed)
        else:
            numbers = probe_numbers(encoder, padding, data, seed) | tuned_numbers(encoder, few, seed)
        found |= {f"{padding}, {key}": float(value) for key, value in numbers.items()}
    return found


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half of its 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def holm(differences: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """The p of Student's t for each difference, paired by seed, after Holm's correction; the smallest first."""
    p = {name: float(stats.ttest_1samp(each, 0).pvalue) for name, each in differences.items()}
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(p, key=lambda name: p[name])):
        largest = adjusted[name] = max(largest, min(1.0, p[name] * (len(p) - place)))
    return adjusted


def table(results: Sequence[Numbers], *, outlines: bool = False) -> str:
    """Each number by encoder, in percent with its interval over seeds, and the planned comparisons by Holm."""
    encoders, plan = (OUTLINE_ENCODERS, OUTLINE_PLAN) if outlines else (ENCODERS, PLAN)
    of = {key: 100 * np.array([each[key] for each in results]) for key in results[0]}
    lines = [f"| number | {' | '.join(encoders)} |", f"|---{'|---' * len(encoders)}|"]
    for key in (key.removeprefix("none, ") for key in of if key.startswith("none, ")):
        cells = ["{:.1f} ± {:.1f}".format(*interval(of[f"{name}, {key}"])) for name in encoders]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    differences = {name: of[first] - of[second] for name, first, second in plan}
    lines += ["", "| planned comparison | difference (points) | p by Holm |", "|---|---|---|"]
    for name, p in holm(differences).items():
        mean, half = interval(differences[name])
        lines.append(f"| {name} | {mean:+.1f} ± {half:.1f} | {p:.3g} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the seeds that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--photographs", type=Path, required=True, help="folder of photographs to crop")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="which encoders")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--images", type=int, default=3000, help="without labels, of the pre-training")
    parser.add_argument("--epochs", type=int, default=10, help="of the pre-training")
    parser.add_argument("--outlines", action="store_true", help="ask how well outlines can be read from features")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for network in options.networks:
        results = []
        for seed in range(options.seeds):
            path = options.out / f"{network}-{seed}.json"
            if not path.exists():
                sizes = (seed, options.images, options.epochs)
                found = run(network, options.out, options.photographs, *sizes, outlines=options.outlines)
                path.write_text(json.dumps(found), encoding="utf-8")
            results.append(json.loads(path.read_text(encoding="utf-8")))
        text = f"{network}\n\n{table(results, outlines=options.outlines)}\n"
        (options.out / f"{network}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
