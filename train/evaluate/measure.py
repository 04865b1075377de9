"""What networks answer about the data under every masking method."""

from collections.abc import Mapping

from rich.progress import Progress

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.measurement import measure_networks
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.trained_network import TrainedNetwork
from maskrobust.train.data.batches import STAGE_OF_SPLIT, batches_on, split_batches
from maskrobust.train.evaluate.config import EvaluationConfig
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
        Outcomes by network and masking method, and those of the mask-only probe on the same images.
    """
    data, device = config.data, config.torch_device
    classifiers = {name: network.to(device) for name, network in networks.items()}
    data.prepare_data()
    data.setup(STAGE_OF_SPLIT[config.split])
    bank = SilhouetteBank.from_batches(split_batches(data, config.split))
    probe = read_outlines(data, config.split, bank, config.probe_outlines, config.seed)
    scenes = data.empty_scenes(config.split, config.scenes) if config.scenes else None
    batches = progress.track(split_batches(data, config.split), description=f"measuring {len(classifiers)} networks")
    runs = measure_networks(
        classifiers,
        batches_on(batches, device),
        bank,
        config.plans,
        num_classes=data.num_classes,
        seed=config.seed,
        object_of=data.object_of,
        scenes=None if scenes is None else scenes.to(device),
    )
    return runs, probe
