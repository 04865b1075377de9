"""Check the arguments of `MaskRobustClassifier`, `MaskRobustSegmenter` and `MaskedPretraining`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from maskrobust.augment import FAMILIES, FILLS, OTHER_IMAGE, check_mean, read_families, read_fills
from maskrobust.augment.families.mask_family import check_hidden_fraction
from maskrobust.augment.registry import Registry
from maskrobust.errors import Faults, InputError
from maskrobust.lm_modules.networks.architectures import is_own_class
from maskrobust.lm_modules.networks.weights import check_options
from maskrobust.lm_modules.training.mixing import MixName
from maskrobust.lm_modules.training.objectives import OBJECTIVES, check_class_weights
from maskrobust.lm_modules.training.optimisation import OptimiserName, ScheduleName
from maskrobust.lm_modules.training.segmentation_losses import SegmentationLoss
from maskrobust.lm_modules.training.training_masks import TrainingMasking

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "masking": get_args(TrainingMasking),
    "loss": get_args(SegmentationLoss),
    "mix": get_args(MixName),
    "optimiser": get_args(OptimiserName),
    "schedule": get_args(ScheduleName),
}
_RANGES: Mapping[str, tuple[Callable[[float], bool], str]] = {
    "decoder_width": (lambda value: value >= 8 and value % 8 == 0, "be a multiple of 8 channels"),
    "patch_size": (lambda value: value >= 1 and value == int(value), "be a whole number of pixels, at least 1"),
    "mask_probability": (lambda value: 0 <= value <= 1, "lie in [0, 1]"),
    "exchange_holes": (lambda value: 0 <= value <= 1, "lie in [0, 1]"),
    "consistency_weight": (lambda value: value >= 0, "be at least 0"),
    "backbone_factor": (lambda value: value >= 0, "be at least 0"),
    "freeze_backbone_epochs": (lambda value: value >= 0, "be at least 0"),
    "learning_rate": (lambda value: value > 0, "be above 0"),
    "momentum": (lambda value: 0 <= value < 1, "lie in [0, 1)"),
    "weight_decay": (lambda value: value >= 0, "be at least 0"),
    "warmup_fraction": (lambda value: 0 <= value < 1, "lie in [0, 1)"),
    "label_smoothing": (lambda value: 0 <= value < 1, "lie in [0, 1)"),
}


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of `MaskRobustClassifier`, by name, that are out of their ranges or contradict each other.

    Raises:
        InputError: naming the argument.
    """
    faults = Faults()
    with faults.noted():
        check_values_of(arguments)
    bands, options = len(arguments["mean"]), arguments["architecture_options"] or {}
    for option, given in (("in_channels", arguments["in_channels"]), ("in_chans", options.get("in_chans"))):
        if given not in (None, bands):
            said = (
                f"{option} must be the number of bands of the data, {bands}, got {given}; leave it out, or give other"
            )
            faults.append(InputError(f"{said} data."))
    with faults.noted():
        fills = read_fills(arguments["fill"])
    with faults.noted():
        objective = OBJECTIVES.find(arguments["objective"], "objective")
    faults.refuse()
    mixes = any(each.name == OTHER_IMAGE and each.weight > 0 for each in fills)
    if objective.needs_holes and arguments["masking"] == "none":
        raise InputError(f"objective '{objective.name}' needs a masked view; set masking to 'fill' or 'layer_masking'.")
    if arguments["exchange_holes"] > 0 and arguments["masking"] == "none":
        raise InputError(
            "exchange_holes needs a way to hide holes, got masking 'none', which shows what lies in them; set masking "
            "to 'fill' or 'layer_masking'."
        )
    if (weights := arguments["class_weights"]) is not None:
        check_class_weights(weights, arguments["num_classes"])
        if "class_weights" not in objective.inputs:
            raise InputError(f"objective '{objective.name}' takes no class_weights; leave them out.")
    if arguments["freeze_backbone_epochs"] > 0 and arguments["trainable"] is not None:
        raise InputError(
            "freeze_backbone_epochs and trainable both say which layers are trained; leave one of them out."
        )
    if arguments["mix"] != "none" and (mixes or not objective.takes_mixed_labels):
        other = "fill 'other_image', which mixes labels, too" if mixes else f"objective '{objective.name}'"
        raise InputError(f"mix {arguments['mix']} mixes the labels of two images, got {other}; choose one of the two.")
    if mixes and not objective.takes_mixed_labels:
        raise InputError(
            f"objective '{objective.name}' is about the label of one image, got fill 'other_image', which mixes two "
            "images; choose another fill, or objective 'cross_entropy'."
        )


def check_values_of(arguments: Mapping[str, Any]) -> None:
    """Refuse colours, holes, choices and numbers, by name, that are out of their ranges.

    Raises:
        InputError: naming the argument.
    """
    faults = Faults()
    checks: dict[str, Callable[[Any], object]] = {
        "hidden_fraction": check_hidden_fraction, "mean": check_mean, "mask_family": read_families,
    }  # fmt: skip
    for name, check in checks.items():
        with faults.noted():
            check(arguments[name])
    if not all(value > 0 for value in arguments["std"]):
        said = f"std must be above 0, got {tuple(arguments['std'])}; give that of pixels in [0, 1]."
        faults.append(InputError(said))
    for name, choices in _CHOICES.items():
        if name in arguments and arguments[name] not in choices:
            said = f"{name} must be one of {', '.join(choices)}, got '{arguments[name]}'; choose one of these."
            faults.append(InputError(said))
    for name, (holds, expected) in _RANGES.items():
        if name in arguments and not holds(arguments[name]):
            faults.append(InputError(f"{name} must {expected}, got {arguments[name]}; give such a number."))
    faults.refuse()


GONE_ARGUMENTS = ("worst_of", "mask_ramp")
"""What checkpoints of versions 0.2.0 and 0.3.0 name, whose values change the masks of a training alone."""


def about_segmenter(path: str) -> str:
    """What is said of a segmenter's checkpoint where a classifier is needed."""
    return (
        f"'{path}' must hold a classifier, but is of a MaskRobustSegmenter, which answers for each pixel; evaluate and "
        "predict take it, and in Python MaskRobustSegmenter.from_checkpoint(path).trained_network() loads it."
    )


def arguments_in(
    checkpoint: Mapping[str, Any], kind: type, path: str, architecture: str | None = None
) -> dict[str, Any]:
    """The arguments that a classifier or segmenter is rebuilt with from its checkpoint, which holds its weights.

    Args:
        checkpoint: content of a Lightning checkpoint.
        kind: its class.
        path: the file, for messages.
        architecture: the user's own class or function in place of the architecture; None for what the file says.

    Returns:
        By name, without mask families, fills and objectives that are not registered.

    Raises:
        InputError: it is not the checkpoint of that class, with an architecture given by name.
    """
    saved = checkpoint.get("hyper_parameters", {})
    named = saved.items() if isinstance(saved, Mapping) else ()
    arguments = {name: value for name, value in named if name not in ("_instantiator", *GONE_ARGUMENTS)}
    is_ours = "state_dict" in checkpoint and arguments.keys() <= inspect.signature(kind).parameters.keys()
    given, architecture = architecture, architecture or arguments.get("architecture")
    own = architecture.get("class_path") if isinstance(architecture, Mapping) else architecture
    is_own = isinstance(architecture, Mapping) or (isinstance(own, str) and is_own_class(own))
    if is_ours and is_own and given is None:
        raise InputError(
            f"'{path}' is the checkpoint of a network of its own class ('{own}'), which "
            "is not imported because a file names it; if you trust it, name it yourself, or a function that makes "
            f"it, as in {own}:{path}."
        )
    if not is_ours and "ignore_index" in arguments:
        raise InputError(about_segmenter(path))
    if not is_ours or not isinstance(architecture, str):
        raise InputError(
            f"'{path}' is not the checkpoint of a {kind.__name__} with an architecture given by name; name the "
            f"architecture of its weights as well, as in resnet50:{path}."
        )
    check_options(arguments.get("architecture_options"), path)
    kept = {name: value for name, value in arguments.items() if _is_registered(name, value)}
    return {**kept, "architecture": architecture, "weights": None}


def _is_registered(argument: str, value: object) -> bool:
    """Whether all mask families, fills or objectives that an argument names are known; True for any other argument."""
    registries: dict[str, Registry[Any]] = {"mask_family": FAMILIES, "fill": FILLS, "objective": OBJECTIVES}
    registry = registries.get(argument)
    if registry is None:
        return True
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping) else []
    return all(name == OTHER_IMAGE or registry.knows(str(name)) for name in names)
