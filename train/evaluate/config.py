"""What `maskrobust evaluate` measures: which networks, on which data, under which masking methods."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from maskrobust.errors import InputError, check_distinct
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Precision
from maskrobust.lm_modules.reliance.catalogue import import_measures
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.train.command_line import PARSER_OPTIONS, Parser, as_list, parse_with_data
from maskrobust.train.data_options import AnnotatedDataModule, Split
from maskrobust.train.running.processes import find_device
from maskrobust.train.running.tracking import WandbOptions

FULL_PLAN = ReliancePlan(
    curve_families=("patches", "slic"),
    transfer_families=("patches", "rectangles", "blobs", "slic", "silhouettes"),
    scenes=24,
    own_holes=2,
)
"""What is asked by default: every kind of measure."""

QUICK_IMAGES = 512
"""Largest number of images of `evaluate --quick`."""

_QUICK = {"plan": {"curve_families": [], "transfer_families": [], "scenes": 0}}
"""Options of `evaluate --quick`, over which those on the command line win."""

QUICK = (
    f"quick: at most {QUICK_IMAGES} images; further hidden fractions (curves), other mask families "
    "and empty scenes are left out unless an option asks for them"
)
"""What `evaluate --quick` leaves out, in words."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        data: where the images come from, instantiated.
        out: folder for reliance.json, reliance.csv and report.html, which are replaced where an earlier call has
            written them.
        network: names of the networks to measure, as `load_network` takes them. The others are compared with the first.
        classes: file that maps each class of the data, by its name, to the index, WordNet id or class name of an
            output. By default the class's own name is looked up.
        answers: which outputs can be predicted: "all" (one without a class of the data counts as wrong), or only those
            of classes that are "present" in the data.
        preprocess: preprocessing of all networks, in place of that of their weights: any of size, interpolation, mean,
            std, as in {size: 224}.
        device: device to compute on, such as cpu, cuda or cuda:1. By default a GPU for each process, or the CPU if
            there is none.
        precision: "32" for float32, or "bf16" for bfloat16 (autocast).
        methods: masking methods to test the networks under.
        split: which split to use. By default test if the data have it, else val.
        plan: what is measured under each masking method; see `ReliancePlan`.
        seed: seed of holes.
        predictions: whether to write predictions.csv, with each network's prediction for each image.
        wandb: whether to log to Weights & Biases, offline when nobody is logged in; or how, as in --wandb.project NAME.
            Without a project and a group, in those of the first network's training.
        quick: a first look, at images spread over the split; `QUICK` says what is left out.
        data_options: how `data` was made, its class_path and init_args; empty where that is not known.
    """

    data: AnnotatedDataModule
    out: Path
    network: list[str]
    classes: Path | None = None
    answers: Literal["all", "present"] = "all"
    preprocess: dict[str, Any] | None = None
    device: str | None = None
    precision: Precision = "32"
    methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking")
    split: Split = "test"
    plan: ReliancePlan = FULL_PLAN
    seed: int = 0
    predictions: bool = False
    wandb: bool | WandbOptions = False
    quick: bool = False
    data_options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def torch_device(self) -> torch.device:
        """The device of this process: of several on one machine, each has a GPU of its own unless one is named.

        Raises:
            InputError: there is no such device.
        """
        return find_device(self.device)

    @cached_property
    def of_pixels(self) -> bool:
        """Whether the networks classify pixels.

        Raises:
            InputError: some do, and others do not; or an option is given that is about classes of whole images.
        """
        from maskrobust.lm_modules.loading import segmenter_of  # here: the help does without

        kinds = [segmenter_of(name) is not None for name in self.network]
        if not any(kinds):
            return False
        if not all(kinds):
            raise InputError(
                f"networks to compare must all classify pixels, or none, but '{self.network[kinds.index(True)]}' does "
                f"and '{self.network[kinds.index(False)]}' does not; evaluate them apart."
            )
        of_images = [name for name in ("quick", "preprocess", "predictions") if getattr(self, name)]
        defaults = vars(FULL_PLAN) | {"hidden_fractions": self.plan.hidden_fractions}
        of_images += [f"plan.{name}" for name, value in vars(self.plan).items() if value != defaults[name]]
        if of_images:
            raise InputError(
                f"a network that classifies pixels is evaluated by methods and plan.hidden_fractions, got "
                f"{of_images[0]}, which is for networks that classify images; leave that out."
            )
        return True

    @cached_property
    def plans(self) -> dict[MaskingMethod, ReliancePlan]:
        """What is asked under each masking method; see `ReliancePlan.under`."""
        return {method: self.plan.under(method) for method in self.methods}


def parse_config(arguments: Sequence[str]) -> EvaluationConfig:
    """Parse and check the arguments of `maskrobust evaluate`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, or no data are named.
    """
    parser = Parser(prog="maskrobust evaluate", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(EvaluationConfig, skip={"data", "data_options", "network", "split", "quick"})
    parser.add_argument(
        "--network",
        type=list[str] | str,
        required=True,
        help="a network to measure, such as a.ckpt, resnet50:IMAGENET1K_V2, timm/resnet50.a1_in1k:pretrained, "
        "resnet50:weights.safetensors or my_module.MyNet:weights.pt, or several: '[a.ckpt, b.ckpt]'",
    )
    parser.add_argument(
        "--split", type=Split | None, help="which split to use; by default test where there is one, else val"
    )
    parser.add_argument("--quick", action="store_true", help=f"a first look: {QUICK.removeprefix('quick: ')}")
    given, given_data = parse_with_data(parser, arguments, quick=_QUICK, per_pixel=True)
    given["split"] = given["split"] or ("test" if "test" in given["data"].splits else "val")
    given["network"] = as_list(given["network"])
    config = EvaluationConfig(**given, data_options=given_data)
    if config.data.labels_pixels and not config.of_pixels:
        from maskrobust.train.data.base import check_labelled  # here: the help does without

        check_labelled(config.data, "a network that classifies images")
    if config.quick:  # which asks about whole batches
        config.data.batch_size = min(config.data.batch_size, QUICK_IMAGES)
    check_distinct("network", config.network)
    Preprocessing().with_changes(config.preprocess or {})
    _ = config.torch_device  # refuses one that is not there
    import_measures(config.plan.own_measures)
    check_methods(config.methods, "methods")
    return config
