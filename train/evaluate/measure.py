"""What networks answer about the data under every masking method."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from rich.progress import Progress

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import measure_networks
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.trained_network import TrainedNetwork
from maskrobust.train.data import EvaluationImages
from maskrobust.train.data.batches import STAGE_OF_SPLIT, batches_on, split_batches
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.unlabelled import answering_itself, relabelled
from maskrobust.train.probe import read_outlines


def measure(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], progress: Progress
) -> tuple[dict[str, dict[MaskingMethod, Outcomes]], ProbeOutcomes]:
    """Ask every network about the split's images, all networks about a batch together.

    Args:
        config: what to measure.
        networks: by name, answering with the data's classes; see `load_networks`.
        progress: told about every batch.

    Returns:
        Outcomes by network and masking method, and those of the mask-only probe on the same images. Where these have
        no labels, a network's own predictions with nothing hidden stand for them, and the probe is not asked.
    """
    data = config.data
    classifiers = {name: network.to(config.torch_device) for name, network in networks.items()}
    data.prepare_data()
    data.setup(STAGE_OF_SPLIT[config.split])
    if isinstance(data, EvaluationImages) and not data.labelled:
        return _measure_unlabelled(config, data, classifiers, progress)
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    probe = read_outlines(data, config.split, bank, config.probe_outlines, config.seed)
    return _ask(config, classifiers, bank, progress), probe


def _ask(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], bank: SilhouetteBank, progress: Progress
) -> dict[str, dict[MaskingMethod, Outcomes]]:
    data, device = config.data, config.torch_device
    scenes = data.empty_scenes(config.split, config.scenes) if config.scenes else None
    batches = progress.track(split_batches(data, config.split), description=f"measuring {len(networks)} networks")
    return measure_networks(
        networks,
        batches_on(batches, device),
        bank,
        config.plans,
        num_classes=data.num_classes,
        seed=config.seed,
        object_of=data.object_of,
        scenes=None if scenes is None else scenes.to(device),
        track_pairs=partial(progress.track, description="measuring in empty scenes"),
    )


def _measure_unlabelled(
    config: EvaluationConfig, data: EvaluationImages, networks: Mapping[str, TrainedNetwork], progress: Progress
) -> tuple[dict[str, dict[MaskingMethod, Outcomes]], ProbeOutcomes]:
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    runs: dict[str, dict[MaskingMethod, Outcomes]] = {}
    for name, network in networks.items():
        batches = batches_on(split_batches(data, config.split), config.torch_device)
        answering, labels = answering_itself(network, batches)
        labels_of_bank = torch.tensor([labels[each] for each in bank.ids.tolist()])
        own = replace(config, data=relabelled(data, labels))
        runs |= _ask(own, {name: answering.to(config.torch_device)}, replace(bank, labels=labels_of_bank), progress)
    ids = bank.ids.numpy()
    return runs, ProbeOutcomes(ids, np.full_like(ids, -1), np.zeros_like(ids))
