"""`RelianceCallback`, which measures reliance on outlines on validation images during training, in any `Trainer`.

A `Trainer`, module, data module or callback may also be one of the package `lightning`, which has its own classes.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from maskrobust.augment import Batch, HoleBank, SilhouetteBank, fold_in, object_holes, sample_keys
from maskrobust.augment.batch import first_images, first_objects
from maskrobust.augment.families.bank import one_object_each
from maskrobust.errors import InputError, check_at_least, did_you_mean
from maskrobust.lm_modules.callbacks.logged_pictures import define_metric, draw_grid, is_a, log_picture, log_table
from maskrobust.lm_modules.methods import MaskingMethod, check_methods, illustrate
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from maskrobust.lm_modules.reliance.catalogue import Context, catalogue, import_measures
from maskrobust.lm_modules.reliance.holes.conditions import FILL_STREAM, HOLE_STREAM
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes, EmptySceneSource
from maskrobust.lm_modules.reliance.measurement import Measurement, result_rows, under_methods
from maskrobust.lm_modules.reliance.measures.accuracy import at_chance
from maskrobust.lm_modules.reliance.plan import INVERTED, WITHOUT_OBJECTS, ReliancePlan
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.processes import of_all_ranks
from maskrobust.lm_modules.training.training_masks import SilhouetteSource

_NAME = "the network"
_PAIRS = 2
_PART = 32  # images that one process asks about together: the default 1000 keep 32 of them busy

TABLE_COLUMNS = ("epoch", "method", "measure", "value", "low", "high", "images", "left_out")
"""Columns of the table in Weights & Biases, which has a row for each measure, masking method and measured epoch."""


class RelianceCallback(pl.Callback):
    """Measures how far a network relies on the outline of a hole, every few epochs, and logs it, in any `Trainer`.

    After a validation epoch it asks the network about the validation images of a data module of annotated images, 32
    of a batch in one process. Every logger gets, under ``reliance/<method>/`` and with the ends of 95 % intervals over
    images as ``_low`` and ``_high``, those measures of the catalogue that are for a training (`in_training`) and that
    the plan allows. A measure that is undefined is not logged. Where objects are hidden, Weights & Biases and
    TensorBoard get a picture of what the network was shown, too; Weights & Biases gets the rows of all epochs so far as
    one table, and of each measure that has a goal the best value in its summary. Where no training image has an object
    mask, what needs some is left out, and one line says so; another says of an epoch that its measures mean nothing,
    where accuracy with nothing hidden is no better than chance. Where images have holes of their own, these are
    exchanged for those of training images, and the pull of own holes is logged. With `scenes` in the plan, shapes of
    training objects are cut into empty scenes of the validation split: a pass for each shape in each picture.

    Training goes on as it would without: holes depend on (seed, sample id) alone, and the random state, gradients and
    the mode of every layer are left as they are. For each method a measured image costs 5 forward passes with the
    default plan, and five more where images have holes of their own; each curve adds one for each of its fractions
    above 0.

    Args:
        methods: masking methods to ask the network under.
        network: of the module that is trained. The path of an attribute, such as "net": a module that takes images
            normalised by the data's `mean` and `std`, and returns a logit for each class of the data. Or a function
            that takes the `LightningModule` and returns a `TrainedNetwork`, for another preprocessing or other outputs;
            give that `channels_last=False` to leave the weights' memory format as it is. None for the network of a
            `MaskRobustClassifier`.
        data: data module to measure on, such as `maskrobust.train.data.Folder`; None for the trainer's own. It yields
            `Batch`es of images in [0, 1], not normalised, with object masks.
        plan: what to ask; by default what `ReliancePlan` does, and about own holes where images have some (own_holes
            2).
        every_n_epochs: epochs between two measurements, at least 1; the last epoch of each group is measured.
        max_images: validation images to measure on, over all processes; of files evenly spread over the split, else the
            first ones.
        max_objects: training objects whose silhouettes are swapped in; of files evenly
            spread over the split, else the first ones.
        pictures: validation images to show; 0 for none.
        seed: decides the holes.

    Raises:
        InputError: a method is unknown, a number is below its minimum, or `data` has no `annotated_batches`.
    """

    def __init__(
        self,
        methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking"),
        *,
        network: str | Callable[[pl.LightningModule], TrainedNetwork] | None = None,
        data: pl.LightningDataModule | None = None,
        plan: ReliancePlan | None = None,
        every_n_epochs: int = 1,
        max_images: int = 1000,
        max_objects: int = 4000,
        pictures: int = 4,
        seed: int = 0,
    ) -> None:
        check_methods(methods, "methods")
        if data is not None:
            _check_source(data)
        numbers = {"every_n_epochs": every_n_epochs, "max_images": max_images, "max_objects": max_objects}
        for name, number in numbers.items():
            check_at_least(name, number, 1)
        self.methods = tuple(methods)
        self.network, self.data = network, data
        self.plan = plan or ReliancePlan(own_holes=_PAIRS)
        import_measures(self.plan.own_measures)
        self.every_n_epochs, self.max_images, self.max_objects = every_n_epochs, max_images, max_objects
        self.pictures, self.seed = pictures, seed
        self._usable_plan: ReliancePlan | None = None
        self._bank: SilhouetteBank | None = None
        self._own: HoleBank | None = None
        self._scenes: EmptyScenes | None = None
        self._rows: list[list[Any]] = []

    @property
    def state_key(self) -> str:
        """Tells callbacks for different methods apart in a checkpoint."""
        return self._generate_state_key(methods=self.methods)

    def state_dict(self) -> dict[str, Any]:
        """The rows of the table so far, so that a resumed run goes on with it."""
        return {"rows": self._rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of a checkpoint."""
        self._rows = [*state_dict["rows"]]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Get the data ready where they are not the trainer's.

        Raises:
            InputError: a callback that averages weights comes first, or see `check`.
        """
        check_order(self, trainer, stage)
        self.check(pl_module, getattr(trainer, "datamodule", None))
        if self.data is not None:
            if trainer.local_rank == 0:
                self.data.prepare_data()
            trainer.strategy.barrier(f"{type(self.data).__name__}.setup")
            self.data.setup("fit")

    def check(self, module: pl.LightningModule, data: Any) -> None:
        """Refuse data and a network that it cannot ask.

        Args:
            module: what is trained.
            data: the trainer's data.

        Raises:
            InputError: the data lend no training objects, or the module has no such network.
        """
        data = data if self.data is None else self.data
        _check_source(data)
        if not callable(self.network) and (self.network is not None or not isinstance(module, MaskRobustClassifier)):
            self._named_network(module, data)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the network about the images where this epoch is to be measured, and log what it answered.

        Raises:
            InputError: the data module lends no training objects, or has no scenes though the plan asks about some,
                or the network is not found or does not answer with the data's classes.
            UnsupportedNetworkError: layer masking is asked for and cannot read the network.
        """
        is_due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 or trainer.state.fn != TrainerFn.FITTING
        if trainer.sanity_checking or not is_due:
            return
        data: Any = self.data if self.data is not None else getattr(trainer, "datamodule", None)
        _check_source(data)
        network = self._network_of(pl_module, data)
        if self._usable_plan is None:
            self._usable_plan = self._prepare(data, pl_module.device)
        plans = {method: self._usable_plan.under(method) for method in self.methods}
        asked = under_methods({_NAME: network}, plans)
        object_of = getattr(data, "object_of", one_object_each)
        measurement = Measurement(
            asked, self._bank, network.num_classes, seed=self.seed, object_of=object_of, scenes=self._scenes,
            own=self._own,
        )  # fmt: skip
        own_answers = []
        with isolate_rng():
            some = getattr(data, "some_images", None)
            images = some("val", self.max_images) if some else first_images(data.val_dataloader(), self.max_images)
            parts = (
                batch.select(slice(first, first + _PART))
                for batch in images
                for first in range(0, len(batch.ids), _PART)
            )
            for number, batch in enumerate(parts):
                if number % trainer.world_size != trainer.global_rank:
                    continue
                on_device = batch.to(pl_module.device)
                own_answers.append(measurement.ask(on_device))
                if number == 0 and self.pictures > 0 and self._bank is not None and self.plan.shapes:
                    shown = on_device.select(slice(self.pictures))
                    picture = draw_panel(shown, self.methods, network.preprocessing.mean, self.seed)
                    caption = " | ".join(("image", *self.methods))
                    log_picture(trainer.loggers, "reliance/shown", picture, caption, trainer.global_step)
        answers = [each for of_rank in of_all_ranks(own_answers) for each in of_rank]
        passes = measurement.passes[trainer.global_rank :: trainer.world_size]
        of_scenes = of_all_ranks([measurement.ask_in_scenes(rows) for rows in passes])
        in_scenes = [each for of_rank in of_scenes for each in of_rank]
        for place, ((_, method), outcomes) in enumerate(measurement.joined(answers, in_scenes).items()):
            if place == 0 and (reason := at_chance(outcomes)):
                rank_zero_info(
                    f"RelianceCallback: the measures of epoch {trainer.current_epoch} mean nothing: {reason}"
                )
            rows = result_rows(
                "", method, {0: outcomes}, Context(plans[method]), wanted=lambda measure: measure.in_training
            )
            for row in (each for each in rows if each.value is not None):
                self._log(row, trainer, pl_module)
        log_table(trainer.loggers, "reliance/rows", TABLE_COLUMNS, self._rows)

    def _log(self, row: Row, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log a defined measure with the ends of its interval, and keep it for the table."""
        named = replace(row, measure=row.name)
        self._rows.append([trainer.current_epoch, *(getattr(named, name) for name in TABLE_COLUMNS[1:])])
        for end, value in {"": row.value, "_low": row.low, "_high": row.high}.items():
            if value is not None:
                name = f"reliance/{row.method}/{row.name}{end}"
                if name not in trainer.callback_metrics:  # not logged yet, and so not defined
                    goal = "none" if end else catalogue()[row.measure].goal
                    define_metric(trainer.loggers, name, goal=goal, hidden=end != "")
                # every process has the same value, and the mean over processes leaves it so
                module.log(name, value, batch_size=1, sync_dist=True)

    def _network_of(self, module: pl.LightningModule, data: Any) -> TrainedNetwork:
        """The network that is trained, as it is measured."""
        if self.network is None and isinstance(module, MaskRobustClassifier):
            return module.trained_network()
        if callable(self.network):
            return self.network(module)
        found, shown = self._named_network(module, data)
        if self._usable_plan is None:
            rank_zero_info(
                f"RelianceCallback: '{self.network}' is shown images normalised as those of {type(data).__name__}, by "
                f"mean {shown.mean} and std {shown.std}"
            )
        return TrainedNetwork(_NAME, found, shown, data.num_classes, channels_last=False)

    def _named_network(self, module: pl.LightningModule, data: Any) -> tuple[nn.Module, Preprocessing]:
        """The module of that path, as it is, and how images are shown to it."""
        kind = type(module).__name__
        if not isinstance(self.network, str):
            raise InputError(
                f"RelianceCallback needs the network that {kind} trains, got none; name its attribute, as in "
                "RelianceCallback(network='net'), or give a function that takes the module and returns a "
                "maskrobust.TrainedNetwork."
            )
        found = dict(module.named_modules()).get(self.network)
        if found is None:
            raise InputError(
                f"network must be the path of a module in {kind}, got '{self.network}'"
                f"{did_you_mean(self.network, dict(module.named_children()))}; choose one of "
                f"{', '.join(name for name, _ in module.named_children()) or 'its named_modules()'}."
            )
        missing = [name for name in ("num_classes", "mean", "std") if not hasattr(data, name)]
        if missing:
            raise InputError(
                f"the data to measure on must say num_classes, mean and std, but {type(data).__name__} lacks "
                f"{' and '.join(missing)}; give data of maskrobust.train.data, or network as a function."
            )
        return found, Preprocessing(tuple(data.mean), tuple(data.std))

    def _prepare(self, source: SilhouetteSource, device: torch.device) -> ReliancePlan:
        """Collect holes and silhouettes, with gradients and a random state of their own.

        Returns:
            What can be asked.
        """
        with isolate_rng(), torch.inference_mode(False), torch.enable_grad():
            plan = self._with_own_holes(source)
            some, count = getattr(source, "some_objects", None), self.max_objects
            annotated = [*(some("train", count) if some else first_objects(source.annotated_batches("train"), count))]
            if not any(batch.object_mask.any() for batch in annotated):
                rank_zero_info(f"RelianceCallback: {WITHOUT_OBJECTS}")
                return plan.without_objects()
            self._bank = SilhouetteBank.from_batches(annotated)
            if self._bank.seem_inverted():
                rank_zero_warn(f"RelianceCallback: {INVERTED}")
            if self.plan.scenes:
                self._scenes = self._read_scenes(source, device)
        return plan

    def _with_own_holes(self, source: SilhouetteSource) -> ReliancePlan:
        """Collect the holes that training images lend; the plan without own holes where no image has one."""
        if self.plan.own_holes:
            some = getattr(source, "some_images", None)
            count = self.max_objects
            images = some("train", count) if some else first_images(source.annotated_batches("train"), count)
            found = [*itertools.takewhile(lambda batch: batch.visible is not None, images)]
            self._own = HoleBank.from_batches(found, getattr(source, "object_of", one_object_each)) if found else None
        return self.plan if self._own is not None else replace(self.plan, own_holes=0)

    def _read_scenes(self, source: object, device: torch.device) -> EmptyScenes:
        scenes = source.empty_scenes("val", self.plan.scenes) if isinstance(source, EmptySceneSource) else None
        if scenes is None:
            raise InputError(
                f"the plan asks about {self.plan.scenes} scenes, but {type(source).__name__} has no empty "
                "scenes; set scenes to 0, or give data whose empty_scenes returns some."
            )
        return scenes._replace(images=scenes.images.to(device))


def _check_source(data: Any) -> None:
    if not isinstance(data, SilhouetteSource):
        given = f"'{data}'" if isinstance(data, str) else type(data).__name__
        raise InputError(
            "the reliance callback needs a data module with annotated_batches() to take silhouettes from, got "
            f"{given}; give one of maskrobust.train.data as data, or train with it."
        )


def check_order(callback: pl.Callback, trainer: pl.Trainer, stage: str) -> None:
    """Refuse to measure at the end of a validation after a callback that has taken averaged weights away by then.

    Raises:
        InputError: there is such a callback.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set, but not declared
    first = next((each for each in callbacks if is_a("WeightAveraging", each)), None)
    if stage == "fit" and first is not None and callbacks.index(first) < callbacks.index(callback):
        raise InputError(
            f"{type(callback).__name__} must come before {type(first).__name__} in the trainer's callbacks, or it "
            "measures other weights than those of the validation, got it after; put it first."
        )


def draw_panel(batch: Batch, methods: Sequence[MaskingMethod], mean: Sequence[float], seed: int) -> Tensor:
    """Images, and beside each what `illustrate` shows of it with its object hidden along the outline.

    Args:
        batch: a row for each of its images.
        methods: a column for each, after that of the images.
        mean: C values, for the fill "mean".
        seed: seed of the suite, which then hides the very same pixels and draws the very same fills.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    keys = sample_keys(seed, batch.ids)
    visible = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask).silhouette_visible
    fill_keys = fold_in(keys, FILL_STREAM)
    shown = [illustrate(method, batch.images, visible, fill_keys, mean) for method in methods]
    return draw_grid(torch.stack([batch.images, *shown], dim=1).flatten(0, 1), columns=1 + len(shown))
