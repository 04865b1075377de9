"""What measuring shape reliance costs: time of the suite over the bare forward passes that it makes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.architectures import build_network
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, predictor
from maskrobust.lm_modules.reliance.curves import CURVE_FAMILIES
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.suite import RelianceSuite
from maskrobust.train.bench.timing import alternate, median_ratio
from maskrobust.train.data import Cues

IMAGE_SIZES = {"small_resnet": 48, "resnet50": 224}
"""The networks that are measured, with the side of their images in pixels."""

METHODS: tuple[MaskingMethod, ...] = ("black", "layer_masking")

_CURVES = ReliancePlan(curve_families=CURVE_FAMILIES)


class Case(NamedTuple):
    """What is asked, and about which images.

    Attributes:
        name: says both.
        plan: what is asked.
        new_images: whether every round sees other images, whose superpixels have to be computed. Otherwise they are
            those of the rounds before, as when a second method or network is measured.
    """

    name: str
    plan: ReliancePlan
    new_images: bool


CASES = (
    Case("shapes", ReliancePlan(), new_images=True),
    Case("shapes and curves", _CURVES, new_images=True),
    Case("shapes and curves, again", _CURVES, new_images=False),
)

_CLASSES = 8
_BANK_IMAGES = 64

_FIRST_IDS = itertools.count(0, 10**6)
"""Of the batches: none is given twice, so that no two cases share superpixels."""

_Call = tuple[int, Tensor, Tensor]
"""One forward pass: number of images, `visible` and keys."""


class RecordedPasses:
    """A predictor that notes the forward passes it is asked for, so that they can be made again without the suite.

    Args:
        predict: does the work.
        images: (B, C, H, W), shown when a pass is repeated: what is seen changes nothing about the time.
    """

    def __init__(self, predict: Predictor, images: Tensor) -> None:
        self.calls: list[_Call] = []
        self._predict = predict
        self._images = images

    def __call__(self, images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        """Predict, and note the pass."""
        self.calls.append((len(images), visible, keys))
        return self._predict(images, visible, keys)

    @torch.inference_mode()
    def repeat(self) -> None:
        """Make every noted pass again, with as many images and the same holes."""
        for count, visible, keys in self.calls:
            copies = -(-count // len(self._images))
            self._predict(self._images.repeat(copies, 1, 1, 1)[:count], visible, keys)


def measure_suite(networks: Sequence[str], batch: int, rounds: int, device: torch.device) -> Iterator[dict[str, Any]]:
    """One row for each network, masking method and case; the suite asks one method: what it draws serves no other.

    Args:
        networks: some of `IMAGE_SIZES`.
        batch: images in a batch.
        rounds: alternating runs behind each ratio.
        device: what is measured.

    Yields:
        network, image_size, method, case, forward_passes (of one image, for each image of the batch), seconds of the
        bare passes, and time: the suite's over theirs.
    """
    for network, method, case in itertools.product(networks, METHODS, CASES):
        update, passes = make_update(network, method, case, batch, device)
        seconds = alternate({"suite": update, "bare": passes.repeat}, rounds, device)
        yield {
            "network": network,
            "image_size": IMAGE_SIZES[network],
            "method": method,
            "case": case.name,
            "forward_passes": sum(count for count, _, _ in passes.calls) / batch,
            "bare_seconds": median(seconds["bare"]),
            "time": median_ratio(seconds["suite"], seconds["bare"]),
        }


def make_update(
    network: str, method: MaskingMethod, case: Case, batch: int, device: torch.device
) -> tuple[Callable[[], None], RecordedPasses]:
    """A function that feeds a suite the next batch, and forward passes such as it makes.

    The passes are noted once, ahead of the function's calls: what is noted is memory kept, which costs time.

    Args:
        network: one of `IMAGE_SIZES`.
        method: the masking method that is asked about.
        case: what is asked.
        batch: images in a batch.
        device: of network and images.
    """
    size = IMAGE_SIZES[network]
    data = Cues(train_images=_BANK_IMAGES, test_images=batch, image_size=size, batch_size=batch)
    data.setup("fit")
    data.setup("test")
    shown: Batch = next(iter(data.test_dataloader())).to(device)
    model = build_network(network, _CLASSES).to(device).eval()
    predict = predictor(LayerMasking(model) if method == "layer_masking" else model, method, data.mean, data.std)
    suite = RelianceSuite[str](SilhouetteBank.from_batches(data.training_batches()), _CLASSES, case.plan)
    passes = RecordedPasses(predict, shown.images)
    kept_ids = _next_ids(batch, device)
    suite.update({method: passes}, shown._replace(ids=kept_ids))

    def update() -> None:
        ids = _next_ids(batch, device) if case.new_images else kept_ids
        suite.update({method: predict}, shown._replace(ids=ids))

    return update, passes


def _next_ids(batch: int, device: torch.device) -> Tensor:
    return torch.arange(batch, device=device) + next(_FIRST_IDS)
