"""`load_network`: a trained network by its name, such as resnet50:IMAGENET1K_V2.

torchvision, timm and huggingface_hub fetch weights as they always do, with their own caches and offline switches. A
class is imported where the user names it, never where a file does.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskrobust.augment import FILLS, OTHER_IMAGE
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.networks.architectures import (
    TIMM_PREFIX,
    build_network,
    build_outline,
    build_own_network,
    head_of,
    is_own_class,
)
from maskrobust.lm_modules.networks.class_matching import (
    OutputNames,
    are_wordnet_ids,
    imagenet_names,
    named_outputs,
    read_class_names,
)
from maskrobust.lm_modules.networks.named import (
    HUB_PREFIX,
    PRETRAINED,
    check_name,
    default_preprocessing,
    fetched,
    is_file,
    shown_by_timm,
    shown_by_torchvision,
    weight_names,
    with_named_weights,
)
from maskrobust.lm_modules.networks.preprocessing import Preprocessing, read_reading, read_training_view
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.networks.weights import (
    building_from,
    check_options,
    load_weights,
    read_checkpoint,
    read_state_dict,
    unwrapped,
)
from maskrobust.lm_modules.training.training_masks import BY_LAYER_MASKING, evaluation_fill

MOST_OUTPUTS = 100_000
"""Most outputs that a network of a file may have."""

RANDOM = "random"
"""In place of weights: none, drawn with seed 0; for tests and comparisons."""

_MOST_CHOICES, _MOST_BANDS = 20, 10_000
_TRANSFORMING = ("googlenet", "inception_v3")
_IGNORED = "ignore_index"
"""What a segmenter's arguments hold, and no other's."""


def load_network(
    name: str, preprocess: Mapping[str, Any] | None = None, *, num_classes: int | None = None
) -> TrainedNetwork:
    """A trained network, with the preprocessing and the classes of its weights.

    | name | network |
    |---|---|
    | `resnet50:IMAGENET1K_V2` | torchvision's, with weights of torchvision's by their name |
    | `timm/resnet50.a1_in1k:pretrained` | timm's, with its own weights |
    | `timm/resnet50:FILE` | any of both, or small_resnet; a state dict, safetensors file or Lightning checkpoint |
    | `hf-hub:user/name` | of timm's on the Hugging Face hub |
    | `runs/a/last.ckpt` | checkpoint of `maskrobust fit` |
    | `my_module.MyNet:FILE` | your own class or function |
    | `resnet50:random` | random weights, for tests and comparisons |

    Your own class is called without arguments, but for `num_classes` where it has that parameter and FILE, of `fit`,
    says how many there are.

    The preprocessing is that of the weights: torchvision's `transforms`, timm's data configuration, or colours, size
    and crop of the training. With a FILE it is that of the architecture's default weights; without any it is
    ImageNet's mean and standard deviation, at the pictures' own size. 1000 outputs without names are ImageNet's.

    Pictures of any size are brought to the network's size, and nothing is cropped: those of a data module are cropped
    already. Of a whole photograph `network.preprocessing.cut(photograph)` is what the training would have shown.

    Args:
        name: as above. What a FILE says is never imported or executed.
        preprocess: values of `Preprocessing` to change.
        num_classes: number of outputs of random weights; None for 1000, or 10 of small_resnet.

    Raises:
        MissingFileError: a file is missing.
        InputError: the name is unknown or says nothing of weights, weights cannot be fetched or do not fit, or
            `preprocess` is out of its range.
    """
    network = _load(name, num_classes)
    return network.configured(preprocessing=network.preprocessing.with_changes(preprocess)) if preprocess else network


def segmenter_of(name: str) -> str | None:
    """The file of a `MaskRobustSegmenter` that a name of `load_network` has; None where it has none.

    Raises:
        InputError: the file cannot be read.
    """
    path = name if Path(name).is_file() else name.partition(":")[2]
    return path if Path(path).is_file() and _IGNORED in _hyper_parameters_in(path) else None


def load_segmentation_network(name: str) -> TrainedNetwork:
    """As `load_network`, of a checkpoint of a `MaskRobustSegmenter`: FILE, or my_module.MyNet:FILE.

    Pictures keep their size.

    Raises:
        MissingFileError, InputError: there is no such file, or it holds something else.
    """
    from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter  # imports Lightning

    own = None if Path(name).is_file() else name.partition(":")[0]
    return MaskRobustSegmenter.from_checkpoint(segmenter_of(name) or name, own).trained_network(name)


def _load(name: str, num_classes: int | None) -> TrainedNetwork:
    check_name(name)
    if name.startswith(HUB_PREFIX):
        return _from_hub(name)
    if Path(name).is_file():
        return _from_checkpoint(name)
    architecture, colon, weights = name.partition(":")
    if is_own_class(architecture):
        return _from_own_class(name, architecture, weights if colon else None)
    return _from_architecture(name, architecture, weights, num_classes)


def _from_architecture(name: str, architecture: str, weights: str, num_classes: int | None) -> TrainedNetwork:
    origin = Origin(architecture)
    if weights in weight_names(architecture):
        network = with_named_weights(architecture, weights)
        if architecture.startswith(TIMM_PREFIX):
            return _named_by_timm(name, network, origin)
        return _named_by_torchvision(name, network, origin, weights)
    if weights == RANDOM:
        count = num_classes or (10 if architecture == "small_resnet" else 1000)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = build_network(architecture, count)
        names = _unnamed(count) if num_classes is None else OutputNames()
        shown = default_preprocessing(architecture)
        return TrainedNetwork(name, network, shown, count, origin=origin, **names._asdict())
    if not is_file(weights):
        raise InputError(_about_weights(architecture, weights))
    if architecture in _TRANSFORMING:
        raise InputError(
            f"'{architecture}' transforms its input for torchvision's own weights alone, which a file does not tell; "
            f"name a function of yours that makes the network, as in my_module.my_function:{weights}."
        )
    network = build_network(architecture, _outputs_in(weights, architecture), in_channels=_bands_in(weights))
    return _with_file(name, network, weights, default_preprocessing(architecture), origin)


def _from_checkpoint(path: str) -> TrainedNetwork:
    from maskrobust.lm_modules.training.classifier import MaskRobustClassifier  # imports Lightning

    if path.endswith(".safetensors"):
        raise InputError(f"'{path}' holds weights alone; name their architecture as well, as in 'resnet50:{path}'.")
    classifier = MaskRobustClassifier.from_checkpoint(path)
    network = classifier.trained_network(path)
    return network.configured(preprocessing=network.preprocessing.with_changes(classifier.training_view))


def _with_file(name: str, network: nn.Module, path: str, shown: Preprocessing, origin: Origin) -> TrainedNetwork:
    """A network with weights from a file; one of `fit` says preprocessing, classes and layer masking's options, too."""
    content = {} if path.endswith(".safetensors") else read_checkpoint(path)
    saved = content.get("hyper_parameters")
    if isinstance(saved, Mapping) and "decoder_width" in saved:
        raise InputError(
            f"'{path}' must hold a classifier, but is of a pre-training, which trains no head; fine-tune it first, by "
            "'maskrobust fit --model.weights'."
        )
    if isinstance(saved, Mapping) and _IGNORED in saved:
        from maskrobust.lm_modules.training.classifier_arguments import about_segmenter

        raise InputError(about_segmenter(path))
    load_weights(network, path)
    count = (_classes_in(path) if origin.is_own_class else None) or _outputs_of(network, name)
    origin = origin._replace(colours_are_assumed=not (isinstance(saved, Mapping) and {"mean", "std"} <= saved.keys()))
    if isinstance(saved, Mapping) and {"mean", "std"} <= saved.keys():
        colours = {"mean": saved["mean"], "std": saved["std"]}
        shown = Preprocessing().with_changes({**colours, **read_training_view(content)})
    names = _unnamed(count)
    if "class_names" in content:
        names = named_outputs(read_class_names(content["class_names"], count, path))
    options = saved.get("layer_masking") if isinstance(saved, Mapping) else None
    if options:
        with building_from(path), suppress(UnsupportedNetworkError):  # of one that was trained without it
            network, origin = LayerMasking(network, **options), origin._replace(layer_masking=options)
    found = TrainedNetwork(name, network, shown, count, origin=origin, **names._asdict())
    found.read_as = read_reading(content)
    if isinstance(saved, Mapping):
        with building_from(path):
            found.own_method = _method_of(saved, found.layer_masking)
    return found


def _method_of(saved: Mapping[str, Any], layer_masking: MaskingMethod) -> MaskingMethod | None:
    """The masking method of a training by its arguments; None where it had no holes, or a fill that is not known."""
    if saved.get("masking") in BY_LAYER_MASKING:
        return layer_masking
    fill = saved.get("fill")
    names = [fill] if isinstance(fill, str) else [*fill] if isinstance(fill, Mapping) else []
    if fill is None or saved.get("masking") != "fill" or not names or not {*names} <= {*FILLS, OTHER_IMAGE}:
        return None
    return evaluation_fill(fill)


def _unnamed(count: int) -> OutputNames:
    """What outputs without names are: ImageNet's where there are 1000 of them."""
    return imagenet_names(count) if count == 1000 else OutputNames()


def _about_weights(architecture: str, given: str) -> str:
    """What the weights of an architecture can be, as an error says it."""
    import timm

    names = [f"{architecture}:{each}" for each in weight_names(architecture)]
    if architecture.startswith(TIMM_PREFIX) and "." not in architecture:
        tagged = timm.list_pretrained(f"{architecture.removeprefix(TIMM_PREFIX)}.*")
        names = [f"{TIMM_PREFIX}{each}:{PRETRAINED}" for each in tagged[:_MOST_CHOICES]]
    choice = ", ".join([*names, f"{architecture}:FILE"])
    return (
        f"'{architecture}' needs weights, got '{given}'; name some as in {choice}, or {architecture}:{RANDOM} for a "
        "comparison."
    )


def _named_by_torchvision(name: str, network: nn.Module, origin: Origin, weights: str) -> TrainedNetwork:
    from torchvision.models import get_model_weights

    found = get_model_weights(origin.architecture)[weights]
    categories = tuple(found.meta["categories"])
    names = OutputNames(categories, imagenet_names(len(categories)).wordnet_ids)
    shown = shown_by_torchvision(found)
    return TrainedNetwork(name, network, shown, len(categories), origin=origin, **names._asdict())


def _from_hub(name: str) -> TrainedNetwork:
    import timm

    _, architecture, options = fetched(
        name, lambda: timm.models.load_model_config_from_hf(name.removeprefix(HUB_PREFIX))
    )
    check_options(options, name)
    network = fetched(name, lambda: timm.create_model(name, pretrained=True))
    return _named_by_timm(name, network, Origin(f"{TIMM_PREFIX}{architecture}", options))


def _named_by_timm(name: str, network: nn.Module, origin: Origin) -> TrainedNetwork:
    """A network of timm's with its own weights, whose configuration may come from the hub."""
    count = int(network.num_classes)  # type: ignore[arg-type]
    about: Mapping[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    given, described = about.get("label_names"), about.get("label_descriptions")
    names = imagenet_names(count)
    if given is not None:
        labels = read_class_names(given, count, name)
        texts = [described.get(label) for label in labels] if isinstance(described, Mapping) else given
        names = OutputNames(read_class_names(texts, count, name), labels if are_wordnet_ids(labels) else None)
    return TrainedNetwork(name, network, shown_by_timm(network), count, origin=origin, **names._asdict())


def _from_own_class(name: str, dotted: str, path: str | None) -> TrainedNetwork:
    origin = Origin(dotted, is_own_class=True)
    network = build_own_network(
        dotted, None if path is None else _classes_in(path), in_channels=3 if path is None else _bands_in(path)
    )
    if path is not None:
        return _with_file(name, network, path, Preprocessing(), origin)
    count = _outputs_of(network, name)
    return TrainedNetwork(name, network, Preprocessing(), count, origin=origin, **_unnamed(count)._asdict())


def _classes_in(path: str) -> int | None:
    """How many classes a checkpoint of `fit` says that its network has; None for another file."""
    count = _hyper_parameters_in(path).get("num_classes")
    return count if isinstance(count, int) and 2 <= count <= MOST_OUTPUTS else None


def _bands_in(path: str) -> int:
    """How many bands a checkpoint of `fit` says that its images have; 3 of another file."""
    mean = _hyper_parameters_in(path).get("mean")
    return len(mean) if isinstance(mean, list | tuple) and 0 < len(mean) < _MOST_BANDS else 3


def _hyper_parameters_in(path: str) -> Mapping[str, Any]:
    """What a checkpoint of `fit` says that its network was made with; empty for another file."""
    saved = {} if path.endswith(".safetensors") else read_checkpoint(path).get("hyper_parameters")
    return saved if isinstance(saved, Mapping) else {}


def _outputs_of(network: nn.Module, named: str) -> int:
    """How many logits a network of any class returns: its `num_classes`, or else what its last linear layer does."""
    count = getattr(network, "num_classes", None)
    head = head_of(network)
    if count is None and head is not None:
        count = network.get_submodule(head).out_features
    if not isinstance(count, int) or count < 2:
        raise InputError(
            f"'{named}' must have at least two outputs, and say so in an attribute num_classes or by its last linear "
            f"layer, got {count}; set num_classes."
        )
    return count


def _outputs_in(path: str, architecture: str) -> int:
    """How many outputs the head of a file's network has; 1000 where it has no head that could say."""
    head = head_of(build_outline(architecture, 2))
    for tensors in unwrapped(read_state_dict(path)):
        if f"{head}.weight" in tensors:
            count = len(tensors[f"{head}.weight"])
            if not 2 <= count <= MOST_OUTPUTS:
                raise InputError(f"'{path}' must have 2 to {MOST_OUTPUTS} outputs, got {count}; give another file.")
            return count
    return 1000
