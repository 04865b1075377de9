"""What masked pre-training teaches an encoder about the outline of a hole: the tables of docs/fine-tuning.md.

    python docs/studies/pretraining_study.py runs/pretraining

Garments on photographs, 32 px, without labels; small_resnet; patches of 8 px hide 60 %. Encoders are pre-trained in
three ways, and one is not. "zeros" is what SparK computes: a position is visible if its patch is, and features are
multiplied by that mask in each layer. The others are `MaskedPretraining` with both paddings. Each encoder is then asked
as it is, by a linear probe of its pooled features, and after fine-tuning as a plain network on a few labels.
One file for each seed; those that are there stay, so that the same command goes on after an interruption.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from maskrobust import LayerMasking, patches, sample_keys
from maskrobust.augment import Batch, enclosing_circles, fill_mean
from maskrobust.lm_modules.masking import Masked, VisibleMap
from maskrobust.lm_modules.masking.visible_map import Window
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.data import Fashion

IMAGE_SIZE, PATCH_SIZE, BATCH_SIZE, HIDDEN = 32, 8, 64, 0.6
PROBED, TESTED = 2000, 2000
LABELS = {"1 % of labels": (40, 100), "10 % of labels": (400, 20)}
"""Labelled images, and epochs of fine-tuning."""

PADDINGS = ("zeros", "mean", "mirror")
ENCODERS = ("none", *PADDINGS)
PRESENTED = ("painted", *PADDINGS)
"""How holes are presented to an encoder: in the mean colour, or as in one of the pre-trainings."""

PLAN = (
    ("outline read under zeros", "zeros, outline under zeros", "none, outline under zeros"),
    ("outline read, each as pre-trained", "zeros, outline under zeros", "mean, outline under mean"),
    ("accuracy with 1 % of the labels", "mean, 1 % of labels, clean", "none, 1 % of labels, clean"),
    (
        "accuracy with half hidden after 10 %, under layer masking",
        "mean, 10 % of labels, half hidden under mean",
        "zeros, 10 % of labels, half hidden under mean",
    ),
)
"""Comparisons written down before the run: a name, and the two numbers."""

Numbers = dict[str, float]


@contextmanager
def zeros_in_each_layer() -> Iterator[None]:
    """Within the context layer masking computes what SparK does, for patches that each stride divides."""
    after = VisibleMap.window

    def window(self: VisibleMap, window: Window) -> VisibleMap:
        if window.stride == (1, 1):
            return self
        size, (down, across) = after(self, window).positions.shape[2:], window.stride
        positions = self.positions[:, :, ::down, ::across]
        assert positions.shape[2:] == size
        return VisibleMap(positions, self.options)

    def pad(self: Masked, _count: int) -> Tensor:
        return self.with_hidden_zero()

    with patch.object(VisibleMap, "window", window), patch.object(Masked, "with_neighbour_padding", pad):
        yield


def masking(network: nn.Module, padding: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A network of normalised images and `visible`, padded as in one of the pre-trainings."""
    if padding != "zeros":
        return LayerMasking(network, padding=padding)  # type: ignore[arg-type]
    masked = LayerMasking(network)

    def compute(images: Tensor, visible: Tensor) -> Tensor:
        with zeros_in_each_layer():
            answer: Tensor = masked(images, visible)
        return answer

    return compute


def pretrained(data: Fashion, padding: str, seed: int, epochs: int) -> nn.Module:
    """small_resnet after pre-training, or with its random weights under "none"."""
    pl.seed_everything(seed, verbose=False)
    module = MaskedPretraining(
        "small_resnet",
        data.num_classes,
        mean=data.mean,
        std=data.std,
        hidden_fraction=(HIDDEN, HIDDEN),
        patch_size=PATCH_SIZE,
        layer_masking={"padding": "mirror" if padding == "mirror" else "mean"},
        learning_rate=2e-3,
        seed=seed,
    )
    if padding != "none":
        with zeros_in_each_layer() if padding == "zeros" else nullcontext():
            trainer(epochs).fit(module, datamodule=data)
    return module.network.network


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


def presented(network: nn.Module, data: Fashion) -> dict[str, Answer]:
    """What a network in eval mode returns for holes, by how they are presented."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    masked = {padding: masking(network, padding) for padding in PADDINGS}

    @torch.inference_mode()
    def answer(name: str, samples: Batch, visible: Tensor) -> Tensor:
        found = []
        for images, shown in zip((samples.images / 255).split(200), visible.split(200), strict=True):
            if name == "painted":
                found.append(network((fill_mean(images, shown, data.mean) - mean) / std))
            else:
                found.append(masked[name]((images - mean) / std, shown))
        return torch.cat(found)

    return {name: partial(answer, name) for name in PRESENTED}


def probe_numbers(encoder: nn.Module, data: Fashion, seed: int) -> Numbers:
    """Of an encoder as it is: a linear probe fitted on whole images, and what it answers for holes."""
    encoder = copy.deepcopy(encoder).eval()
    encoder.fc = nn.Identity()
    training = Batch(*(None if each is None else each[:PROBED] for each in data.samples("train")))  # type: ignore[arg-type]
    test = data.samples("test")
    seen, shown, labels = holes(training, seed), holes(test, seed), test.labels.numpy()

    def fitted(hole: str, answer: Answer) -> Any:
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return probe.fit(answer(training, seen[hole]).numpy(), training.labels.numpy())

    def score(probe: Any, hole: str, answer: Answer) -> float:
        return float(probe.score(answer(test, shown[hole]).numpy(), labels))

    answers = presented(encoder, data)
    clean = fitted("clean", answers["painted"])
    found = {"probe, clean": score(clean, "clean", answers["painted"])}
    for name, answer in answers.items():
        found[f"half hidden under {name}"] = score(clean, "half hidden", answer)
        found[f"outline under {name}"] = score(clean, "outline", answer) - score(clean, "circle", answer)
        found[f"outline to be had under {name}"] = score(fitted("outline", answer), "outline", answer)
    return found


def tuned_numbers(encoder: nn.Module, few: Mapping[str, Fashion], seed: int) -> Numbers:
    """After fine-tuning the plain network on a few labels; the data by the keys of `LABELS`."""
    found = {}
    for name, data in few.items():
        pl.seed_everything(seed, verbose=False)
        model = MaskRobustClassifier(
            "small_resnet", data.num_classes, mean=data.mean, std=data.std, masking="none", seed=seed
        )
        network = copy.deepcopy(encoder)
        network.fc = nn.Linear(network.fc.in_features, data.num_classes)
        model.network.load_state_dict(network.state_dict())
        trainer(LABELS[name][1]).fit(model, datamodule=data)
        network.load_state_dict(model.network.state_dict())
        test, answers = data.samples("test"), presented(network.eval(), data)
        right = {
            (how, hole): float((answers[how](test, visible).argmax(1) == test.labels).float().mean())
            for how in ("painted", "mean")
            for hole, visible in holes(test, seed).items()
        }
        found[f"{name}, clean"] = right["painted", "clean"]
        for how in ("painted", "mean"):
            found[f"{name}, half hidden under {how}"] = right[how, "half hidden"]
            found[f"{name}, outline under {how}"] = right[how, "outline"] - right[how, "circle"]
    return found


def run(seed: int, images: int, epochs: int) -> Numbers:
    """All numbers of one seed."""
    make = partial(Fashion, val_images=1, test_images=TESTED, image_size=IMAGE_SIZE, seed=seed)
    data = make(train_images=images, batch_size=BATCH_SIZE)
    few = {name: make(train_images=labelled, batch_size=16) for name, (labelled, _) in LABELS.items()}
    found = {}
    for name in ENCODERS:
        encoder = pretrained(data, name, seed, epochs)
        numbers = probe_numbers(encoder, data, seed) | tuned_numbers(encoder, few, seed)
        found |= {f"{name}, {key}": float(value) for key, value in numbers.items()}
    return found


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half of its 95 % interval by Student's t."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean()), float(half)


def table(results: Sequence[Numbers]) -> str:
    """Each number by encoder, in percent with its interval over seeds, and the planned comparisons by Holm."""
    of = {key: 100 * np.array([each[key] for each in results]) for key in results[0]}
    lines = [f"| number | {' | '.join(ENCODERS)} |", f"|---{'|---' * len(ENCODERS)}|"]
    for key in (key.removeprefix(f"{ENCODERS[0]}, ") for key in of if key.startswith(f"{ENCODERS[0]}, ")):
        cells = ["{:.1f} ± {:.1f}".format(*interval(of[f"{name}, {key}"])) for name in ENCODERS]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    differences = {name: of[first] - of[second] for name, first, second in PLAN}
    tested = sorted(differences, key=lambda name: stats.ttest_1samp(differences[name], 0).pvalue)
    lines += ["", "| planned comparison | difference (points) | p | p by Holm |", "|---|---|---|---|"]
    adjusted = 0.0
    for place, name in enumerate(tested):
        p = float(stats.ttest_1samp(differences[name], 0).pvalue)
        adjusted = max(adjusted, min(1.0, p * (len(tested) - place)))
        mean, half = interval(differences[name])
        lines.append(f"| {name} | {mean:+.1f} ± {half:.1f} | {p:.3g} | {adjusted:.3g} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the seeds that are missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--images", type=int, default=4000, help="without labels, of the pre-training")
    parser.add_argument("--epochs", type=int, default=20, help="of the pre-training")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in range(options.seeds):
        path = options.out / f"seed-{seed}.json"
        if not path.exists():
            path.write_text(json.dumps(run(seed, options.images, options.epochs)), encoding="utf-8")
        results.append(json.loads(path.read_text(encoding="utf-8")))
    text = table(results)
    (options.out / "pretraining.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
