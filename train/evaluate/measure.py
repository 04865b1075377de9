"""Networks from files, and what they answer under every masking method."""

from collections.abc import Mapping

import torch
from rich.progress import Progress

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance import Outcomes, ProbeOutcomes
from maskrobust.train.data.batches import STAGE_OF_SPLIT, batches_on, split_batches
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.measurement import measure_network
from maskrobust.train.probe import outline_outcomes

Runs = Mapping[str, Mapping[MaskingMethod, Outcomes]]
"""Outcomes by checkpoint and masking method."""


def measure(
    config: EvaluationConfig, progress: Progress
) -> tuple[dict[str, dict[MaskingMethod, Outcomes]], ProbeOutcomes]:
    """Ask every network about the split's images.

    Args:
        config: what to measure.
        progress: told about every batch.

    Returns:
        Outcomes by checkpoint and masking method, and those of the mask-only probe on the same images.

    Raises:
        MissingFileError, InputError: a file is missing, or holds no network for these data; see `build_classifier`.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    classifiers = {path: build_classifier(config, path) for path in config.checkpoint}
    data = config.data
    data.prepare_data()
    data.setup("fit")
    data.setup(STAGE_OF_SPLIT[config.split])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    runs: dict[str, dict[MaskingMethod, Outcomes]] = {}
    for path, classifier in classifiers.items():
        batches = progress.track(split_batches(data, config.split), description=f"measuring {path}")
        classifier.to(device).eval()
        runs[path] = measure_network(
            classifier, batches_on(batches, device), bank, config.plans, seed=config.seed, layers=config.layers
        )
        classifier.cpu()
    probe = outline_outcomes(
        data, progress.track(split_batches(data, config.split), description="asking the probe"), config.seed
    )
    return runs, probe


def build_classifier(config: EvaluationConfig, path: str) -> MaskRobustClassifier:
    """The classifier of a file, in the colours of its own training, or else of the data.

    Raises:
        MissingFileError, InputError: the file is missing or unreadable, does not fit the architecture, or was trained
            for another number of classes.
    """
    data = config.data
    if config.architecture is None:
        classifier = MaskRobustClassifier.from_checkpoint(path)
    else:
        classifier = MaskRobustClassifier(
            config.architecture,
            data.num_classes,
            architecture_options=config.architecture_options,
            mean=data.mean,
            std=data.std,
            init_weights=path,
        )
    trained_for = int(classifier.hparams["num_classes"])
    if trained_for != data.num_classes:
        raise InputError(
            f"'{path}' was trained for {trained_for} classes but the data have {data.num_classes}; give the data "
            "that it was trained for."
        )
    for method, plan in config.plans.items():
        classifier.predictor(method)
        if plan.features:
            for layer in (None, *config.layers):
                classifier.feature_extractor(method, layer)
    return classifier
