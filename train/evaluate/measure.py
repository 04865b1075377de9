"""Networks from files, and what they answer under every masking method."""

import torch
from rich.progress import Progress

from augment import SilhouetteBank
from lm_modules import MaskRobustClassifier, Predictor
from lm_modules.reliance import Outcomes, ProbeOutcomes, RelianceSuite
from train.data.batches import STAGE_OF_SPLIT, batches_on, split_batches
from train.evaluate.config import EvaluationConfig
from train.probe import outline_outcomes


def measure(config: EvaluationConfig, progress: Progress) -> tuple[dict[str, dict[str, Outcomes]], ProbeOutcomes]:
    """Ask every network about the split's images.

    Args:
        config: what to measure.
        progress: told about every batch.

    Returns:
        Outcomes by checkpoint and masking method, and those of the mask-only probe on the same images.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or holds no network for these data; see `build_classifier`.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    classifiers = {path: build_classifier(config, path) for path in config.checkpoint}
    data = config.data
    data.prepare_data()
    data.setup("fit")
    data.setup(STAGE_OF_SPLIT[config.split])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    runs = {}
    for path, classifier in classifiers.items():
        suite = RelianceSuite(
            bank,
            data.num_classes,
            seed=config.seed,
            patch_size=config.patch_size,
            hidden_fractions=config.hidden_fractions,
        )
        classifier.to(device).eval()
        predictors: dict[str, Predictor] = {method: classifier.predictor(method) for method in config.methods}
        batches = progress.track(split_batches(data, config.split), description=f"measuring {path}")
        for batch in batches_on(batches, device):
            suite.update(predictors, batch)
        classifier.cpu()
        runs[path] = suite.outcomes()
    probe = outline_outcomes(
        data, progress.track(split_batches(data, config.split), description="asking the probe"), config.seed
    )
    return runs, probe


def build_classifier(config: EvaluationConfig, path: str) -> MaskRobustClassifier:
    """The classifier of a file, in the colours of its own training, or else of the data.

    Raises:
        FileNotFoundError, ValueError: the file is missing or unreadable, does not fit the architecture, or was trained
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
        raise ValueError(
            f"'{path}' was trained for {trained_for} classes but the data have {data.num_classes}; give the data "
            "that it was trained for."
        )
    for method in config.methods:
        classifier.predictor(method)
    return classifier
