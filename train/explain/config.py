"""What `maskrobust explain` explains: which networks and images, under which masking methods, by which explainers."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.answers import Scale
from maskrobust.lm_modules.explanation.plan import Design, ExplainerName, ExplanationPlan, JudgingPlan
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Precision
from maskrobust.train.arguments import DATA_HELP, PARSER_OPTIONS, check_labelled
from maskrobust.train.running.devices import find_device
from maskrobust.train.types import AnnotatedDataModule, Split

_SUPERPIXELS_AND_PATCHES = ("slic", "quickshift", "patches")
_SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class ExplainConfig:
    """What to explain.

    Attributes:
        network: names of the networks; they have the same classes.
        images: image files, and folders of them; none where data are given.
        data: where the images come from otherwise, instantiated.
        out: folder of explanations.npz, explanations.json, explanations.csv, scores.csv, report.html, overlays and of
            one file for each finished image.
        methods: masking methods to ask the networks under.
        explainers: lime, kernel_shap; occlusion, by square windows; leave_one_out, occlusion segment by segment; rise;
            or one of your own, named after its module as in my_module.my_explainer.
        segments: slic, quickshift, patches, or the file of a label map (PNG or npy) of the images' size, whose numbers
            from 0 say to which segment a pixel belongs.
        samples: queries of an image under each masking method and segmentation, behind each explainer that draws them;
            for the balanced design a power of two, at least twice the number of segments.
        design: how queries are drawn. balanced, a Hadamard design; independent, each segment for itself; paper, that of
            Balasubramanian and Feizi, 512 independent ones with everything visible first, and their superpixels.
        visible_share: fraction of the segments that a query shows, or a range [low, high] of which each independent
            query draws its own; by default half to all for independent queries, half for the others.
        scale: of the answers that are explained: probability, logit, or log_odds; by default probability for the
            paper's design, log_odds for the others.
        classes: top3 (or any other number), the likeliest of the first network for the whole image; or names or numbers
            of classes.
        image_size: side in pixels of the square at the centre of each image that is explained, at least 32.
        patch_size: side of a patch in pixels.
        window: side of a window of occlusion in pixels.
        stride: pixels between two windows.
        batch_size: queries in a forward pass, which bounds the memory.
        split: of the data, by default test where there is one, else val.
        max_images: of the data, from the first on.
        judge: measure how good the explanations of the data's images are: deletion and insertion, fidelity, stability,
            agreement, localisation of the object, and decoys. The class that is explained is the image's own.
        stability_seeds: explanations from so many seeds tell how stable they are; 1 leaves it out. Two tell the same on
            average as more do, which only narrow the interval, at a full explanation each.
        top_k: of how many segments with the highest scores the answer is taken, without them and of them alone.
        fill_colours: also judge how far explanations under eight constant colours agree, at eight explanations more.
        planted_cue: also judge explanations of pictures into which a texture was pasted that changes the prediction, at
            one explanation more under each masking method.
        own_judges: measures of explanations of your own, each named after its module as in my_module.my_judge.
        outputs: file that names the output of each class of the data, as `evaluate --classes` takes it; by default
            outputs are found by the classes' names.
        preprocess: in place of what a network's weights say, of all networks, as `evaluate --preprocess` takes it.
        replicates: bootstrap resamples behind each interval of a measure.
        device: to compute on, such as cpu, cuda or cuda:1; by default the first GPU, or the CPU where there is none.
        precision: "32", or "bf16" to compute the networks under autocast.
        seed: of queries and random fills.
    """

    network: list[str]
    images: list[Path]
    data: AnnotatedDataModule | None
    out: Path
    methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking")
    explainers: tuple[ExplainerName, ...] = ("lime", "kernel_shap", "occlusion")
    segments: tuple[str, ...] = ("slic", "patches")
    samples: int = 1024
    design: Design = "independent"
    visible_share: float | tuple[float, float] | None = None
    scale: Scale | None = None
    classes: str | list[str | int] = "top3"
    image_size: int = 224
    patch_size: int = 32
    window: int = 32
    stride: int = 16
    batch_size: int = 64
    split: Split | None = None
    max_images: int = 20
    judge: bool = False
    stability_seeds: int = JudgingPlan.stability_seeds
    top_k: tuple[int, ...] = JudgingPlan.top_k
    fill_colours: bool = JudgingPlan.fill_colours
    planted_cue: bool = JudgingPlan.planted_cue
    own_judges: tuple[str, ...] = JudgingPlan.own_judges
    outputs: Path | None = None
    preprocess: dict[str, Any] | None = None
    replicates: int = 2000
    device: str | None = None
    precision: Precision = "32"
    seed: int = 0

    @property
    def plan(self) -> ExplanationPlan:
        """What is asked about an image under each masking method."""
        return ExplanationPlan(**{each.name: getattr(self, each.name) for each in fields(ExplanationPlan)})

    @property
    def judging(self) -> JudgingPlan:
        """How explanations are judged."""
        return JudgingPlan(**{each.name: getattr(self, each.name) for each in fields(JudgingPlan)})

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest classes are explained; None where classes are named."""
        return int(self.classes[3:]) if isinstance(self.classes, str) else None


def parse_config(arguments: Sequence[str]) -> ExplainConfig:
    """Parse and check the arguments of `maskrobust explain`; the command line wins over every `--config`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain.
    """
    first = argparse.ArgumentParser(add_help=False, **PARSER_OPTIONS)
    first.add_argument("--config", action="append", default=[])
    configs, others = first.parse_known_args(arguments)
    parser = _parser(with_data=bool(configs.config) or any(re.match(r"--data\b", each) for each in others))
    given = vars(parser.instantiate(parser.parse_args([*(f"--config={each}" for each in configs.config), *others])))
    del given["config"]
    for name in ("network", "images"):
        value = given[name]
        given[name] = value if isinstance(value, list) else [] if value is None else [value]
    if given["data"] is not None:
        check_labelled(given["data"], parser.prog)
        given["split"] = given["split"] or ("test" if "test" in given["data"].splits else "val")
    config = ExplainConfig(**given)
    _check(config)
    return config


def _parser(*, with_data: bool) -> ArgumentParser:
    """All options; data modules, whose import takes seconds, where there may be some."""
    parser = ArgumentParser(prog="maskrobust explain", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument("--config", action="config", help="YAML with any options below; a shipped name or a path")
    parser.add_argument(
        "--network", type=list[str] | str, required=True, help="the network to explain, or several: '[a, b]'"
    )
    parser.add_argument(
        "--images", type=list[Path] | Path | None, help="an image, a folder of images, or several: '[a, b]'"
    )
    if with_data:
        from maskrobust.train import data

        parser.add_subclass_arguments(data.AnnotatedDataModule, "data", help=DATA_HELP)
    else:
        parser.add_argument("--data", help=DATA_HELP)
    parser.add_class_arguments(ExplainConfig, skip={"network", "images", "data"})
    return parser


def _check(config: ExplainConfig) -> None:
    if bool(config.images) == (config.data is not None):
        raise InputError(
            "explain takes its pictures from images or from data, got "
            f"{'both' if config.images else 'neither'}; give one of them."
        )
    if config.judge and config.data is None:
        raise InputError("--judge needs images with object masks and classes, got --images; give --data.")
    if config.outputs is not None and config.data is None:
        raise InputError("--outputs names the outputs of the data's classes, got --images; give --data.")
    for name in ("max_images", "replicates"):
        check_at_least(name, getattr(config, name), 1)
    for name in ("network", "methods", "explainers", "segments", "classes"):
        values = getattr(config, name)
        if not values:
            raise InputError(f"{name} must name at least one, got none; give one or more.")
        if not isinstance(values, str) and len(set(values)) < len(values):
            raise InputError(f"{name} must be different, got {', '.join(map(str, values))}; name each once.")
    check_methods(config.methods, "methods")
    Preprocessing().with_changes(config.preprocess or {})
    check_at_least("patch_size", config.patch_size, 1)
    check_at_least("image_size", config.image_size, _SMALLEST_IMAGE)
    check_at_least("seed", config.seed, 0)
    if not config.stride <= config.window <= config.image_size:
        raise InputError(
            f"stride <= window <= image_size is expected, got {config.stride}, {config.window} and "
            f"{config.image_size}; change them."
        )
    if isinstance(config.classes, str) and not re.fullmatch(r"top[1-9]\d{0,2}", config.classes):
        raise InputError(
            f"classes must be top3, or another number of the likeliest, or a list of classes, got '{config.classes}'; "
            f"name classes as in '[{config.classes}]'."
        )
    _ = config.plan, config.judging  # refuse what cannot be asked
    find_device(config.device)
    for name in config.segments:
        if config.data is not None and name not in _SUPERPIXELS_AND_PATCHES:
            raise InputError(
                f"a label map belongs to images of --images, got '{name}' with --data; choose from "
                f"{', '.join(_SUPERPIXELS_AND_PATCHES)}."
            )
        if name not in _SUPERPIXELS_AND_PATCHES and not Path(name).is_file():
            raise InputError(
                f"segments must be {', '.join(_SUPERPIXELS_AND_PATCHES)} or the file of a label map, got '{name}'; "
                "choose one."
            )
