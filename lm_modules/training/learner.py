"""`MaskedLearner`: what trainings on images with labels share, from holes to checkpoints."""

from typing import Any, Self

import torch
from torch import Tensor, nn

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from maskrobust.lm_modules.methods import LAYER_MASKING, LAYER_MASKINGS
from maskrobust.lm_modules.networks.architectures import is_own_class
from maskrobust.lm_modules.networks.class_matching import named_outputs, read_class_names
from maskrobust.lm_modules.networks.preprocessing import Preprocessing, read_reading, read_training_view
from maskrobust.lm_modules.networks.trained_network import Origin, TrainedNetwork
from maskrobust.lm_modules.networks.weights import building_from, check_values, plain_tensors, read_checkpoint
from maskrobust.lm_modules.training.classifier_arguments import arguments_in
from maskrobust.lm_modules.training.module import TrainingModule
from maskrobust.lm_modules.training.optimisation import train_only
from maskrobust.lm_modules.training.training_masks import (
    BY_LAYER_MASKING,
    PresentedImages,
    evaluation_fill,
    present_whole,
)


class CompiledNetwork:
    """A network as one compiled graph for each batch size, without a part that silently stays eager.

    It is no module, so the one that holds it keeps its `state_dict` keys, and a deep copy of that compiles its own copy
    of the network. Nothing is compiled before the first call.

    Args:
        network: called through this object; its parameters stay its own.
    """

    def __init__(self, network: nn.Module) -> None:
        self._name = type(getattr(network, "network", network)).__name__
        self._compiled = torch.compile(network, fullgraph=True, dynamic=False)

    def __call__(self, *inputs: Tensor) -> Any:
        """What the network returns for these inputs.

        Raises:
            InputError: `torch.compile` cannot make one graph of the network, or not on this machine, or not another one
                for batches of a ninth size.
        """
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # a second, for who compiles alone

        try:
            return self._compiled(*inputs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            told = error.__cause__ if isinstance(error, FailOnRecompileLimitHit) else error
            reason = str(told).strip().splitlines()[0].rstrip(".")
            raise InputError(
                f"torch.compile must make one graph of {self._name}, but cannot ({reason}); compute it without "
                "compiling."
            ) from error


class MaskedLearner(TrainingModule):
    """A training of a network on images with labels and holes; a subclass says what is learnt, and its loss.

    A subclass saves its hyperparameters, of which `masking`, `fill`, `layer_masking`, `trainable` and `channels_last`
    are read here, and hands its network to `_take`.

    Attributes:
        num_classes: number of classes as given.
        class_names: one name for each class, where `from_checkpoint` has found them; None otherwise.
        read_as: how the data of the training read files, where `from_checkpoint` has found that; empty otherwise.
        training_view: size and crop of the pictures of the training, as values of `Preprocessing`, where
            `from_checkpoint` has found them; empty otherwise.
        validation_method: masking method of validation, that of the training.
    """

    network_kind: type[TrainedNetwork] = TrainedNetwork

    def _take(self, network: nn.Module, num_classes: int) -> None:
        """Take the network that is trained, with layer masking where it can be had."""
        options = self.hparams
        if options["trainable"] is not None:
            train_only(network, options["trainable"])
        self.num_classes, self.masking = num_classes, options["masking"]
        self.network = self._with_layer_masking(network, required=self.masking in BY_LAYER_MASKING)
        if options["channels_last"]:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.class_names: tuple[str, ...] | None = None
        self.read_as: dict[str, Any] = {}
        self.training_view: dict[str, Any] = {}
        own = LAYER_MASKINGS[self.network.options.padding] if isinstance(self.network, LayerMasking) else LAYER_MASKING
        self.validation_method = own if self.masking in BY_LAYER_MASKING else evaluation_fill(options["fill"])
        self._compiled: CompiledNetwork | None = None

    @classmethod
    def from_checkpoint(cls, path: str, architecture: str | None = None) -> Self:
        """Rebuild a learner from its Lightning checkpoint; nothing in the file is executed or imported.

        A mask family, fill or objective of the training that is not registered, such as an own one that nobody has
        imported, is replaced by the default: the network can be measured without it.

        Args:
            path: the file.
            architecture: a class or function of your own that makes the network, as in "my_module.MyNet"; None for the
                architecture that the file names, which is no such class.

        Raises:
            MissingFileError, InputError: the file is missing, unreadable, or not a checkpoint of this class with an
                architecture given by name.
        """
        checkpoint = read_checkpoint(path)
        arguments = arguments_in(checkpoint, cls, path, architecture)
        weights = plain_tensors(checkpoint["state_dict"], path)
        with building_from(path):
            learner = cls(**arguments)
            if getattr(learner, "teacher", None) is None:  # as of an own objective that nobody has imported
                weights = {name: value for name, value in weights.items() if not name.startswith("teacher.")}
            check_values(weights, learner.state_dict(), path)
            learner.load_state_dict(weights)
        if "class_names" in checkpoint:
            learner.class_names = read_class_names(checkpoint["class_names"], learner.num_classes, path)
        learner.training_view = read_training_view(checkpoint)
        learner.read_as = read_reading(checkpoint)
        return learner

    def _answer(self, images: Tensor, visible: Tensor | None) -> Any:
        """What the network returns for images in pixel space; `visible` is for layer masking.

        Raises:
            UnsupportedNetworkError: `visible` is given, and layer masking cannot read the network.
            InputError: images have another number of bands.
        """
        if images.shape[1] != len(self.mean):
            raise InputError(
                f"the network takes images of {len(self.mean)} bands, as many as mean has, got {images.shape[1]}; give "
                "mean and std of these images."
            )
        images = self._normalise(images)
        network = self.network if visible is None else self._with_layer_masking(self.network, required=True)
        call = self._compiled if self._compiled is not None and self.training else network
        return call(images) if visible is None else call(images, visible)

    def compile_training(self) -> None:
        """Compile the network's forward and backward pass of training steps with `torch.compile`, at the first of them.

        Each batch size gets one graph, and what does not fit into one is an error, never computed eagerly. Evaluation
        stays eager, so that it takes hooks.
        """
        self._compiled = CompiledNetwork(self.network)

    def on_train_start(self) -> None:
        """Put a network of which a part is trained into eval mode."""
        super().on_train_start()
        if self.hparams["trainable"] is not None:
            self.network.eval()

    def present(self, batch: Batch) -> PresentedImages:
        """A batch as the training step sees it at this point of the training.

        Raises:
            RuntimeError: the training masks images, and no fit has started.
        """
        return present_whole(batch) if self.masking == "none" else self._presented(batch)

    def trained_network(self, name: str = "the network") -> TrainedNetwork:
        """The network as it is measured, in eval mode, with its preprocessing and its classes; weights are shared.

        Args:
            name: what it is called by.
        """
        architecture, options = self.hparams.get("architecture"), self.hparams["architecture_options"] or {}
        origin = None
        if isinstance(architecture, str):
            layer_masking = self.hparams["layer_masking"] or {}
            origin = Origin(architecture, options, is_own_class(architecture), layer_masking)
        found = self.network_kind(
            name,
            self.network,
            Preprocessing(self.mean, self.std),
            self.num_classes,
            origin=origin,
            own_method=None if self.masking == "none" else self.validation_method,
            channels_last=bool(self.hparams["channels_last"]),
            **named_outputs(self.class_names)._asdict(),
        )
        found.read_as = self.read_as
        return found

    def _clean_logits(self, batch: Batch, keys: Tensor) -> Tensor:
        """Logits with nothing hidden but pixels without data; a training without masks has seen these as they are."""
        if batch.visible is None or self.masking == "none":
            return self(batch.images)  # type: ignore[no-any-return]
        return self.trained_network().predictor(self.validation_method)(batch.images, batch.visible, keys)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the names of the data module's classes into the checkpoint, how it reads files, and how it shows them."""
        data = getattr(self._trainer, "datamodule", None)
        if self.training_view:
            checkpoint["training_view"] = {"crop": getattr(data, "crop_fraction", 1.0), **self.training_view}
        checkpoint["read_as"] = getattr(data, "read_as", self.read_as)
        names = getattr(data, "class_names", self.class_names)
        if names is not None:
            checkpoint["class_names"] = list(names)

    def _with_layer_masking(self, network: nn.Module, *, required: bool) -> nn.Module:
        """The network with layer masking; unchanged if layer masking does not support it and is not required."""
        if isinstance(network, LayerMasking):
            return network
        try:
            return LayerMasking(network, **(self.hparams["layer_masking"] or {}))
        except UnsupportedNetworkError:
            if required:
                raise
            return network
