"""What evaluating several checkpoints at once costs: time over the forward passes that it makes and one decoding."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.bench.suite import RecordedPasses
from maskrobust.train.bench.timing import alternate, median_ratio
from maskrobust.train.data import Folder
from maskrobust.train.data.batches import batches_on, split_batches

CHECKPOINTS = 4
METHODS: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking")
PLAN = ReliancePlan(
    patch_size=16,
    curve_families=("patches", "slic"),
    transfer_families=("patches", "rectangles", "blobs", "slic", "silhouettes"),
    sampled_share=0.25,
)
"""That of `maskrobust evaluate` as it comes, but for the features."""

_CLASSES = 4
_HEIGHT, _WIDTH = 375, 500  # the most frequent size in ImageNet
_IMAGE_SIZE = 96  # what is not a forward pass weighs more here than at 224


def measure_evaluate(network: str, images: int, batch: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Four networks asked in one pass over JPEG images, beside their forward passes alone and one decoding.

    What is timed is collecting the silhouettes and asking the networks; training the probe is not, for it depends on
    the training split.

    Args:
        network: architecture of all checkpoints.
        images: evaluated.
        batch: images in a batch.
        rounds: alternating runs behind the ratio.
        device: what is measured.

    Returns:
        network, images, forward_passes (for each image and network), decode_seconds, bare_seconds, and time: the
        evaluation's over the sum of these two.
    """
    plans = dict.fromkeys(METHODS, PLAN)
    classifiers = {
        f"{number}": MaskRobustClassifier(network, _CLASSES, seed=number).to(device).eval()
        for number in range(CHECKPOINTS)
    }
    with tempfile.TemporaryDirectory() as name:
        data = _photographs(Path(name), images, batch)
        (shown, *_) = batches_on(split_batches(data, "val"), device)
        recorded = {
            name: {method: RecordedPasses(classifier.predictor(method), shown.images) for method in METHODS}
            for name, classifier in classifiers.items()
        }

        def evaluate(predictors: Mapping[str, Mapping[MaskingMethod, RecordedPasses]] | None = None) -> None:
            bank = SilhouetteBank.from_batches(split_batches(data, "val"))
            given = batches_on(split_batches(data, "val"), device)
            measurement = Measurement(classifiers, bank, plans, num_classes=_CLASSES, seed=0, predictors=predictors)
            measurement.run(given)

        def decode() -> None:
            for _ in split_batches(data, "val"):
                pass

        @torch.inference_mode()
        def bare() -> None:
            for classifier in classifiers.values():
                for start in range(0, images, batch):
                    classifier(shown.images[: images - start])
            for by_method in recorded.values():
                for passes in by_method.values():
                    passes.repeat()

        evaluate(recorded)
        seconds = alternate({"evaluate": evaluate, "decode": decode, "bare": bare}, rounds, device)
    least = [sum(pair) for pair in zip(seconds["decode"], seconds["bare"], strict=True)]
    calls = [count for by_method in recorded.values() for passes in by_method.values() for count, _, _ in passes.calls]
    return {
        "network": network,
        "images": images,
        "forward_passes": 1 + sum(calls) / images / CHECKPOINTS,
        "decode_seconds": median(seconds["decode"]),
        "bare_seconds": median(seconds["bare"]),
        "time": median_ratio(seconds["evaluate"], least),
    }


def _photographs(folder: Path, images: int, batch: int) -> Folder:
    """Noise with a disc as its object, as JPEG, in as many classes as there are."""
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
    for number in range(images):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (_HEIGHT // 25, _WIDTH // 25, 3), dtype=np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC))
        inside = (rows - 188) ** 2 + (columns - 250) ** 2 < (40 + 20 * (number % _CLASSES)) ** 2
        for kind, picture, suffix in (("images", pixels, "jpg"), ("masks", inside, "png")):
            place = folder / kind / "val" / f"class{number % _CLASSES}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(place / f"{number}.{suffix}")
    images_at, masks_at = str(folder / "images"), str(folder / "masks")
    data = Folder(images_at, masks_at, image_size=_IMAGE_SIZE, batch_size=batch, num_workers=0)
    data.setup("validate")
    return data
