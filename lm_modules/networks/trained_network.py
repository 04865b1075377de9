"""`TrainedNetwork`: a network with its preprocessing and the meaning of its outputs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from maskrobust.augment.batch import check_visible, in_unit_range
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, Masked
from maskrobust.lm_modules.methods import (
    LAYER_MASKINGS,
    WRAPPERS,
    Found,
    MaskingMethod,
    Predictor,
    check_pixels,
    checking_pixels,
    normalise,
    predictor,
)
from maskrobust.lm_modules.networks.architectures import with_features
from maskrobust.lm_modules.networks.preprocessing import Preprocessing

Precision = Literal["32", "bf16"]


class Origin(NamedTuple):
    """What a network is made of.

    Attributes:
        architecture: a name for `build_network`, or a class or function of the user's own, such as "my_module.MyNet".
        options: further keyword arguments of a named architecture.
        is_own_class: whether it is the user's own.
        layer_masking: options of `LayerMasking`.
        colours_are_assumed: whether its weights are of a file that does not say with which mean and standard deviation
            they were trained.
    """

    architecture: str
    options: Mapping[str, Any] = {}
    is_own_class: bool = False
    layer_masking: Mapping[str, Any] = {}
    colours_are_assumed: bool = False


class TrainedNetwork(nn.Module):
    """A network in eval mode that takes pictures of any size and what is visible of them; see `load_network`.

    Args:
        name: what it is called by.
        network: takes normalised images (B, 3, H, W) and returns logits (B, number of outputs); it may be wrapped in
            `LayerMasking`, whose options then count, but for the padding, which a masking method names.
        preprocessing: how it wants to be shown a picture.
        num_outputs: number of its outputs.
        class_names: a name for each output, in the order of the outputs; None where they are not known.
        wordnet_ids: a WordNet id for each output, such as "n01440764"; None where they are not known.
        answers: outputs that are kept as classes, in this order; None for all in their own order.
        origin: what it is made of; None where that is not known.
        own_method: masking method that it was trained for; None where it was trained without holes, or that is not
            known.
        channels_last: keep weights and images in channels-last memory format.

    Attributes:
        name, network, preprocessing, origin, own_method: as given; `configured` changes what can be changed.
        num_classes: number of classes it answers with.
        class_names: a name for each class, or None.
        wordnet_ids: a WordNet id for each class, or None.
        read_as: how the data module of its training read files, as `visible`; empty where that is not known.
        precision: "32", or "bf16" to compute under autocast; an autocast around a call counts, too. Logits are float32
            either way.

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
        own_method: MaskingMethod | None = None,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        for kind, given in (("class_names", class_names), ("wordnet_ids", wordnet_ids)):
            if given is not None and len(given) != num_outputs:
                raise InputError(
                    f"{kind} of '{name}' must be one for each of its {num_outputs} outputs, got {len(given)}; give as "
                    "many."
                )
        self.name = name
        self._memory_format = torch.channels_last if channels_last else torch.preserve_format
        self.network: nn.Module = network.to(memory_format=self._memory_format)  # type: ignore[call-overload]
        self.preprocessing = preprocessing
        self.origin = origin
        self.own_method = own_method
        self.read_as: Mapping[str, Any] = {}
        self.precision: Precision = "32"
        self._num_outputs = num_outputs
        self._output_names = class_names, wordnet_ids
        self._wrapped: dict[MaskingMethod, nn.Module] = {}
        self._keep_outputs(answers)
        self.eval()

    def forward(
        self,
        images: Tensor,
        visible: Tensor | None = None,
        *,
        method: MaskingMethod | None = None,
        keys: Tensor | None = None,
    ) -> Tensor:
        """Logits of pictures as a file or a data module gives them: the network resizes and normalises them itself.

        A picture of which everything is visible gets the logits that it has without `visible`. Under layer masking, and
        under fills that do not look into the hole, no hidden pixel changes a bit.

        Args:
            images: (B, 3, H, W), float in [0, 1] or uint8, of any size; nothing is cropped but what the proportions of
                the network's size leave out.
            visible: (B, 1, H, W) bool, True where the network may look; None shows everything.
            method: masking method of the hole; by default the one that the network was trained for (`own_method`), or
                layer masking if it was trained without holes.
            keys: (B,) int64 keys of random fills; by default each picture has the same, wherever it is in the batch.

        Returns:
            Logits (B, num_classes) float32.

        Raises:
            InputError: `visible` does not fit the images, these do not lie in [0, 1], the method is unknown, or given
                without `visible`; the network returns something else than logits (B, number of outputs); or the whole
                of it is wrapped in `LayerMasking`, which is not needed.
            UnsupportedNetworkError: the method is one of `WRAPPERS`, and cannot read the network.
        """
        if isinstance(images, Masked):
            raise InputError(
                f"'{self.name}' takes holes as it is, as in network(images, visible), but was wrapped in LayerMasking; "
                "leave that out."
            )
        images = in_unit_range(images)
        shown = torch.ones_like(images[:, :1], dtype=torch.bool) if visible is None else visible
        check_visible(images, shown)
        if visible is not None:
            keys = torch.zeros(len(images), dtype=torch.int64, device=images.device) if keys is None else keys
            return self.predictor(method or self.own_method or self.layer_masking)(images, visible, keys)
        if method is not None:
            raise InputError(f"method '{method}' hides what is not visible, got no visible; give it, or no method.")
        check_pixels(images, shown, self.preprocessing.mean, self.preprocessing.std)
        resized = self.preprocessing.resize(images).to(memory_format=self._memory_format)
        with self._autocast(images.device):
            return self._select(self.network(normalise(resized, self.preprocessing.mean, self.preprocessing.std)))

    @property
    def layer_masking(self) -> MaskingMethod:
        """The method of layer masking with the padding of its training, or "layer_masking" where it had none."""
        if isinstance(self.network, LayerMasking):
            return LAYER_MASKINGS[self.network.options.padding]
        return LAYER_MASKINGS["mean" if self.origin is None else self.origin.layer_masking.get("padding", "mean")]

    def predictor(self, method: MaskingMethod) -> Predictor:
        """What the network predicts for pictures with a hole under a masking method; see `lm_modules.methods`.

        The picture and its hole are brought to the network's size, and then filled.

        Raises:
            UnsupportedNetworkError: `method` is one of `WRAPPERS`, and cannot read the network.
        """
        return self._on_view(self._network_for(method), method, self._select)

    def with_features(self, method: MaskingMethod) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """As `predictor`, but for logits and, of the same pass, features (B, D) float32 ahead of the head.

        See `architectures.with_features`.
        """
        call = with_features(self._network_for(method), self._num_outputs)
        return self._on_view(call, method, lambda found: (self._select(found[0]), self._as_float(found[1])))

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
        again = _twin(self, _buffers={}, _non_persistent_buffers_set=set())
        again._keep_outputs([*outputs, *others])
        return again

    def configured(
        self, *, preprocessing: Preprocessing | None = None, precision: Precision | None = None
    ) -> "TrainedNetwork":
        """The same network shown pictures, or computed, in another way; weights are shared.

        Args:
            preprocessing: how it wants to be shown a picture; None as here, as for the other.
            precision: see the attribute.
        """
        return _twin(self, preprocessing=preprocessing or self.preprocessing, precision=precision or self.precision)

    def _keep_outputs(self, answers: Sequence[int] | None) -> None:
        """Make classes of some outputs, in this order; None for all in their own order."""
        kept = range(self._num_outputs) if answers is None else answers
        self.num_classes = len(kept)
        self.class_names, self.wordnet_ids = (
            None if given is None else tuple(given[output] for output in kept) for given in self._output_names
        )
        self._answers: Tensor | None
        self.register_buffer("_answers", None if answers is None else torch.tensor(kept), persistent=False)

    def _network_for(self, method: MaskingMethod) -> nn.Module:
        if method not in WRAPPERS:
            return self.network
        if method not in self._wrapped:
            self._wrapped[method] = WRAPPERS[method](self.network)
        return self._wrapped[method]

    def _on_view(
        self, call: Callable[..., Any], method: MaskingMethod, finish: Callable[[Any], Found]
    ) -> Callable[[Tensor, Tensor, Tensor], Found]:
        predict = predictor(call, method, self.preprocessing.mean, self.preprocessing.std)

        def ask(images: Tensor, visible: Tensor, keys: Tensor) -> Found:
            images, visible = self.preprocessing.resize_masked(images, visible)
            with self._autocast(images.device):
                found = predict(images.to(memory_format=self._memory_format), visible, keys)
            return finish(found)

        return checking_pixels(ask, self.preprocessing.mean, self.preprocessing.std)  # resizing makes any fit

    def _autocast(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _as_float(self, found: object) -> Tensor:
        if not isinstance(found, Tensor):
            raise InputError(
                f"'{self.name}' must return its logits as one tensor, got {type(found).__name__}; name a function of "
                "yours that makes a network which does."
            )
        return found.float()

    def _select(self, found: object) -> Tensor:
        logits = self._as_float(found)
        if logits.ndim != 2 or logits.shape[1] != self._num_outputs:
            raise InputError(
                f"'{self.name}' must return logits (B, {self._num_outputs}), got shape {tuple(logits.shape)}; set its "
                "num_classes to the number of its outputs."
            )
        return logits if self._answers is None else logits[:, self._answers]


def _twin(network: TrainedNetwork, **attributes: Any) -> TrainedNetwork:
    """A network that shares everything with another one but for the attributes that are given."""
    other = object.__new__(type(network))
    other.__dict__.update(vars(network), **attributes)
    return other
