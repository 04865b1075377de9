"""MCal: a frozen network whose logits go through an affine map where something is hidden, one map for each method."""

import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping

import torch
from safetensors.torch import save_file
from torch import Tensor

from maskrobust.augment import Batch, RandomMasking, fold_in, sample_keys
from maskrobust.lm_modules.calibration import AffineCalibration, fit_calibration
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.training_masks import build_masking
from maskrobust.lm_modules.weights import read_state_dict
from maskrobust.train.claim.config import CALIBRATION_IMAGES, ClaimConfig
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.runs import StoredRun
from maskrobust.train.data.batches import batches_on
from maskrobust.train.files import atomic_path, write_json
from maskrobust.train.provenance import provenance

_CALIBRATION_STREAM = -1  # of a sample's key; training folds in its steps, which count from 0
_FILL_STREAM = 2  # as in `RandomMasking`


def calibrations(
    config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier, progress: Progress
) -> dict[MaskingMethod, AffineCalibration]:
    """The affine maps of a run by masking method; fitted unless they are on disk.

    Args:
        config: the claim.
        run: of an arm with calibration.
        classifier: the frozen network, in eval mode.
        progress: told about every batch.

    Raises:
        InputError: the run's folder holds maps of another configuration, or a damaged file.
    """
    if not run.is_trained():
        progress.start_calibration(config.arms[run.arm].title, run.seed)
        start = time.monotonic()
        _save(_fit(config, run, classifier, progress), run)
        record = provenance(time.monotonic() - start, shlex.join(sys.argv))
        write_json(run.training_record, {"fingerprint": run.settings, "provenance": record})
    stored = read_state_dict(run.learned)
    return {
        method: AffineCalibration(*(stored[f"{method}.{part}"] for part in AffineCalibration._fields))
        for method in run.outcomes
    }


def _save(fitted: Mapping[MaskingMethod, AffineCalibration], run: StoredRun) -> None:
    tensors = {
        f"{method}.{part}": value.cpu().contiguous()
        for method, calibration in fitted.items()
        for part, value in calibration._asdict().items()
    }
    with atomic_path(run.learned) as path:
        save_file(tensors, path)


def _fit(
    config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier, progress: Progress
) -> dict[MaskingMethod, AffineCalibration]:
    """Maps under which a masked training image is predicted as the frozen network predicts it with nothing hidden."""
    masks = _masks(config, run, classifier)
    predictors = {method: classifier.predictor(method) for method in run.outcomes}
    logits: dict[MaskingMethod, list[Tensor]] = {method: [] for method in predictors}
    targets = []
    batches = batches_on(first_images(config.data.training_batches(), CALIBRATION_IMAGES), classifier.device)
    with torch.no_grad():
        for batch in progress.track_batches(batches):
            keys = fold_in(sample_keys(run.seed, batch.ids), _CALIBRATION_STREAM)
            visible = masks.draw_visible(keys, batch)
            is_masked = ~visible.flatten(1).all(dim=1)
            targets.append(classifier(batch.images).argmax(dim=1)[is_masked])
            for method, predict in predictors.items():
                logits[method].append(predict(batch.images, visible, fold_in(keys, _FILL_STREAM))[is_masked])
    return {method: fit_calibration(torch.cat(each), torch.cat(targets)) for method, each in logits.items()}


def _masks(config: ClaimConfig, run: StoredRun, classifier: MaskRobustClassifier) -> RandomMasking:
    """The holes of the arm's own model options, in every image."""
    options = config.models[run.arm]
    return build_masking(
        options["mask_family"],
        "black",  # each method presents the hole in its own way
        hidden_fraction=options["hidden_fraction"],
        patch_size=options["patch_size"],
        probability=1.0,
        mean=config.data.mean,
        source=config.data,
        device=classifier.device,
    )


def first_images(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """Batches up to the image at `count`."""
    for batch in batches:
        if count <= 0:
            return
        yield batch.select(slice(count))
        count -= len(batch.ids)
