"""What `maskrobust evaluate` measures: which networks, on which data, under which masking methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from lm_modules import MaskingMethod
from train.arguments import PARSER_OPTIONS, parse_with_data
from train.data import AnnotatedDataModule
from train.data.base import Split, check_at_least


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        data: where the images come from, instantiated.
        out: folder of reliance.json, reliance.csv and report.html.
        checkpoint: files to measure, the first being the one that the others are compared with. Checkpoints of
            `maskrobust fit`; with `architecture`, any state dict or safetensors file that fits it.
        architecture: name of the network that the files hold weights of; None for checkpoints that say it themselves.
        architecture_options: its further keyword arguments.
        methods: masking methods to ask the networks under.
        split: of which split the images are.
        patch_size: side of the patches that are hidden at random, in pixels.
        hidden_fractions: shares in [0, 1] of patches to hide.
        replicates: bootstrap resamples behind each interval.
        seed: of holes, probe and resamples.
    """

    data: AnnotatedDataModule
    out: Path
    checkpoint: list[str]
    architecture: str | None = None
    architecture_options: dict[str, Any] | None = None
    methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking")
    split: Split = "test"
    patch_size: int = 16
    hidden_fractions: tuple[float, ...] = (0.5,)
    replicates: int = 2000
    seed: int = 0


def parse_config(arguments: Sequence[str]) -> EvaluationConfig:
    """Parse and check the arguments of `maskrobust evaluate`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        ValueError: an argument leaves its domain, or a configuration file has no data.
    """
    parser = ArgumentParser(prog="maskrobust evaluate", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(EvaluationConfig, skip={"data"})
    config = EvaluationConfig(**parse_with_data(parser, arguments))
    check_at_least("patch_size", config.patch_size, 1)
    check_at_least("replicates", config.replicates, 1)
    for name in ("checkpoint", "methods", "hidden_fractions"):
        if not getattr(config, name):
            raise ValueError(f"{name} must name at least one, got none; give one or more.")
    if len(set(config.checkpoint)) < len(config.checkpoint):
        raise ValueError(f"checkpoint must name different files, got {config.checkpoint}; leave repeated ones out.")
    if not all(0 <= fraction <= 1 for fraction in config.hidden_fractions):
        raise ValueError(f"hidden_fractions must lie in [0, 1], got {config.hidden_fractions}; give such shares.")
    return config
