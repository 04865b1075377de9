"""Networks from files, and what they answer under every masking method."""

import torch
from rich.progress import Progress

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import check_plans, measure_networks
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.train.data.batches import STAGE_OF_SPLIT, batches_on, split_batches
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.probe import read_outlines


def measure(
    config: EvaluationConfig, progress: Progress
) -> tuple[dict[str, dict[MaskingMethod, Outcomes]], ProbeOutcomes]:
    """Ask every network about the split's images, all networks about a batch together.

    Args:
        config: what to measure.
        progress: told about every batch.

    Returns:
        Outcomes by checkpoint and masking method, and those of the mask-only probe on the same images.

    Raises:
        MissingFileError, InputError: a file is missing, or holds no network for these data; see `build_classifier`.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classifiers = {path: build_classifier(config, path).to(device).eval() for path in config.checkpoint}
    data = config.data
    data.prepare_data()
    data.setup(STAGE_OF_SPLIT[config.split])
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    probe = read_outlines(data, config.split, bank, config.probe_outlines, config.seed)
    batches = progress.track(split_batches(data, config.split), description=f"measuring {len(classifiers)} networks")
    return measure_networks(classifiers, batches_on(batches, device), bank, config.plans, seed=config.seed), probe


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
    check_plans(classifier, config.plans)
    return classifier
