"""Ask the networks of an evaluation about the data under every masking method.

Answers are kept as they come, and shared by all processes.
"""

import time
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, fields, replace
from functools import partial
from importlib.metadata import version
from itertools import chain, count, islice
from operator import length_hint
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from rich.progress import Progress

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.augment.batch import check_all_known, first_images
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.arrays import check_finite, read_arrays
from maskrobust.lm_modules.reliance.holes.scenes import SceneLogits
from maskrobust.lm_modules.reliance.measurement import Measurement, NetworkAndMethod, Plans, under_methods
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import INVERTED, WITHOUT_OBJECTS
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.data.batches import (
    at_numbers,
    batches_on,
    numbered_batches,
    scenes_to_ask_about,
)
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.evaluate.config import QUICK, QUICK_IMAGES, EvaluationConfig
from maskrobust.train.networks import load_for, read_classes, select_data_outputs
from maskrobust.train.probe import read_outlines
from maskrobust.train.running.processes import first_of_each_machine_first, gathered, is_first
from maskrobust.train.running.progress import stage
from maskrobust.train.storage.files import read_json, write_archive, write_json
from maskrobust.train.storage.provenance import bank_digest, fingerprint, network_fingerprint, own_code
from maskrobust.train.storage.store import Store
from maskrobust.train.types import Split

Found = TypeVar("Found")

SECONDS_A_CHUNK = 30.0
"""How long answers are gathered before they are kept; as much is lost where a process is killed."""

Runs = dict[str, dict[MaskingMethod, Outcomes]]
"""Outcomes by network and masking method."""

_NUMBERS, _PROBE = "numbers.json", "probe.npz"
_WITHOUT_INFLUENCE = ("data", "data_options", "network", "plan", "out", "device", "replicates")


def load(config: EvaluationConfig) -> dict[str, TrainedNetwork]:
    """Every network by its name, its first classes being those of the data, in label order.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or does not know the data's classes, or cannot be
            asked what the configuration asks.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    given = None if config.classes is None else read_classes(config.classes)
    networks = {}
    for name in config.network:
        networks[name] = load_for(
            name, config.data, config.precision, preprocess=config.preprocess, are_outputs_given=given is not None
        )
        under_methods({name: networks[name]}, config.plans)  # which refuses what layer masking cannot read
    for name, network in networks.items():
        selected = select_data_outputs(network, config.data, given, only=config.answers == "present")
        networks[name] = selected.configured(pass_size=config.data.batch_size if config.compile else None)
    return networks


class Answered(NamedTuple):
    """What networks and probe answered about a split.

    Attributes:
        runs: the networks' outcomes.
        probe: outcomes of the mask-only probe on the same images; None where no image has an object mask, or the plan
            has no shapes.
        plans: what the networks were asked under each masking method.
        class_names: names of the classes of each network's outcomes, in label order, where images have no labels; for
            outputs without names their numbers. Empty where the classes are those of the data.
    """

    runs: Runs
    probe: ProbeOutcomes | None
    plans: Plans
    class_names: Mapping[str, Sequence[str]] = {}


def settings_of(config: EvaluationConfig, networks: Mapping[str, TrainedNetwork]) -> dict[str, Any]:
    """All that the answers of networks follow from, as plain values by name.

    Args:
        config: the configuration of the evaluation.
        networks: the networks, by name.
    """
    plain = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in _WITHOUT_INFLUENCE}
    plan, options = config.plan, config.data_options
    own = (*config.methods, *plan.transfer_families, *plan.own_measures)
    arguments = {name: value for name, value in options.get("init_args", {}).items() if name != "num_workers"}
    return {
        **plain,
        **{f"plan.{name}": value for name, value in asdict(plan).items()},
        "data": {**options, "init_args": arguments},
        "network": [[name, network_fingerprint(each)] for name, each in networks.items()],  # files number them
        "code of your own": own_code([*own, options.get("class_path", "")]),
        "device": config.torch_device.type,
        "maskrobust version": version("maskrobust"),
        "torch version": torch.__version__,
    }


def ask(
    config: EvaluationConfig,
    networks: Mapping[str, TrainedNetwork],
    data: AnnotatedDataModule,
    store: Store,
    progress: Progress,
) -> Answered | None:
    """Ask every network about the split's images, all networks about a batch together.

    Batch i is asked by one of the processes, whole, as one process would ask about it: the answers do not depend on the
    number of processes. Those that take long are kept in a folder, and a call that finds some there asks for the others
    only.

    Args:
        config: what to measure.
        networks: the networks by name; their outputs are the data's classes, as from `load`.
        data: whose split is measured.
        store: where answers are kept until all are there.
        progress: told about every batch.

    Returns:
        Outcomes by network and masking method, those of the mask-only probe on the same images, and what was asked.
        Where no image has an object mask, all that needs some is left out, which one line says. Where images have no
        labels, a network's own predictions with nothing hidden stand for them, and the probe is not asked. None on all
        processes but the first.

    Raises:
        InputError: the folder of `store` holds answers about other objects; or a process has ended.
    """
    device = config.torch_device
    if device.type == "cuda":
        torch.cuda.set_device(device)
    on_device = {name: network.to(device) for name, network in networks.items()}
    store.check()
    with first_of_each_machine_first():
        data.prepare_data()
    data.setup_split(config.split)
    with stage(progress, "reading object masks"):
        bank = _read_bank(data, config.split)
    if bank is not None and bank.seem_inverted():
        rank_zero_warn(INVERTED)
    of_data = {"objects of the data": bank and bank_digest(bank)}
    of_data["list of images"] = fingerprint(data.listed(config.split))  # also of those without an object
    store = replace(store, settings={**store.settings, **of_data})
    store.check()
    if config.quick:
        rank_zero_info(QUICK)
    if bank is None:
        rank_zero_info(f"{config.split}: {WITHOUT_OBJECTS}")
        config = replace(config, plan=config.plan.without_objects())
    if not data.num_classes:
        return _ask_unlabelled(config, on_device, data, bank, store, progress)
    probe = None
    if is_first() and bank is not None and config.plan.shapes:
        with stage(progress, "training the mask-only probe"):
            if (kept := store.get(_PROBE)) is not None:
                probe = ProbeOutcomes.load(kept / _PROBE)
            else:
                begun = time.monotonic()
                probe = read_outlines(data, config.split, bank, config.seed)
                if time.monotonic() - begun >= SECONDS_A_CHUNK:
                    store.get_or_make(_PROBE, lambda folder: probe.save(folder / _PROBE))
    runs = _ask(config, on_device, data, bank, store, progress)
    return None if runs is None else Answered(runs, probe, config.plans)


def _read_bank(data: AnnotatedDataModule, split: Split) -> SilhouetteBank | None:
    """Every object of a split, None for none; each process reads a part of the batches."""
    own = [_outlines(batch) for _, batch in _own_batches(data.annotated_batches(split))]
    found = [batch for part in gathered(own) for batch in part if len(batch.ids)]
    return SilhouetteBank.from_batches(found) if found else None


def _own_batches(batches: Iterable[Batch]) -> Iterator[tuple[int, Batch]]:
    return numbered_batches(batches, _own_numbers(frozenset(), range(length_hint(batches))))


def _own_numbers(kept: Set[int], wanted: range) -> Iterator[int]:
    """The numbers that this process has to find: a run of those that are wanted, and every n-th of any beyond them.

    Batches that follow each other lie in one shard, which the other processes then need not read.

    Args:
        kept: numbers that need no finding.
        wanted: numbers of batches that are wanted. With step 1, all beyond its end are wanted, too, as many as there
            are. With a larger step none beyond it is.
    """
    rank, ranks = rank_and_number()
    left = [number for number in wanted if number not in kept]
    run = left[len(left) * rank // ranks : len(left) * (rank + 1) // ranks]
    beyond = (number for number in count(wanted.stop) if number not in kept) if wanted.step == 1 else iter(())
    return chain(run, islice(beyond, rank, None, ranks))


def _outlines(batch: Batch) -> Batch:
    """The objects of a batch, without pixels."""
    annotated = batch.object_mask.flatten(1).any(dim=1)
    nothing = batch.images.new_empty(int(annotated.sum()), 0)
    return Batch(batch.ids[annotated], nothing, batch.object_mask[annotated], batch.labels[annotated])


def _ask(
    config: EvaluationConfig,
    networks: Mapping[str, TrainedNetwork],
    data: AnnotatedDataModule,
    bank: SilhouetteBank | None,
    store: Store,
    progress: Progress,
    kind: str = "",
) -> Runs | None:
    """Outcomes of all networks, on the first process; `kind` begins the names of what is kept."""
    device = config.torch_device
    measurement = Measurement(
        under_methods(networks, config.plans),
        bank,
        data.num_classes,
        seed=config.seed,
        object_of=data.object_of,
        scenes=scenes_to_ask_about(data, config.split, config.plans.values(), device),
    )
    batches = data.whole_split(config.split)
    files = {(name, method): f"{[*networks].index(name)}-{method}.npz" for name, method in measurement.asked}

    def ask_about(numbers: Iterator[int]) -> Iterator[tuple[int, dict[NetworkAndMethod, Outcomes]]]:
        return ((number, measurement.ask(batch.to(device))) for number, batch in numbered_batches(batches, numbers))

    def write_answers(folder: Path, found: Sequence[dict[NetworkAndMethod, Outcomes]]) -> None:
        for key, file in files.items():
            Outcomes.merge([answers[key] for answers in found]).save(folder / file)

    def read_answers(folder: Path) -> dict[NetworkAndMethod, Outcomes]:
        return {key: Outcomes.load(folder / file) for key, file in files.items()}

    def ask_in_scenes(numbers: Iterator[int]) -> Iterator[tuple[int, dict[NetworkAndMethod, SceneLogits]]]:
        return ((number, measurement.ask_in_scenes(rows)) for number, rows in at_numbers(measurement.passes, numbers))

    def write_in_scenes(folder: Path, found: Sequence[dict[NetworkAndMethod, SceneLogits]]) -> None:
        for key in found[0]:
            columns = zip(*(each[key] for each in found), strict=True)
            write_archive(
                folder / files[key], dict(zip(SceneLogits._fields, map(np.concatenate, columns), strict=True))
            )

    def read_in_scenes(folder: Path) -> dict[NetworkAndMethod, SceneLogits]:
        paths = {key: folder / file for key, file in files.items()}
        return {
            key: SceneLogits(**read_arrays(path, SceneLogits._fields)) for key, path in paths.items() if path.exists()
        }

    share = partial(_share, store, progress)
    total = length_hint(batches)
    if config.quick and not total:  # of an unknown number, the first ones
        batches = first_images(batches, QUICK_IMAGES)
    every = max(1, -(-total // (QUICK_IMAGES // data.batch_size or 1))) if config.quick else 1
    wanted = range(0, total, every)
    about_images = share(f"{kind}images", "asking about images", wanted, ask_about, write_answers, read_answers)
    passes = range(len(measurement.passes))
    in_scenes = share(f"{kind}scenes", "asking about scenes", passes, ask_in_scenes, write_in_scenes, read_in_scenes)
    if not is_first():
        return None
    found = measurement.joined(about_images, in_scenes)
    return {name: {method: found[name, method] for method in config.plans} for name in networks}


def _share(
    store: Store,
    progress: Progress,
    kind: str,
    description: str,
    wanted: range,
    find: Callable[[Iterator[int]], Iterable[tuple[int, Found]]],
    write: Callable[[Path, Sequence[Found]], None],
    read: Callable[[Path], Found],
) -> list[Found]:
    """Find numbered things that are not kept yet, each process its part.

    They stay in memory, and are kept as well each time that `SECONDS_A_CHUNK` have passed.

    Args:
        store: where they are kept.
        progress: told about each.
        kind: what they are kept as.
        description: text for the progress display.
        wanted: their numbers; empty where these are not known.
        find: finds those with the given ascending numbers, as far as there are any.
        write: writes some of them into a folder.
        read: reads a folder of them.

    Returns:
        All of them, those that were kept before as one for each folder.
    """
    folders = gathered(_folders(store, kind))[0]
    kept = {number for folder in folders for number in read_json(folder / _NUMBERS)} if is_first() else set[int]()
    kept = gathered(kept)[0]
    ranks = rank_and_number()[1]
    task = progress.add_task(description, total=len(wanted) or None, completed=len(kept))

    def keep(chunk: Sequence[tuple[int, Found]]) -> None:
        own, some = zip(*chunk, strict=True)

        def write_chunk(folder: Path) -> None:
            write(folder, some)
            write_json(folder / _NUMBERS, own)

        store.get_or_make(f"{kind}-{own[0]:06d}", write_chunk)

    found, chunk, since = list[Found](), list[tuple[int, Found]](), time.monotonic()
    for each in find(_own_numbers(kept, wanted)):
        found.append(each[1])
        chunk.append(each)
        if time.monotonic() - since >= SECONDS_A_CHUNK:
            keep(chunk)
            chunk, since = [], time.monotonic()
        progress.advance(task, ranks)
    progress.remove_task(task)
    of_all = [each for own in gathered(found) for each in own]
    return [*map(read, folders if is_first() else ()), *of_all]


def _folders(store: Store, kind: str) -> list[Path]:
    return [folder for folder in sorted(store.root.glob(f"{kind}-*")) if store.get(folder.name) is not None]


def _predictions_of(network: TrainedNetwork, batches: Iterable[Batch]) -> dict[int, int]:
    """The output that a network gives for images (on its device) with nothing hidden, by sample id.

    Raises:
        InputError: its logits are not finite, or pixels hold no data.
    """
    seen: dict[int, int] = {}
    with torch.inference_mode():
        for batch in batches:
            check_all_known(batch, "evaluate without labels")
            logits = network(batch.images)
            check_finite(logits, network.name, "pictures with nothing hidden")
            seen |= zip(batch.ids.tolist(), logits.argmax(dim=1).tolist(), strict=True)
    return seen


def _ask_unlabelled(
    config: EvaluationConfig,
    networks: Mapping[str, TrainedNetwork],
    data: AnnotatedDataModule,
    bank: SilhouetteBank | None,
    store: Store,
    progress: Progress,
) -> Answered | None:
    """As `ask`: the classes of a network are those that it sees in some image with nothing hidden, its own labels."""
    runs: Runs = {}
    class_names: dict[str, Sequence[str]] = {}
    for place, (name, network) in enumerate(networks.items()):
        batches = (batch for _, batch in _own_batches(data.whole_split(config.split)))
        seen = _predictions_of(network, batches_on(batches, config.torch_device))
        seen = dict(ChainMap(*gathered(seen)))
        outputs = sorted(set(seen.values()))
        labels = {each: outputs.index(output) for each, output in seen.items()}
        own_bank = bank and replace(bank, labels=torch.tensor([labels[each] for each in bank.ids.tolist()]))
        names = network.class_names or tuple(map(str, range(network.num_classes)))
        others = sorted(set(range(network.num_classes)).difference(outputs))
        class_names[name] = [names[output] for output in (*outputs, *others)]
        own = {name: network.select_outputs(outputs).to(config.torch_device)}
        runs |= _ask(config, own, data.relabelled(labels), own_bank, store, progress, f"{place}-") or {}
    if not is_first():
        return None
    ids = None if bank is None else bank.ids.numpy()
    probe = None if ids is None else ProbeOutcomes(ids, np.full_like(ids, -1), np.zeros_like(ids))
    return Answered(runs, probe, config.plans, class_names)
