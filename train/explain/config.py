"""What `maskrobust explain` explains: which networks and images, under which masking methods, by which explainers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from maskrobust.errors import InputError, check_at_least, check_distinct
from maskrobust.lm_modules.explanation.explanation_plan import ExplanationPlan
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Precision
from maskrobust.train.command_line import PARSER_OPTIONS, Parser, as_list, parse_with_data
from maskrobust.train.data_options import AnnotatedDataModule, GivenVisible, Split
from maskrobust.train.running.processes import find_device

Segmentation = Literal["slic", "quickshift", "patches"]
_SMALLEST_IMAGE = 32

QUICK_PATCHES = 7
"""Patches to a side of the image where no size is given."""

_QUICK = {
    "plan": {"explainers": ["lime"], "samples": 128},
    "segments": ["patches"],
    "patch_size": None,
    "max_images": 5,
}
"""Options of `explain --quick`, over which those on the command line win."""

QUICK = (
    f"quick: LIME alone, with 128 queries and {QUICK_PATCHES} x {QUICK_PATCHES} patches as segments, for at most 5 "
    "images of data; occlusion and other segments are left out unless an option asks for them"
)
"""What `explain --quick` leaves out, in words."""


@dataclass(frozen=True)
class ExplainConfig:
    """What to explain.

    Attributes:
        network: names of the networks; they have the same classes.
        images: image files, and folders of them; none where data are given.
        data: where the images come from otherwise, instantiated.
        visible: which pixels of files may be seen; see `train.data.files.reading.Reading`.
        out: folder for the report, explanations.npz, explanations.json and explanations.csv, which are
            replaced where an earlier call has written them, as `evaluate` and `masks` do.
        methods: masking methods to explain the networks under.
        plan: how images are explained; see `ExplanationPlan`.
        segments: slic, quickshift and patches.
        patch_size: side of the segments named patches, in pixels; null: a seventh of the image's side.
        targets: classes to explain: top3 (or any other number) for the likeliest of the first network, or names or
            numbers of classes.
        classes: file that maps each class of the data to an output, as in `evaluate --classes`. By default the class's
            own name is looked up.
        image_size: side in pixels of the square at the centre of each image that is explained, at least 32.
        split: which split of the data to use. By default test if there is one, else val.
        max_images: number of images of the data, from the first on.
        preprocess: preprocessing of all networks, in place of that of their weights, as in `evaluate --preprocess`.
        device: device to compute on, such as cpu, cuda or cuda:1. By default the first GPU, or the CPU if there is
            none.
        precision: "32" for float32, or "bf16" for bfloat16 (autocast).
        seed: seed of queries and random fills.
        quick: a first look; `QUICK` says what is left out.
    """

    network: list[str]
    images: list[Path]
    data: AnnotatedDataModule | None
    out: Path
    visible: GivenVisible | None = None
    methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking")
    plan: ExplanationPlan = field(default_factory=ExplanationPlan)
    segments: tuple[Segmentation, ...] = ("slic",)
    patch_size: int | None = 16
    targets: str | list[str | int] = "top3"
    classes: Path | None = None
    image_size: int = 224
    split: Split | None = None
    max_images: int = 20
    preprocess: dict[str, Any] | None = None
    device: str | None = None
    precision: Precision = "32"
    seed: int = 0
    quick: bool = False

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest classes are explained; None where classes are named."""
        return int(self.targets[3:]) if isinstance(self.targets, str) else None


def parse_config(arguments: Sequence[str]) -> ExplainConfig:
    """Parse and check the arguments of `maskrobust explain`; the command line wins over every `--config`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain.
    """
    parser = Parser(prog="maskrobust explain", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument(
        "--network", type=list[str] | str, required=True, help="the network to explain, or several: '[a, b]'"
    )
    parser.add_argument(
        "--images", type=list[Path] | Path | None, help="an image, a folder of images, or several: '[a, b]'"
    )
    parser.add_class_arguments(ExplainConfig, skip={"network", "images", "data", "quick", "visible"})
    parser.add_argument("--quick", action="store_true", help=f"a first look: {QUICK.removeprefix('quick: ')}")
    given, _ = parse_with_data(parser, arguments, optional=True, quick=_QUICK)
    for name in ("network", "images"):
        given[name] = as_list(given[name])
    if given["data"] is not None:
        given["split"] = given["split"] or ("test" if "test" in given["data"].splits else "val")
    config = ExplainConfig(**given)
    _check(config)
    return config


def _check(config: ExplainConfig) -> None:
    if bool(config.images) == (config.data is not None):
        raise InputError(
            "explain takes its pictures from images or from data, got "
            f"{'both' if config.images else 'neither'}; give one of them."
        )
    if config.data is None and config.classes:
        raise InputError("--classes is about the classes of data, got --images; give --data.")
    check_at_least("max_images", config.max_images, 1)
    for name in ("network", "plan.explainers", "segments", "targets"):
        check_distinct(name, as_list(attrgetter(name)(config)))
    check_methods(config.methods, "methods")
    Preprocessing().with_changes(config.preprocess or {})
    if config.patch_size is not None:
        check_at_least("patch_size", config.patch_size, 1)
    check_at_least("image_size", config.image_size, _SMALLEST_IMAGE)
    check_at_least("seed", config.seed, 0)
    stride, window = config.plan.window_stride, config.plan.window
    if not stride <= window <= config.image_size:
        raise InputError(
            f"stride <= window <= image_size is expected, got {stride}, {window} and {config.image_size}; change them."
        )
    if isinstance(config.targets, str) and not re.fullmatch(r"top[1-9]\d{0,2}", config.targets):
        raise InputError(
            f"targets must be top3, or another number of the likeliest, or a list of classes, got '{config.targets}'; "
            f"name classes as in '[{config.targets}]'."
        )
    find_device(config.device)
