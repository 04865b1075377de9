"""What `maskrobust evaluate` measures: which networks, on which data, under which masking methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from maskrobust.augment import FamilyName
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.methods import MaskingMethod, check_methods
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import import_measures
from maskrobust.lm_modules.reliance.curves import CURVE_ORDERS, CurveFamily, CurveOrder
from maskrobust.lm_modules.reliance.plan import ReliancePlan, with_transfer_methods
from maskrobust.lm_modules.reliance.wordnet import path_similarity, read_wordnet_nouns
from maskrobust.train.arguments import PARSER_OPTIONS, parse_with_data
from maskrobust.train.types import AnnotatedDataModule, Split


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
        split: of which split the images are; by default test where the data have it, else val.
        patch_size: side of the patches that are hidden at random, in pixels.
        hidden_fractions: fractions in [0, 1] of patches to hide.
        curve_families: segments of the retention curves: patches, slic, quickshift; none for no curves.
        curve_orders: orders in which they are hidden: random, most_salient, least_salient.
        transfer_families: mask families of the transfer matrix; none for no matrix.
        transfer_methods: masking methods of its rows, beside `methods`.
        sampled_share: fraction in (0, 1] of the images that curves and matrix are asked about.
        features: whether to probe penultimate features for what they hold of the outline; false for networks without a
            linear head.
        layers: inner layers to probe as well, such as layer1 and layer2 of a ResNet: by which of them the outline
            enters.
        own_measures: measures of your own, each named after its module as in my_module.my_measure.
        wordnet: folder of WordNet's file data.noun (Debian's wordnet-base: /usr/share/wordnet), for the similarity of
            prediction and label along the curves, where the classes are named by WordNet ids; None leaves it out.
        probe_outlines: file of a silhouette bank, with the labels of the data, that the mask-only probe learns from. By
            default it learns from the training split; where there is none, it is cross-validated.
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
    curve_families: tuple[CurveFamily, ...] = ("patches", "slic")
    curve_orders: tuple[CurveOrder, ...] = CURVE_ORDERS
    transfer_families: tuple[FamilyName, ...] = ("patches", "rectangles", "blobs", "slic", "silhouettes")
    transfer_methods: tuple[MaskingMethod, ...] = ()
    sampled_share: float = 0.25
    features: bool = True
    layers: tuple[str, ...] = ()
    own_measures: tuple[str, ...] = ()
    wordnet: Path | None = None
    probe_outlines: Path | None = None
    replicates: int = 2000
    seed: int = 0

    @cached_property
    def class_similarity(self) -> FloatArray | None:
        """Similarity (K, K) of the data's classes in WordNet; None where no WordNet is given.

        Raises:
            MissingFileError, InputError: WordNet cannot be read, or a class is not named by one of its ids.
        """
        if self.wordnet is None:
            return None
        return path_similarity(read_wordnet_nouns(self.wordnet), self.data.class_names)

    @property
    def plans(self) -> dict[MaskingMethod, ReliancePlan]:
        """What is asked under each masking method."""
        plan = ReliancePlan(
            hidden_fractions=self.hidden_fractions,
            patch_size=self.patch_size,
            curve_families=self.curve_families,
            curve_orders=self.curve_orders,
            transfer_families=self.transfer_families,
            sampled_share=self.sampled_share,
            features=self.features,
            layers=self.layers,
            own_measures=self.own_measures,
        )
        return with_transfer_methods(dict.fromkeys(self.methods, plan), self.transfer_methods)


def parse_config(arguments: Sequence[str]) -> EvaluationConfig:
    """Parse and check the arguments of `maskrobust evaluate`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, or a configuration file has no data.
    """
    parser = ArgumentParser(prog="maskrobust evaluate", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(EvaluationConfig, skip={"data", "checkpoint", "split"})
    parser.add_argument(
        "--checkpoint", type=list[str] | str, required=True, help="a file to measure, or several: '[a.ckpt, b.ckpt]'"
    )
    parser.add_argument(
        "--split", type=Split | None, help="of which split the images are; by default test where there is one, else val"
    )
    given = parse_with_data(parser, arguments)
    given["split"] = given["split"] or ("test" if "test" in given["data"].splits else "val")
    if isinstance(given["checkpoint"], str):
        given["checkpoint"] = [given["checkpoint"]]
    config = EvaluationConfig(**given)
    check_at_least("replicates", config.replicates, 1)
    for name in ("checkpoint", "methods", "hidden_fractions"):
        if not getattr(config, name):
            raise InputError(f"{name} must name at least one, got none; give one or more.")
    if len(set(config.checkpoint)) < len(config.checkpoint):
        raise InputError(f"checkpoint must name different files, got {config.checkpoint}; leave repeated ones out.")
    _ = config.plans  # refuses what cannot be asked
    import_measures(config.own_measures)
    check_methods(config.methods, "methods")
    check_methods(config.transfer_methods, "transfer_methods")
    return config
