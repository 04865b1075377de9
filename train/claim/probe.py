"""The mask-only probe of a claim, trained once for its data and kept on disk."""

from lm_modules.reliance import ProbeOutcomes
from train.claim.arm import is_done
from train.claim.config import ClaimConfig, fingerprint
from train.claim.progress import Progress
from train.data.batches import split_batches
from train.files import atomic_path, write_json
from train.probe import outline_outcomes

_PROBE_SEED = 0


def measured_probe(config: ClaimConfig, progress: Progress) -> ProbeOutcomes:
    """What a network that sees nothing but object masks predicts on the split that is measured.

    Trained on the training split's masks, stopped on the validation split's.

    Raises:
        ValueError: the folder holds a probe of other data, or a damaged file.
    """
    folder = config.out / "probe"
    settings = fingerprint([config.content_of("data"), config.evaluation.split, _PROBE_SEED])
    outcomes = folder / "outcomes.npz"
    if not is_done(folder / "probe.json", settings, [outcomes]):
        progress.start_probe()
        with atomic_path(outcomes) as path:
            outline_outcomes(config.data, split_batches(config.data, config.evaluation.split), _PROBE_SEED).save(path)
        write_json(folder / "probe.json", {"fingerprint": settings})
    return ProbeOutcomes.load(outcomes)
