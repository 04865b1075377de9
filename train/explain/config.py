"""What `maskrobust explain` explains: which networks and images, under which masking methods, by which explainers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from jsonargparse import ArgumentParser

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.answers import Scale
from maskrobust.lm_modules.explanation.plan import Design, ExplainerName, ExplanationPlan
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.train.arguments import PARSER_OPTIONS

_SUPERPIXELS_AND_PATCHES = ("slic", "quickshift", "patches")
_SMALLEST_IMAGE = 32


@dataclass(frozen=True)
class ExplainConfig:
    """What to explain.

    Attributes:
        network: names of the networks; they have the same classes.
        images: image files, and folders of them.
        out: folder of explanations.npz, explanations.json, explanations.csv, scores.csv, report.html, overlays and of
            one file for each finished image.
        methods: masking methods to ask the networks under.
        explainers: lime, kernel_shap; occlusion, by square windows; leave_one_out, occlusion segment by segment; rise.
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
        seed: of queries and random fills.
    """

    network: list[str]
    images: list[Path]
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
    seed: int = 0

    @property
    def plan(self) -> ExplanationPlan:
        """What is asked about an image under each masking method."""
        return ExplanationPlan(**{each.name: getattr(self, each.name) for each in fields(ExplanationPlan)})

    @property
    def likeliest(self) -> int | None:
        """How many of the likeliest classes are explained; None where classes are named."""
        return int(self.classes[3:]) if isinstance(self.classes, str) else None


def parse_config(arguments: Sequence[str]) -> ExplainConfig:
    """Parse and check the arguments of `maskrobust explain`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain.
    """
    parser = ArgumentParser(prog="maskrobust explain", description=__doc__, **PARSER_OPTIONS)
    parser.add_argument(
        "--network", type=list[str] | str, required=True, help="the network to explain, or several: '[a, b]'"
    )
    parser.add_argument(
        "--images", type=list[Path] | Path, required=True, help="an image, a folder of images, or several: '[a, b]'"
    )
    parser.add_class_arguments(ExplainConfig, skip={"network", "images"})
    given = vars(parser.instantiate(parser.parse_args(list(arguments))))
    for name in ("network", "images"):
        given[name] = given[name] if isinstance(given[name], list) else [given[name]]
    config = ExplainConfig(**given)
    _check(config)
    return config


def _check(config: ExplainConfig) -> None:
    for name in ("network", "images", "methods", "explainers", "segments", "classes"):
        values = getattr(config, name)
        if not values:
            raise InputError(f"{name} must name at least one, got none; give one or more.")
        if not isinstance(values, str) and len(set(values)) < len(values):
            raise InputError(f"{name} must be different, got {', '.join(map(str, values))}; name each once.")
    check_methods(config.methods, "methods")
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
    _ = config.plan  # refuses what cannot be asked
    for name in config.segments:
        if name not in _SUPERPIXELS_AND_PATCHES and not Path(name).is_file():
            raise InputError(
                f"segments must be {', '.join(_SUPERPIXELS_AND_PATCHES)} or the file of a label map, got '{name}'; "
                "choose one."
            )
