"""Keep what networks answer about each batch, so that an evaluation that was stopped goes on."""

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from maskrobust.augment import Batch, HoleBank, SilhouetteBank
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.measurement import Measurement, NetworkAndMethod
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.storage.provenance import device_name, digest, fingerprint
from maskrobust.train.storage.store import Store

KEPT = ".maskrobust-answers"
"""Folder below that of an evaluation, which is removed where the evaluation ends: no name that a user would choose."""


def answer_store(
    config: EvaluationConfig,
    networks: Mapping[str, TrainedNetwork],
    bank: SilhouetteBank | None,
    own: HoleBank | None,
) -> Store:
    """Where answers are kept that follow from all of this, and from a batch.

    Args:
        config: what is asked, where and how.
        networks: who is asked, by name.
        bank: the objects of the split; None for none.
        own: the holes of the split; None for none.
    """
    names = ("classes", "answers", "preprocess", "precision", "split", "seed", "plans")
    settings = {name: str(getattr(config, name)) for name in names} | {
        "versions": f"{version('maskrobust')}, {torch.__version__}, {device_name(config.torch_device)}",
        "networks": {name: _all_of(network) for name, network in networks.items()},
        "banks": [None if each is None else digest(vars(each)) for each in (bank, own)],
    }
    return Store(config.out / KEPT / fingerprint(settings), settings)


def _all_of(network: TrainedNetwork) -> str:
    """Its layers, their code, how pictures are shown to it, and all weights, with buffers that files leave out."""
    files = sorted({inspect.getfile(type(each)) for each in network.modules()})
    code = fingerprint([Path(file).read_bytes().hex() for file in files])
    return f"{network} {code} {network.preprocessing} {digest(dict(network.named_buffers()) | network.state_dict())}"


def folder_of(store: Store, config: EvaluationConfig, batch: Batch, make: Callable[[Batch, Path], object]) -> Path:
    """The folder with what everyone answers about a batch, made where the batch was not asked about already.

    Args:
        store: that of `answer_store`.
        config: whose data have loaded the batch, and on whose device the networks are.
        batch: on the CPU.
        make: asks about the batch, on that device, and writes the answers into a folder.
    """
    tensors = {name: each for name, each in batch._asdict().items() if each is not None}
    key = digest({**tensors, "objects": config.data.object_of(batch.ids)})
    return store.get_or_make(key, lambda folder: make(batch.to(config.torch_device), folder))


def ask_once(
    store: Store, measurement: Measurement[NetworkAndMethod], config: EvaluationConfig, batch: Batch
) -> dict[NetworkAndMethod, Outcomes]:
    """What everyone answers about a batch, from the store if the batch was asked about already.

    Args:
        store: that of `answer_store`.
        measurement: asks the networks.
        config: as of `folder_of`.
        batch: on the CPU.
    """
    files = {name: f"{number}.npz" for number, name in enumerate(measurement.asked)}

    def make(on_device: Batch, folder: Path) -> None:
        for name, outcomes in measurement.ask(on_device).items():
            outcomes.save(folder / files[name])

    folder = folder_of(store, config, batch, make)
    return {name: Outcomes.load(folder / file) for name, file in files.items()}
