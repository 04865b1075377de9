"""The mask-only probe of a claim, trained once for its data and kept on disk."""

import torch

from maskrobust.lm_modules.reliance.probe import ProbeOutcomes, probe_outcomes
from maskrobust.train.claim.config import ClaimConfig, fingerprint
from maskrobust.train.claim.locks import run_lock
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.runs import is_done
from maskrobust.train.data.batches import split_batches
from maskrobust.train.files import atomic_path, write_json
from maskrobust.train.probe import train_outline_probe

_PROBE_SEED = 0


def measured_probe(config: ClaimConfig, progress: Progress) -> ProbeOutcomes:
    """What a network that sees nothing but object masks predicts on the split that is measured.

    Trained on the training split's masks, stopped on the validation split's.

    Raises:
        InputError: the folder holds a probe of other data, or a damaged file.
    """
    folder = config.out / "probe"
    settings = fingerprint([config.content_of("data"), config.evaluation.split, _PROBE_SEED])
    outcomes = folder / "outcomes.npz"
    record = folder / "probe.json"
    if not is_done(record, settings, [outcomes]):
        what = "the mask-only probe"
        with run_lock(config.out / "probe.lock", what, on_wait=lambda: progress.start_waiting(what)):
            if not is_done(record, settings, [outcomes]):  # another process may have made it meanwhile
                progress.start_probe()
                probe = train_outline_probe(config.data, _PROBE_SEED)
                with torch.inference_mode(), atomic_path(outcomes) as path:
                    probe_outcomes(probe, split_batches(config.data, config.evaluation.split)).save(path)
                write_json(record, {"fingerprint": settings})
    return ProbeOutcomes.load(outcomes)
