"""Ask the networks of an evaluation about the data under every masking method, on all processes together."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from operator import itemgetter, length_hint
from typing import NamedTuple, TypeVar

import torch
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from rich.progress import Progress

from maskrobust.augment import Batch, HoleBank, SilhouetteBank
from maskrobust.augment.batch import first_images
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.hole_reader import HolesRead, read_holes
from maskrobust.lm_modules.reliance.measurement import Plans, under_methods
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import INVERTED, WITHOUT_HOLES, WITHOUT_OBJECTS
from maskrobust.train.data import AnnotatedDataModule
from maskrobust.train.data.batches import at_numbers, numbered_batches
from maskrobust.train.data.loading import rank_and_number
from maskrobust.train.data_options import Split
from maskrobust.train.evaluate.config import QUICK, QUICK_IMAGES, EvaluationConfig
from maskrobust.train.evaluate.kept import answer_store, ask_once
from maskrobust.train.networks import load_networks, measurement_of
from maskrobust.train.running.processes import first_of_each_machine_first, gathered, gathered_by_first, is_first
from maskrobust.train.running.progress import stage
from maskrobust.train.storage.provenance import digest

Found = TypeVar("Found")

Runs = dict[str, dict[MaskingMethod, Outcomes]]
"""Outcomes by network and masking method."""


def load(config: EvaluationConfig) -> dict[str, TrainedNetwork]:
    """Every network by its name, its first classes being those of the data, in label order.

    Raises:
        MissingFileError, InputError: a network cannot be loaded, or does not know the data's classes, or cannot be
            asked what the configuration asks.
        UnsupportedNetworkError: layer masking cannot read a network.
    """
    networks = load_networks(
        config.network,
        config.data,
        config.precision,
        classes=config.classes,
        only_present=config.answers == "present",
        preprocess=config.preprocess,
        of_pixels=config.of_pixels,
    )
    under_methods(networks, config.plans)  # which refuses what layer masking cannot read
    return networks


class Answered(NamedTuple):
    """What networks answered about a split.

    Attributes:
        runs: the networks' outcomes.
        plans: what the networks were asked under each masking method.
        own: the holes that the images bring along; None where they have none, or the plan does not ask about them.
        holes: what these holes alone tell of the class; likewise.
        left_out: what was left out, in words.
    """

    runs: Runs
    plans: Plans
    own: HoleBank | None = None
    holes: HolesRead | None = None
    left_out: tuple[str, ...] = ()


def ask(config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], progress: Progress) -> Answered | None:
    """Ask every network about the split's images, all networks about a batch together.

    Batch i is asked by one of the processes, whole, as one process would ask about it: the answers do not depend on the
    number of processes. They are kept on disk, and taken from there by a later call; see `kept`.

    Args:
        config: what to measure.
        networks: the networks by name; their outputs are the data's classes, as from `load`.
        progress: told about every batch.

    Returns:
        Outcomes by network and masking method, and what was asked. Where no image has an object mask, all that needs
        some is left out, which one line says unless images have holes of their own. None on all processes but the
        first.

    Raises:
        InputError: processes have different data, or a process has ended.
    """
    data, on_device = config.data, set_up(config, networks)
    with stage(progress, "reading object masks"):
        bank = _read_bank(data, config.split)
    if bank is not None and bank.seem_inverted():
        rank_zero_warn(INVERTED)
    left_out = []
    if config.quick:
        rank_zero_info(QUICK)
        left_out.append(QUICK)
    if bank is None:
        config = replace(config, plan=config.plan.without_objects())
    own = None
    if config.plan.own_holes:
        with stage(progress, "reading holes"):
            own, may_hide = _read_holes(config)
        if own is None:
            config = replace(config, plan=replace(config.plan, own_holes=0))
            left_out += [WITHOUT_HOLES] * may_hide
    if bank is None and own is None:
        rank_zero_info(f"{config.split}: {WITHOUT_OBJECTS}")
        left_out.append(WITHOUT_OBJECTS)
    holes = None
    if is_first() and own is not None:
        with stage(progress, "reading holes alone"):
            holes = read_holes(own, config.seed)
    runs = _ask(config, on_device, bank, own, progress)
    return None if runs is None else Answered(runs, config.plans, own, holes, tuple(left_out))


def set_up(config: EvaluationConfig, networks: Mapping[str, TrainedNetwork]) -> dict[str, TrainedNetwork]:
    """The networks on the device, once the data are there and set up for the split, alike on all processes."""
    device, data = config.torch_device, config.data
    if device.type == "cuda":
        torch.cuda.set_device(device)
    on_device = {name: network.to(device) for name, network in networks.items()}
    with first_of_each_machine_first():
        data.prepare_data()
    data.setup_split(config.split)
    _check_alike(on_device, data.whole_split(config.split))
    return on_device


def _check_alike(networks: Mapping[str, TrainedNetwork], batches: Iterable[Batch]) -> None:
    """Refuse processes whose networks or number of batches differ."""
    own = {name: digest(network.state_dict()) for name, network in networks.items()}
    if gathered((own, length_hint(batches)))[0] != (own, length_hint(batches)):
        raise InputError(
            "every process must have the same networks and images, but this one has others than the first; call each "
            "alike, and give networks of your own their weights in a file."
        )


def _read_bank(data: AnnotatedDataModule, split: Split) -> SilhouetteBank | None:
    """Every object of a split, None for none; each process reads a part of the batches."""
    batches = numbered_batches(data.annotated_batches(split), _own_part(range(sys.maxsize)))
    own = [(number, _outlines(batch)) for number, batch in batches]
    found = [batch for batch in _in_order(own) if len(batch.ids)]
    return SilhouetteBank.from_batches(found) if found else None


def _read_holes(config: EvaluationConfig) -> tuple[HoleBank | None, bool]:
    """The holes of the images that are asked about, None for none, and whether the data may hide pixels at all."""
    batches, wanted, _ = _asked_batches(config)
    own = []
    for number, batch in numbered_batches(batches, _own_part(wanted)):
        if batch.visible is None:  # of data that hide no pixel, no batch has one
            break
        nothing = batch.images.new_empty(len(batch.ids), 0)
        own.append((number, Batch(batch.ids, nothing, batch.visible, batch.labels, batch.visible)))
    found = _in_order(own)
    return HoleBank.from_batches(found, config.data.object_of) if found else None, bool(found)


def _asked_batches(config: EvaluationConfig) -> tuple[Iterable[Batch], range, int | None]:
    """The batches of the split, the numbers of those to ask about, and how many these are, None where not known."""
    batches: Iterable[Batch] = config.data.whole_split(config.split)
    total = length_hint(batches)
    if config.quick and not total:  # of an unknown number, the first ones
        batches = first_images(batches, QUICK_IMAGES)
    every = max(1, -(-total // (QUICK_IMAGES // config.data.batch_size or 1))) if config.quick else 1
    wanted = range(0, total or sys.maxsize, every)
    return batches, wanted, len(wanted) if total else None


def _own_part(numbers: range) -> range:
    """Every n-th of some numbers, for this one of n processes."""
    rank, ranks = rank_and_number()
    return numbers[rank::ranks]


def _in_order(
    own: Iterable[tuple[int, Found]],
    gather: Callable[[list[tuple[int, Found]]], list[list[tuple[int, Found]]]] = gathered,
) -> list[Found]:
    """What all processes have found, by its numbers, where it is gathered."""
    found = [each for of_one in gather([*own]) for each in of_one]
    return [each for _, each in sorted(found, key=itemgetter(0))]


def _outlines(batch: Batch) -> Batch:
    """The objects of a batch, without pixels."""
    annotated = batch.object_mask.flatten(1).any(dim=1)
    nothing = batch.images.new_empty(int(annotated.sum()), 0)
    return Batch(batch.ids[annotated], nothing, batch.object_mask[annotated], batch.labels[annotated])


def about_batches(config: EvaluationConfig, progress: Progress, ask_about: Callable[[Batch], Found]) -> list[Found]:
    """What is found about each batch, in order, on the first process; each asks about its part.

    Args:
        config: what is measured; its data are set up.
        progress: told about every batch.
        ask_about: asks about a batch on the CPU.
    """
    batches, wanted, count = _asked_batches(config)
    images = _shown(progress, numbered_batches(batches, _own_part(wanted)), "asking about images", count)
    return _in_order(((number, ask_about(batch)) for number, batch in images), gathered_by_first)


def _shown(
    progress: Progress, found: Iterable[tuple[int, Found]], description: str, count: int | None
) -> Iterator[tuple[int, Found]]:
    task = progress.add_task(description, total=count)
    for each in found:
        yield each
        progress.advance(task, rank_and_number()[1])
    progress.remove_task(task)


def _ask(
    config: EvaluationConfig, networks: Mapping[str, TrainedNetwork], bank: SilhouetteBank | None,
    own: HoleBank | None, progress: Progress,
) -> Runs | None:  # fmt: skip
    """Outcomes of all networks, on the first process."""
    device, data = config.torch_device, config.data
    measurement = measurement_of(networks, config.plans, bank, data, config.split, config.seed, device, own)
    store = answer_store(config, networks, bank, own)
    about_images = about_batches(config, progress, lambda batch: ask_once(store, measurement, config, batch))
    passes = range(len(measurement.passes))
    own_passes = at_numbers(measurement.passes, _own_part(passes))
    scenes = _shown(progress, own_passes, "asking about scenes", len(passes))
    in_scenes = _in_order(((number, measurement.ask_in_scenes(rows)) for number, rows in scenes), gathered_by_first)
    if not is_first():
        return None
    found = measurement.joined(about_images, in_scenes)
    return {name: {method: found[name, method] for method in config.plans} for name in networks}
