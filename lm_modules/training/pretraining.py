"""`MaskedPretraining`: pre-training without labels, in which a decoder draws the hidden pixels.

Source of the task: He et al., "Masked Autoencoders Are Scalable Vision Learners" (CVPR 2022), and for CNNs Tian et al.,
"Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling" (SparK, ICLR 2023). SparK
multiplies features by the mask in each layer, which pads with zeros; here layer masking pads, for masks of any shape.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maskrobust.augment import Batch, sample_keys
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, Masked
from maskrobust.lm_modules.masking.axes import MEMORY, beside, cropped
from maskrobust.lm_modules.networks.maps import map_layers
from maskrobust.lm_modules.networks.named import network_to_train
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.networks.weights import LayerMaskingOptions
from maskrobust.lm_modules.training.classifier_arguments import check_values_of
from maskrobust.lm_modules.training.module import TrainingModule
from maskrobust.lm_modules.training.processes import SampleMean
from maskrobust.lm_modules.training.reconstruction import Decoder, patch_normalised, reconstruction_loss
from maskrobust.lm_modules.training.training_masks import TrainingMasking


class MaskedPretraining(TrainingModule):
    """Pre-training without labels: an encoder sees visible pixels only, and a decoder predicts the hidden ones.

    The encoder is the very network that is fine-tuned later, under its own names; its head is not trained. Layer
    masking keeps hidden pixels from it: no value of theirs changes a bit of its maps. A light `Decoder` draws the
    hidden pixels from these maps; the loss is `reconstruction_loss` with `patch_normalised` pixels as targets. The hole
    of an image follows from (`seed`, sample id, optimiser step) alone, in validation from (`seed`, sample id).

    Args:
        architecture: name for `maskrobust.build_network`; or as in `MaskRobustClassifier`. Any network that has maps
            inside, or returns maps, also of signals (B, C, L) and volumes (B, C, D, H, W), with the same stride along
            each axis.
        num_classes: outputs of the head, which is not trained; 1000 fits what torchvision and timm build by default.
        architecture_options: further keyword arguments of the architecture.
        mean: channel means in [0, 1], for normalisation.
        std: channel standard deviations, for normalisation.
        layers: paths of the modules whose maps the decoder is given; each has another stride, which divides the images.
            None for `map_layers`: of each stride from 4 on the last stage.
        mask_family: how the hole is drawn, a name of `augment.FAMILIES`; for more see `MaskRobustClassifier`.
        hidden_fraction: (low, high) fraction of the image hidden, by the families that can choose it.
        patch_size: side in pixels of a hidden patch, and of the patches that targets are normalised in.
        layer_masking: options of layer masking: `merge`, `detach_padding`, `padding`.
        decoder_width: channels of the decoder, a multiple of 8.
        learning_rate: peak learning rate of AdamW, which comes down to 0 along a cosine.
        weight_decay: weight decay of weights with two or more axes.
        warmup_fraction: fraction of all steps spent on linear warm-up.
        weights: what to start from, as in `MaskRobustClassifier`.
        channels_last: keep images and weights in channels-last memory format (faster on most devices).
        seed: seed of the masks.

    Raises:
        InputError, MissingFileError: an argument is out of its range, weights do not fit, or the network has no such
            layers.
        UnsupportedNetworkError: layer masking cannot read the network.
    """

    masking: TrainingMasking = "layer_masking"

    def __init__(
        self,
        architecture: str | nn.Module = "small_resnet",
        num_classes: int = 1000,
        *,
        architecture_options: dict[str, Any] | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        layers: Sequence[str] | None = None,
        mask_family: str | dict[str, float | dict[str, Any]] = "patches",
        hidden_fraction: tuple[float, float] = (0.6, 0.6),
        patch_size: int = 32,
        layer_masking: LayerMaskingOptions | None = None,
        decoder_width: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        warmup_fraction: float = 0.1,
        weights: str | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(mean, std, {"val/loss": SampleMean()})
        self.save_hyperparameters(ignore=["architecture"] if isinstance(architecture, nn.Module) else [])
        check_values_of(self.hparams)
        architecture = network_to_train(architecture, num_classes, architecture_options, weights, in_channels=len(mean))
        self.num_classes = num_classes
        self.maps = map_layers(architecture, layers)
        if not len(mean) == len(std) == self.maps.image_channels:
            raise InputError(
                f"mean and std must have a value for each of the {self.maps.image_channels} channels of the network's "
                f"images, got {mean} and {std}; give those of the training data."
            )
        for name, parameter in architecture.named_parameters():
            if name not in self.maps.parameters:  # processes that train together wait for gradients of all others
                parameter.requires_grad_(False)
        self.network = LayerMasking(architecture, **(layer_masking or {}))
        self.decoder = Decoder(self.maps.channels, decoder_width, self.maps.image_channels, self.maps.axes)
        if channels_last and (memory_format := MEMORY.get(self.maps.axes + 2)):
            for part in (self.network, self.decoder):
                part.to(memory_format=memory_format)  # type: ignore[call-overload]

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """What the hidden pixels show, in the unit of `patch_normalised`.

        Args:
            images: (B, 3, H, W) float in [0, 1], or as the network takes them; read at visible pixels only.
            visible: (B, 1, H, W) bool.

        Returns:
            (B, 3, H, W); at visible pixels it means nothing.

        Raises:
            InputError: the finest map does not cover the images.
        """
        prediction = cropped(self.decoder(self.encode(images, visible)), images.shape[2:])
        if prediction.shape != images.shape:
            stride = min(self.maps.channels)
            raise InputError(
                f"images must be as large as a map of stride {stride} shows, {tuple(prediction.shape[2:])}, got "
                f"{tuple(images.shape[2:])}; resize them to a multiple of {stride} pixels."
            )
        return prediction

    def encode(self, images: Tensor, visible: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The encoder's maps, by ascending stride: features (B, C, h, w), 0 where hidden, and (B, 1, h, w) bool.

        Args:
            images: (B, 3, H, W) float in [0, 1]; read at visible pixels only.
            visible: (B, 1, H, W) bool.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}

        def keep(path: str, _module: nn.Module, _images: Any, output: Any) -> None:
            if isinstance(output, Masked):  # a copy: later layers may change it in place
                found[path] = output.as_plain(), output.visible.known
            else:  # nothing is hidden
                found[path] = output.clone(), torch.ones_like(output[:, :1], dtype=torch.bool)

        with ExitStack() as hooks:
            for path in self.maps.paths:
                module = self.network.network.get_submodule(path)
                hooks.enter_context(module.register_forward_hook(partial(keep, path)))
            self.network(self._normalise(images), visible)
        return [found[path] for path in self.maps.paths]

    def embed(self, images: Tensor, visible: Tensor) -> Tensor:
        """Features of images: the mean of the deepest map over its visible positions, (B, C); 0 where there are none.

        Args:
            images: (B, 3, H, W) float in [0, 1]; read at visible pixels only.
            visible: (B, 1, H, W) bool.
        """
        features, shown = self.encode(images, visible)[-1]
        return features.flatten(2).sum(dim=2) / shown.flatten(2).sum(dim=2).clamp(min=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, () float32."""
        loss = self._losses(batch, self._presented(batch).kept).mean()
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss with holes that are the same in each epoch."""
        self._log_mean("val/loss", batch, self._losses(batch, self._draw_visible(batch)), prog_bar=True)

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the encoder sees of a batch in validation, and the images with hidden pixels as the decoder draws them.

        Mean and standard deviation of each patch, which are not predicted, are those of the image.

        Args:
            batch: B samples, images in [0, 1].

        Returns:
            `visible` (B, 1, H, W) bool, and (B, 3, H, W) float in [0, 1].
        """
        visible = self._draw_visible(batch)
        _, mean, deviation = self._targets(batch)
        colours = self(batch.images, visible).float() * deviation + mean
        std, centre = (beside(colours.new_tensor(each), self.maps.axes) for each in (self.std, self.mean))
        return visible, torch.where(visible, batch.images, colours * std + centre).clamp(0, 1)

    def compile_training(self) -> None:
        """Refuse `fit`'s option to compile the network: its maps are taken by hooks."""
        raise InputError("compile must be false in pre-training, which takes maps inside the network; leave it out.")

    def _losses(self, batch: Batch, visible: Tensor) -> Tensor:
        targets, _, _ = self._targets(batch)
        return reconstruction_loss(self(batch.images, visible), targets, batch.known & ~visible)

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return patch_normalised(self._normalise(batch.images), batch.known, int(self.hparams["patch_size"]))

    def _draw_visible(self, batch: Batch) -> Tensor:
        """Holes that are the same in each epoch."""
        if self.training_masks is None:
            self.build_masks(getattr(self._trainer, "datamodule", None))
        assert self.training_masks is not None
        there = batch.to(self._drawing_device(batch))
        keys = sample_keys(int(self.hparams["seed"]), there.ids)
        return self.training_masks.draw_visible(keys, there).to(batch.images.device)
