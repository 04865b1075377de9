"""A trained network as it is measured: with what it is shown, and what its outputs mean."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.methods import (
    LAYER_MASKING,
    WRAPPERS,
    FeatureExtractor,
    MaskingMethod,
    Predictor,
    feature_extractor,
    normalise,
    predictor,
    unwrapped,
)
from maskrobust.lm_modules.networks.compilation import CompiledNetwork
from maskrobust.lm_modules.networks.preprocessing import Preprocessing

Precision = Literal["32", "bf16"]


class Origin(NamedTuple):
    """What a network is made of, as far as an export needs it.

    Attributes:
        architecture: a name for `build_network`, or a class or function of the user's own, such as "my_module.MyNet".
        options: further keyword arguments of a named architecture.
        is_own_class: whether it is the user's own.
        layer_masking: options of `LayerMasking`.
        training: arguments of `fit` with which it was trained; empty where they are not known.
    """

    architecture: str
    options: Mapping[str, Any] = {}
    is_own_class: bool = False
    layer_masking: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}


class TrainedNetwork(nn.Module):
    """A network in eval mode that takes pictures in [0, 1] of any size, holes included; see `load_network`.

    Args:
        name: what it is called by.
        network: takes normalised images (B, 3, H, W) and returns logits (B, number of outputs); it may be wrapped in
            `LayerMasking`, whose options then count.
        preprocessing: how it wants to be shown a picture.
        num_outputs: number of its outputs.
        class_names: a name for each output, in the order of the outputs; None where they are not known.
        wordnet_ids: a WordNet id for each output, such as "n01440764"; None where they are not known.
        answers: outputs that are kept as classes, in this order; None for all in their own order.
        origin: what it is made of; None where that is not known.

    Attributes:
        name, network, preprocessing, origin: as given.
        num_classes: number of classes it answers with.
        class_names: a name for each class, or None.
        wordnet_ids: a WordNet id for each class, or None.
        precision: "32", or "bf16" to compute under autocast; logits and features are float32 either way.
        pass_size: None, or images in a forward pass of the compiled network that gives the logits; see
            `maskrobust.lm_modules.networks.compilation.CompiledNetwork`. Features are computed eagerly.

    Raises:
        InputError: the names are not one for each output.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        preprocessing: Preprocessing,
        num_outputs: int,
        *,
        class_names: Sequence[str] | None = None,
        wordnet_ids: Sequence[str] | None = None,
        answers: Sequence[int] | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__()
        for kind, given in (("class_names", class_names), ("wordnet_ids", wordnet_ids)):
            if given is not None and len(given) != num_outputs:
                raise InputError(
                    f"{kind} of '{name}' must be one for each of its {num_outputs} outputs, got {len(given)}; give as "
                    "many."
                )
        self.name = name
        self.network: nn.Module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.preprocessing = preprocessing
        self.origin = origin
        self.precision: Precision = "32"
        self.pass_size: int | None = None
        self._num_outputs = num_outputs
        self._output_names = class_names, wordnet_ids
        self._wrapped: dict[MaskingMethod, nn.Module] = {}
        if isinstance(network, LayerMasking):
            self._wrapped[LAYER_MASKING] = network
        self._compiled: dict[nn.Module, CompiledNetwork] = {}
        kept = range(num_outputs) if answers is None else answers
        self.num_classes = len(kept)
        self.class_names, self.wordnet_ids = (
            None if given is None else tuple(given[output] for output in kept) for given in self._output_names
        )
        self._answers: Tensor | None
        self.register_buffer("_answers", None if answers is None else torch.tensor(kept), persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes) float32 of whole pictures (B, 3, H, W) in [0, 1].

        Raises:
            InputError: the network returns something else than logits (B, number of outputs).
        """
        images = self.preprocessing.resize(images).contiguous(memory_format=torch.channels_last)
        normalised = normalise(images, self.preprocessing.mean, self.preprocessing.std)
        call = self._called(self.network)
        return self._kept(self._computed(lambda: call(normalised), images.device))

    def predictor(self, method: MaskingMethod) -> Predictor:
        """What the network predicts for pictures with a hole under a masking method; see `lm_modules.methods`.

        The picture and its hole are brought to the network's size, and then filled.

        Raises:
            UnsupportedNetworkError: `method` is "layer_masking" or "token_dropping", and cannot read the network.
        """
        call = self._called(self._network_for(method))
        predict = predictor(call, method, self.preprocessing.mean, self.preprocessing.std)
        return lambda images, visible, keys: self._kept(self._asked(predict, images, visible, keys))

    def feature_extractor(self, method: MaskingMethod, layer: str | None = None) -> FeatureExtractor:
        """What the network makes of pictures with a hole ahead of its prediction; see `lm_modules.methods`.

        Raises:
            UnsupportedNetworkError: `method` is "layer_masking" or "token_dropping", and cannot read the network.
            InputError: the network has no linear layer, or no module at `layer`.
        """
        shown = self.preprocessing
        extract = feature_extractor(self._network_for(method), method, shown.mean, shown.std, layer)
        return lambda images, visible, keys: self._asked(extract, images, visible, keys)

    def select_outputs(self, outputs: Sequence[int], *, only: bool = False) -> "TrainedNetwork":
        """The same network with its outputs in the order of some classes; weights are shared.

        Args:
            outputs: the output of each class, in label order, each one once.
            only: leave the other outputs out; otherwise they follow, and a prediction of len(outputs) or more is none
                of the classes.

        Raises:
            InputError: an output comes twice, or the network has no such output.
        """
        if len(set(outputs)) < len(outputs) or not all(0 <= each < self._num_outputs for each in outputs):
            raise InputError(
                f"the classes of '{self.name}' must be different outputs from 0 to {self._num_outputs - 1}, got "
                f"{list(outputs)}; give each class one of its own."
            )
        others = [] if only else [each for each in range(self._num_outputs) if each not in set(outputs)]
        return self._again(answers=[*outputs, *others])

    def with_preprocessing(self, preprocessing: Preprocessing) -> "TrainedNetwork":
        """The same network with another preprocessing; weights are shared."""
        return self._again(preprocessing=preprocessing)

    def _again(self, **changes: Any) -> "TrainedNetwork":
        names, ids = self._output_names
        kept = None if self._answers is None else self._answers.tolist()
        arguments: dict[str, Any] = {"preprocessing": self.preprocessing, "answers": kept, **changes}
        again = TrainedNetwork(
            self.name,
            self.network,
            num_outputs=self._num_outputs,
            class_names=names,
            wordnet_ids=ids,
            origin=self.origin,
            **arguments,
        )
        again.precision, again.pass_size, again._wrapped, again._compiled = (
            self.precision, self.pass_size, self._wrapped, self._compiled
        )  # fmt: skip
        return again

    def _network_for(self, method: MaskingMethod) -> nn.Module:
        if method not in WRAPPERS:
            return self.network
        if method not in self._wrapped:
            self._wrapped[method] = WRAPPERS[method](unwrapped(self.network))
        return self._wrapped[method]

    def _called(self, network: nn.Module) -> Callable[..., Any]:
        """The network itself, or compiled, once for all methods that call it."""
        if self.pass_size is None:
            return network
        if network not in self._compiled:
            self._compiled[network] = CompiledNetwork(network, self.pass_size)
        return self._compiled[network]

    def _asked(self, ask: Predictor, images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        images, visible = self.preprocessing.view(images, visible)
        images = images.contiguous(memory_format=torch.channels_last)
        return self._computed(lambda: ask(images, visible, keys), images.device)

    def _computed(self, compute: Callable[[], object], device: torch.device) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = compute()
        if not isinstance(found, Tensor):
            raise InputError(
                f"'{self.name}' must return its logits as one tensor, got {type(found).__name__}; name a function of "
                "yours that makes a network which does."
            )
        return found.float()

    def _kept(self, logits: Tensor) -> Tensor:
        if logits.ndim != 2 or logits.shape[1] != self._num_outputs:
            raise InputError(
                f"'{self.name}' must return logits (B, {self._num_outputs}), got shape {tuple(logits.shape)}; set its "
                "num_classes to the number of its outputs."
            )
        return logits if self._answers is None else logits[:, self._answers]
