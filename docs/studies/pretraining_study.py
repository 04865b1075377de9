"""What pre-training with random patches teaches an encoder about outlines: a table of docs/research-pretraining.md.

    python docs/studies/pretraining_study.py runs/outlines --photographs /usr/share/backgrounds

64 px, without labels: half garments on photographs, half crops of photographs. A small ResNet with a deepest stride of
8 is pre-trained with patches of 8 px that hide 60 %, with zeros and with mean padding, or not. "zeros" is what SparK
computes: a position is visible if its patch is, and features are multiplied by that mask in each layer. Then it is
asked how well the class can be read from the outline of a hole in an encoder's features. One file for each seed; those
that are there stay. The larger study that the page names, of two networks and fine-tuning: `git show
152a1b9b:docs/studies/pretraining_study.py`.
"""

import argparse
import copy
import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

from maskrobust import LayerMasking
from maskrobust.augment import Batch, enclosing_circles
from maskrobust.lm_modules.masking import VisibleMap
from maskrobust.lm_modules.masking.visible_map import Window
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.train.data.files.image_files import IMAGE_SUFFIXES
from maskrobust.train.data.sets.images import Images

sys.path.append(str(Path(__file__).parent))
from fashion import Fashion

IMAGE_SIZE, PATCH_SIZE, BATCH_SIZE, HIDDEN, DECODER_WIDTH = 64, 8, 64, 0.6, 16
PROBED, TESTED = 1500, 600
ENCODERS = ("none", "zeros", "mean")
PLAN = (
    ("outline carried, under zeros: zeros - none", "zeros, carried under zeros", "none, carried under zeros"),
    ("outline carried: zeros - mean", "zeros, carried under zeros", "mean, carried under mean"),
)
"""Comparisons that were written down before the run, but after the ResNet's results in the larger study."""

Numbers = dict[str, float]


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
    return zeros_in_each_layer() if padding == "zeros" else nullcontext()


def masking(network: nn.Module, padding: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A network of normalised images and `visible`, padded as in a pre-training."""
    masked = LayerMasking(network, padding=padding)

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


def pretrained(corpus: Path, data: Fashion, padding: str, seed: int, epochs: int) -> nn.Module:
    """An encoder after pre-training on the images of a folder, or with its random weights under "none"."""
    pl.seed_everything(seed, verbose=False)
    network = build_network("small_resnet", data.num_classes)
    if padding == "none":
        return network
    module = MaskedPretraining(
        network,
        data.num_classes,
        mean=data.mean,
        std=data.std,
        hidden_fraction=(HIDDEN, HIDDEN),
        patch_size=PATCH_SIZE,
        layer_masking={"padding": padding},
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


def holes(samples: Batch) -> dict[str, Tensor]:
    """`visible` of each kind of hole."""
    return {"outline": ~samples.object_mask, "circle": ~enclosing_circles(samples.object_mask)}


Answer = Callable[[Batch, Tensor], Tensor]
"""What a network returns for samples of which only a part is visible."""


def presented(network: nn.Module, data: Fashion, padding: str) -> Answer:
    """What a network in eval mode returns for holes with a padding."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (data.mean, data.std))
    masked = masking(network, padding)

    @torch.inference_mode()
    def answer(samples: Batch, visible: Tensor) -> Tensor:
        parts = zip((samples.images / 255).split(200), visible.split(200), strict=True)
        return torch.cat([masked((images - mean) / std, shown) for images, shown in parts])

    return answer


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


def outline_numbers(encoder: nn.Module, data: Fashion, probed: int = PROBED) -> Numbers:
    """How much of a hidden garment's class the outline of its hole leaves in the features, whatever the encoder knows.

    The accuracy of a linear probe fitted and tested on images whose garment is hidden along its outline, minus that of
    one fitted and tested with the enclosing circle hidden.
    """
    encoder = copy.deepcopy(encoder).eval()
    encoder.fc = nn.Identity()
    samples = data.samples("train").select(slice(probed)), data.samples("test")
    training, test = (Shown(each, holes(each)) for each in samples)
    found: Numbers = {}
    for padding in ("zeros", "mean"):
        answer = presented(encoder, data, padding)
        for hole in ("outline", "circle"):
            found[f"{hole} under {padding}"] = score(fitted(training, hole, answer), test, hole, answer)
        found[f"carried under {padding}"] = found[f"outline under {padding}"] - found[f"circle under {padding}"]
    return found


def run(out: Path, photographs: Path, seed: int, images: int, epochs: int) -> Numbers:
    """All numbers of a seed."""
    data = Fashion(
        train_images=max(images // 2, PROBED), val_images=1, test_images=TESTED, image_size=IMAGE_SIZE,
        batch_size=BATCH_SIZE, seed=seed,
    )  # fmt: skip
    corpus = out / f"corpus-{seed}-{images}"
    if not corpus.exists():
        write_corpus(corpus, data.samples("train").images[: images // 2].to(torch.uint8), photographs, seed)
    found: Numbers = {}
    for padding in ENCODERS:
        numbers = outline_numbers(pretrained(corpus, data, padding, seed, epochs), data)
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


def table(results: Sequence[Numbers]) -> str:
    """Each number by encoder, in percent with its interval over seeds, and the planned comparisons by Holm."""
    of = {key: 100 * np.array([each[key] for each in results]) for key in results[0]}
    lines = [f"| number | {' | '.join(ENCODERS)} |", f"|---{'|---' * len(ENCODERS)}|"]
    for key in (key.removeprefix("none, ") for key in of if key.startswith("none, ")):
        cells = ["{:.1f} ± {:.1f}".format(*interval(of[f"{name}, {key}"])) for name in ENCODERS]
        lines.append(f"| {key} | {' | '.join(cells)} |")
    differences = {name: of[first] - of[second] for name, first, second in PLAN}
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
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--images", type=int, default=3000, help="without labels, of the pre-training")
    parser.add_argument("--epochs", type=int, default=15, help="of the pre-training")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for seed in range(options.seeds):
        path = options.out / f"resnet-{seed}.json"
        if not path.exists():
            found = run(options.out, options.photographs, seed, options.images, options.epochs)
            path.write_text(json.dumps(found), encoding="utf-8")
        results.append(json.loads(path.read_text(encoding="utf-8")))
    (options.out / "resnet.md").write_text(f"{table(results)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
