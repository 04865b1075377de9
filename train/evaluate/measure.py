"""What networks answer about the data under every masking method, kept as it comes and shared by all processes."""

import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, count, islice
from operator import length_hint
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.ranks import of_all_ranks
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.lm_modules.reliance.measurement import Answers, Asked, Measurement
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.lm_modules.reliance.scenes import ScenePulls
from maskrobust.train.data import AnnotatedDataModule, EvaluationImages
from maskrobust.train.data.batches import at_numbers, batches_on, numbered_batches, split_batches
from maskrobust.train.data.centring import pictures_to_centre_by
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.evaluate.config import EvaluationConfig
from maskrobust.train.evaluate.partial import Partial
from maskrobust.train.evaluate.unlabelled import answering_itself, predictions_of, relabelled
from maskrobust.train.probe import read_outlines
from maskrobust.train.running.processes import first_of_each_machine_first, from_first, is_first, wait_for_all
from maskrobust.train.storage.files import write_archive
from maskrobust.train.storage.fingerprints import bank_digest
from maskrobust.train.types import Split

Found = TypeVar("Found")

Runs = dict[str, dict[MaskingMethod, Outcomes]]
"""Outcomes by network and masking method."""

SECONDS_A_CHUNK = 30.0
"""How long a process gathers answers before it keeps them; as much is lost where it is stopped."""

_PROBE, _IMAGES, _SCENES, _JOINED = "probe", "images", "scenes", "joined"
"""What is kept: outcomes of the mask-only probe, answers about batches, those about passes of scenes, and all answers
of a network under a masking method."""

_PROBE_FILE, _PIXELS = "probe.npz", "pixels.npz"


def measure(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], partial: Partial, progress: Progress
) -> tuple[Runs, ProbeOutcomes] | None:
    """Ask every network about the split's images, all networks about a batch together.

    Batch i is asked by one of the processes, whole, as one process would ask about it: the answers do not depend on the
    number of processes. They are kept in a folder, and a call that finds some there asks for the others only.

    Args:
        config: what to measure.
        networks: by name, answering with the data's classes; see `load_networks`.
        partial: to keep the answers in until all are there.
        progress: told about every batch.

    Returns:
        Outcomes by network and masking method, and those of the mask-only probe on the same images. Where these have
        no labels, a network's own predictions with nothing hidden stand for them, and the probe is not asked. None on
        all processes but the first.

    Raises:
        InputError: the folder of `partial` is not the same for all processes, or one of them has ended, or it holds
            answers about other objects; or a method is to be centred, and the data have no pictures without objects.
    """
    data, device = config.data, config.torch_device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    classifiers = {name: network.to(device) for name, network in networks.items()}
    with first_of_each_machine_first():
        data.prepare_data()
    data.setup_split(config.split)
    backgrounds = pictures_to_centre_by(data, config.split, config.plans)
    bank = _read_bank(data, config.split)
    partial = replace(partial, settings={**partial.settings, "objects of the data": bank_digest(bank)})
    partial.check()
    if isinstance(data, EvaluationImages) and not data.labelled:
        return _measure_unlabelled(config, data, classifiers, bank, partial, progress)
    probe = _kept_probe(partial, lambda: read_outlines(data, config.split, bank, config.probe_outlines, config.seed))
    runs = _ask(config, classifiers, bank, backgrounds, partial, progress)
    return None if runs is None or probe is None else (runs, probe)


def _read_bank(data: AnnotatedDataModule, split: Split) -> SilhouetteBank:
    """Every object of a split; each process reads a part of the batches."""
    own = [_outlines(batch) for _, batch in _own_batches(data.annotated_batches(split))]
    wait_for_all()
    return SilhouetteBank.from_batches(batch for part in of_all_ranks(own) for batch in part)


def _own_batches(batches: Iterable[Batch]) -> Iterator[tuple[int, Batch]]:
    return numbered_batches(batches, _own_numbers(frozenset(), length_hint(batches)))


def _own_numbers(kept: Set[int], total: int) -> Iterator[int]:
    """The numbers that this process has to find: a run of those up to a total, and every n-th of any beyond it.

    Batches that follow each other lie in one shard, which the other processes then need not read.

    Args:
        kept: numbers that need no finding.
        total: numbers that there are, as far as is known.
    """
    rank, ranks = rank_and_number()
    left = [number for number in range(total) if number not in kept]
    run = left[len(left) * rank // ranks : len(left) * (rank + 1) // ranks]
    beyond = (number for number in count(total) if number not in kept)
    return chain(run, islice(beyond, rank, None, ranks))


def _outlines(batch: Batch) -> Batch:
    """The objects of a batch, without pixels."""
    annotated = batch.object_mask.flatten(1).any(dim=1)
    nothing = batch.images.new_empty(int(annotated.sum()), 0)
    return Batch(batch.ids[annotated], nothing, batch.object_mask[annotated], batch.labels[annotated])


def _kept_probe(partial: Partial, read: Callable[[], ProbeOutcomes]) -> ProbeOutcomes | None:
    """The outcomes of the mask-only probe, which the first process trains where they are not kept already."""
    if not is_first():
        return None
    if not partial.numbers(_PROBE):
        found = read()
        with partial.keep(_PROBE, [0]) as folder:
            found.save(folder / _PROBE_FILE)
    (path,) = partial.files(_PROBE, _PROBE_FILE)
    return ProbeOutcomes.load(path)


class _Work(NamedTuple, Generic[Found]):
    """Numbered things to find, each independent of the others.

    Attributes:
        kind: what they are kept as.
        description: for the progress display.
        total: their number; 0 where it is not known.
        find: finds those with the given ascending numbers, as far as there are any.
        write: writes some of them into a folder.
    """

    kind: str
    description: str
    total: int
    find: Callable[[Iterator[int]], Iterable[tuple[int, Found]]]
    write: Callable[[Path, Sequence[Found]], None]


def _ask(
    config: EvaluationConfig,
    networks: Mapping[str, TrainedNetwork],
    bank: SilhouetteBank,
    backgrounds: Tensor | None,
    partial: Partial,
    progress: Progress,
) -> Runs | None:
    data, device = config.data, config.torch_device
    scenes = data.empty_scenes(config.split, config.scenes) if config.scenes else None
    measurement = Measurement(
        networks,
        bank,
        config.plans,
        num_classes=data.num_classes,
        seed=config.seed,
        object_of=data.object_of,
        scenes=None if scenes is None else scenes.to(device),
        backgrounds=backgrounds,
    )
    batches = split_batches(data, config.split)
    files = {(name, method): f"{list(networks).index(name)}-{method}.npz" for name, method in measurement.asked}

    def ask(numbers: Iterator[int]) -> Iterator[tuple[int, Answers]]:
        for number, batch in numbered_batches(batches, numbers):
            yield number, measurement.ask(batch.to(device))

    def write_answers(folder: Path, found: Sequence[Answers]) -> None:
        for key, file in files.items():
            Outcomes.merge([answers.outcomes[key] for answers in found]).save(folder / file)
        pixels = {str(sample): each.numpy() for answers in found for sample, each in answers.pixels.items()}
        if pixels:
            write_archive(folder / _PIXELS, pixels)

    _share(partial, progress, _Work(_IMAGES, "asking about images", length_hint(batches), ask, write_answers))
    pixels = _read_pixels(partial) if measurement.passes else {}

    def ask_in_scenes(numbers: Iterator[int]) -> Iterator[tuple[int, dict[Asked, ScenePulls]]]:
        for number, rows in at_numbers(measurement.passes, numbers):
            yield number, measurement.ask_in_scenes(rows, pixels)

    def write_pulls(folder: Path, found: Sequence[dict[Asked, ScenePulls]]) -> None:
        for key in found[0]:
            columns = zip(*(pulls[key] for pulls in found), strict=True)
            write_archive(folder / files[key], dict(zip(ScenePulls._fields, map(np.concatenate, columns), strict=True)))

    passes = len(measurement.passes)
    _share(partial, progress, _Work(_SCENES, "asking about scenes", passes, ask_in_scenes, write_pulls))

    def join(numbers: Iterator[int]) -> Iterator[tuple[int, tuple[Asked, Outcomes]]]:
        for number, key in at_numbers(measurement.asked, numbers):
            parts = [Outcomes.load(path) for path in partial.files(_IMAGES, files[key])]
            pulls = [ScenePulls(**read_arrays(path, ScenePulls._fields)) for path in partial.files(_SCENES, files[key])]
            yield number, (key, measurement.outcomes(key, parts, pulls))

    def write_joined(folder: Path, found: Sequence[tuple[Asked, Outcomes]]) -> None:
        for key, outcomes in found:
            outcomes.save(folder / files[key])

    _share(partial, progress, _Work(_JOINED, "probing features", len(measurement.asked), join, write_joined))
    if not is_first():
        return None
    runs: Runs = {name: {} for name in networks}
    for (name, method), file in files.items():
        (path,) = partial.files(_JOINED, file)
        runs[name][method] = Outcomes.load(path)
    return runs


def _share(partial: Partial, progress: Progress, work: _Work[Found]) -> None:
    """Find what is not kept yet, each process its part, and wait until all is there.

    Raises:
        InputError: the first process does not see what another one has kept.
    """
    kept = from_first(partial.numbers(work.kind))
    ranks = rank_and_number()[1]
    numbers = _own_numbers(kept, work.total)
    task = progress.add_task(work.description, total=work.total or None, completed=len(kept))

    def counted() -> Iterator[tuple[int, Found]]:
        for each in work.find(numbers):
            yield each
            progress.advance(task, ranks)

    made: set[int] = set()
    for chunk in _in_chunks(counted()):
        own, found = zip(*chunk, strict=True)
        with partial.keep(work.kind, own) as folder:
            work.write(folder, found)
        made.update(own)
    wait_for_all()
    progress.remove_task(task)
    if kept.union(*of_all_ranks(made)) - from_first(partial.numbers(work.kind)):
        raise InputError(
            f"'{partial.folder}' must be the same folder for all processes, but the first does not see what others "
            "have written there; give an --out that all machines share."
        )


def _in_chunks(found: Iterable[Found]) -> Iterator[list[Found]]:
    """What is found within `SECONDS_A_CHUNK`, together."""
    chunk: list[Found] = []
    start = time.monotonic()
    for each in found:
        chunk.append(each)
        if time.monotonic() - start >= SECONDS_A_CHUNK:
            yield chunk
            chunk, start = [], time.monotonic()
    if chunk:
        yield chunk


def _read_pixels(partial: Partial) -> dict[int, Tensor]:
    """Those of the objects that are shown in scenes, by sample id."""
    found = [read_arrays(path, ()) for path in partial.files(_IMAGES, _PIXELS)]
    return {int(sample): torch.from_numpy(pixels) for each in found for sample, pixels in each.items()}


def _measure_unlabelled(
    config: EvaluationConfig,
    data: EvaluationImages,
    networks: Mapping[str, TrainedNetwork],
    bank: SilhouetteBank,
    partial: Partial,
    progress: Progress,
) -> tuple[Runs, ProbeOutcomes] | None:
    runs: Runs = {}
    for place, (name, network) in enumerate(networks.items()):
        batches = (batch for _, batch in _own_batches(split_batches(data, config.split)))
        seen = predictions_of(network, batches_on(batches, config.torch_device))
        wait_for_all()
        answering, labels = answering_itself(network, dict(ChainMap(*of_all_ranks(seen))))
        labels_of_bank = torch.tensor([labels[each] for each in bank.ids.tolist()])
        own = replace(config, data=relabelled(data, labels))
        answered = {name: answering.to(config.torch_device)}
        part = replace(partial, name=f"network-{place}")
        runs |= _ask(own, answered, replace(bank, labels=labels_of_bank), None, part, progress) or {}
    ids = bank.ids.numpy()
    return (runs, ProbeOutcomes(ids, np.full_like(ids, -1), np.zeros_like(ids))) if is_first() else None
