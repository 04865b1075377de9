"""What `maskrobust evaluate` measures: which networks, on which data, under which masking methods."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from maskrobust.augment import FamilyName
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.methods import TOKEN_DROPPING, MaskingMethod, check_methods, uncentred
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import Precision
from maskrobust.lm_modules.reliance.catalogue import import_measures
from maskrobust.lm_modules.reliance.curves import CURVE_ORDERS, CurveFamily, CurveOrder
from maskrobust.lm_modules.reliance.plan import ReliancePlan, with_transfer_methods
from maskrobust.train.arguments import PARSER_OPTIONS, parse_with_described_data
from maskrobust.train.running.devices import find_device
from maskrobust.train.types import AnnotatedDataModule, Split


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        data: where the images come from, instantiated.
        out: folder of reliance.json, reliance.csv and report.html.
        network: names of what to measure, as `load_network` takes them, the first being the one that the others are
            compared with.
        classes: file that gives each class of the data, by its name, an output: its index, WordNet id or class name. By
            default a class's own name is looked for among these.
        unknown_classes: of the data, which are not one output of every network: "refuse" them, or "leave_out" these and
            their images, where the data are for evaluation alone, such as Coco and PascalVOC; log, page and `settings`
            in reliance.json name them.
        answers: "all" outputs of a network are possible answers, those without a class of the data being wrong; or only
            those of classes that are "present" in the data.
        preprocess: in place of what a network's weights say, of all networks: size, crop, interpolation, mean, std, as
            in {size: 224}.
        device: to compute on, such as cpu, cuda or cuda:1; by default a GPU for each process, or the CPU where there is
            none.
        precision: "32", or "bf16" to compute the networks under autocast.
        compile: whether networks give logits through torch.compile, in passes of the data's batch size: one graph of
            each network, and one with layer masking. For GPUs; on a CPU layer masking is dense then, without rows.
        methods: masking methods to ask the networks under; with +centred behind a name, as in black+centred, what the
            same hole does to eight pictures without objects, of the training split, is taken off on average.
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
        margins: pixels by which to grow the objects before they are hidden, for the leak against them: such as 0, 4, 8,
            16 and 32; masks of photographs are imprecise.
        leak_controls: whether to ask about the leak with another ring between outline and circle, behind the silhouette
            of another object, by coverage and by contact with the border.
        scenes: pictures without objects, of the data that can make some, into which the shapes of two objects are cut
            to see which of them the networks follow; 0 for none.
        scene_pairs: pairs of objects to ask about there, at most.
        own_measures: measures of your own, each named after its module as in my_module.my_measure.
        wordnet: folder of WordNet's file data.noun (Debian's wordnet-base: /usr/share/wordnet), for the similarity of
            prediction and label along the curves, where the classes are named by WordNet ids; None leaves it out.
        probe_outlines: file of a silhouette bank, with the labels of the data, that the mask-only probe learns from. By
            default it learns from the training split; where there is none, it is cross-validated.
        replicates: bootstrap resamples behind each interval.
        seed: of holes, probe and resamples.
        data_options: how `data` was made, its class_path and init_args; empty where that is not known.
    """

    data: AnnotatedDataModule
    out: Path
    network: list[str]
    classes: Path | None = None
    unknown_classes: Literal["refuse", "leave_out"] = "refuse"
    answers: Literal["all", "present"] = "all"
    preprocess: dict[str, Any] | None = None
    device: str | None = None
    precision: Precision = "32"
    compile: bool = False
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
    margins: tuple[float, ...] = ()
    leak_controls: bool = False
    scenes: int = 8
    scene_pairs: int = 200
    own_measures: tuple[str, ...] = ()
    wordnet: Path | None = None
    probe_outlines: Path | None = None
    replicates: int = 2000
    seed: int = 0
    data_options: dict[str, Any] = field(default_factory=dict)

    @property
    def torch_device(self) -> torch.device:
        """The device of this process: of several on one machine, each has a GPU of its own unless one is named.

        Raises:
            InputError: there is no such device.
        """
        return find_device(self.device)

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
            margins=self.margins,
            leak_controls=self.leak_controls,
            scenes=self.scenes,
            scene_pairs=self.scene_pairs,
            own_measures=self.own_measures,
        )
        return with_transfer_methods(dict.fromkeys(self.methods, plan), self.transfer_methods)


def parse_config(arguments: Sequence[str]) -> EvaluationConfig:
    """Parse and check the arguments of `maskrobust evaluate`.

    Raises:
        ArgumentError: an argument is unknown or of the wrong type.
        InputError: an argument leaves its domain, or a configuration file has no data.
    """
    _refuse_old_options(arguments)
    parser = ArgumentParser(prog="maskrobust evaluate", description=__doc__, **PARSER_OPTIONS)
    parser.add_class_arguments(EvaluationConfig, skip={"data", "data_options", "network", "split"})
    parser.add_argument(
        "--network",
        type=list[str] | str,
        required=True,
        help="a network to measure, such as a.ckpt, resnet50:IMAGENET1K_V2, timm/resnet50.a1_in1k:pretrained, "
        "resnet50:weights.safetensors or my_module.MyNet:weights.pt, or several: '[a.ckpt, b.ckpt]'",
    )
    parser.add_argument(
        "--split", type=Split | None, help="of which split the images are; by default test where there is one, else val"
    )
    given, given_data = parse_with_described_data(parser, arguments, unlabelled=True)
    given["split"] = given["split"] or ("test" if "test" in given["data"].splits else "val")
    if isinstance(given["network"], str):
        given["network"] = [given["network"]]
    config = EvaluationConfig(**given, data_options=given_data)
    _check_labels(config)
    check_at_least("replicates", config.replicates, 1)
    for name in ("network", "methods", "hidden_fractions"):
        if not getattr(config, name):
            raise InputError(f"{name} must name at least one, got none; give one or more.")
    if len(set(config.network)) < len(config.network):
        raise InputError(f"network must name different networks, got {config.network}; leave repeated ones out.")
    Preprocessing().with_changes(config.preprocess or {})
    _ = config.torch_device  # refuses one that is not there
    _ = config.plans  # refuses what cannot be asked
    import_measures(config.own_measures)
    check_methods(config.methods, "methods", may_be_centred=True)
    check_methods(config.transfer_methods, "transfer_methods", may_be_centred=True)
    if config.compile and TOKEN_DROPPING in map(uncentred, (*config.methods, *config.transfer_methods)):
        raise InputError(
            f"compile makes one graph of images of one size, but under {TOKEN_DROPPING} they differ in their tokens; "
            "leave one of the two out."
        )
    return config


def _check_labels(config: EvaluationConfig) -> None:
    """Refuse what is about the classes of images that have none, or of which none can be left out."""
    from maskrobust.train.data import EvaluationImages

    about_classes = {
        "classes": config.classes is not None,
        "unknown_classes": config.unknown_classes == "leave_out",
        "answers": config.answers == "present",
        "wordnet": config.wordnet is not None,
        "probe_outlines": config.probe_outlines is not None,
    }
    given = [name for name, is_given in about_classes.items() if is_given]
    if given and not config.data.num_classes:
        raise InputError(f"{given[0]} is about the classes of the images, but these have no labels; leave it out.")
    if config.unknown_classes == "leave_out" and not isinstance(config.data, EvaluationImages):
        raise InputError(
            "unknown_classes leave_out passes over images of data for evaluation alone, such as ImagesWithMasks, Coco "
            f"and PascalVOC, got {type(config.data).__name__}; give such data, or the classes that the networks know."
        )


def _refuse_old_options(arguments: Sequence[str]) -> None:
    for argument in arguments:
        name = re.split(r"[.=]", argument)[0]
        if name in ("--checkpoint", "--architecture", "--architecture_options"):
            raise InputError(
                f"networks are named by --network, got {name}; give --network FILE for a checkpoint of fit, "
                "--network NAME:FILE for weights of an architecture, as in resnet50:weights.pt, or --network "
                "my_module.my_function:FILE for a network with options of its own."
            )
