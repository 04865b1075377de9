"""`MaskRobustSegmenter`, the LightningModule that trains a segmentation network with holes."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.augment import OTHER_IMAGE, Batch, patches, read_fills, sample_keys
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.networks.segmentation import SegmentationNetwork, segmentation_network
from maskrobust.lm_modules.networks.weights import LayerMaskingOptions
from maskrobust.lm_modules.training.classifier_arguments import check_values_of
from maskrobust.lm_modules.training.learner import MaskedLearner
from maskrobust.lm_modules.training.objectives import check_class_weights
from maskrobust.lm_modules.training.optimisation import OptimiserName, ScheduleName
from maskrobust.lm_modules.training.processes import MeanIoU, PixelMean, counts_of_pixels
from maskrobust.lm_modules.training.segmentation_losses import (
    LOSSES,
    UNLABELLED,
    SegmentationLoss,
    check_labels,
)
from maskrobust.lm_modules.training.training_masks import TrainingMasking

_BESIDE = 2
"""Largest distance in pixels, along rows and columns, of what lies beside a hole."""


class MaskRobustSegmenter(MaskedLearner):
    """A segmentation network, trained on images with holes: hidden pixels have no loss, and count in no metric.

    Batches are those of `MaskRobustClassifier`, with a class for each pixel as labels: a `Batch`, (images, labels,
    visible), or a dictionary with these names or, as in torchgeo, with "image" and "mask". Labels are (B, H, W)
    integers; visible, (B, 1, H, W) or (B, H, W), is False where there are no data. A batch without a pixel that is both
    labelled and visible has loss 0. Holes are drawn as by `MaskRobustClassifier`, from (`seed`, sample id, optimiser
    step) alone.

    It logs val/loss, val/iou and test/iou with nothing hidden but pixels without data, val/iou_half_hidden, of pixels
    that are left where half of the patches are hidden, and val/iou_beside_holes, of those of them that are at most two
    pixels from a hidden one. IoU is the mean over classes, of all pixels of a split
    together.

    Args:
        architecture: "smp/Unet:resnet18" and the like, of segmentation_models_pytorch;
            "torchvision/deeplabv3_resnet50" and the like; a class or function of your own, as in "my_module.MyNet"; or
            a network. It returns logits (B, num_classes, H, W), alone or as "out" of a dictionary.
        num_classes: number of classes.
        architecture_options: further keyword arguments of the architecture.
        mean: channel means in [0, 1], one for each band of the images.
        std: channel standard deviations.
        masking: as of `MaskRobustClassifier`, as are mask_family, hidden_fraction, patch_size, mask_probability, fill
            and layer_masking. No image gets the fill "other_image".
        loss: "cross_entropy", "dice", or "both", their sum.
        class_weights: weight of each class in cross-entropy; None for 1.
        ignore_index: label of pixels that have none.
        optimiser: as of `MaskRobustClassifier`, as are learning_rate, momentum, weight_decay, schedule,
            warmup_fraction, trainable, channels_last and seed.
        weights: "imagenet" for an encoder with the weights of its library, or a file to start from.

    Raises:
        InputError, MissingFileError: an argument is out of its range, or weights do not fit.
        UnsupportedNetworkError: `masking` is "layer_masking" or "mixture", and layer masking cannot read the network.
    """

    network_kind = SegmentationNetwork
    labels_pixels = True

    def __init__(
        self,
        architecture: str | nn.Module = "smp/Unet:resnet18",
        num_classes: int = 2,
        *,
        architecture_options: dict[str, Any] | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        masking: TrainingMasking = "none",
        mask_family: str | dict[str, float | dict[str, Any]] = "patches",
        hidden_fraction: tuple[float, float] = (0.1, 0.9),
        patch_size: int = 16,
        mask_probability: float = 0.5,
        fill: str | dict[str, float | dict[str, Any]] = "black",
        layer_masking: LayerMaskingOptions | None = None,
        loss: SegmentationLoss = "cross_entropy",
        class_weights: Sequence[float] | None = None,
        ignore_index: int = 255,
        optimiser: OptimiserName = "adamw",
        learning_rate: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        schedule: ScheduleName = "cosine",
        warmup_fraction: float = 0.1,
        weights: str | None = None,
        trainable: Sequence[str] | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        names = ("val/iou", "val/iou_half_hidden", "val/iou_beside_holes", "test/iou")
        metrics = {name: MeanIoU() for name in names}
        super().__init__(mean, std, {"val/loss": PixelMean(), **metrics})
        self.save_hyperparameters(ignore=["architecture"] if isinstance(architecture, nn.Module) else [])
        check_values_of(self.hparams)
        if any(each.name == OTHER_IMAGE for each in read_fills(fill)):
            raise InputError(f"fill '{OTHER_IMAGE}' mixes labels of whole images, not of pixels; choose another fill.")
        if 0 <= ignore_index < num_classes:
            raise InputError(f"ignore_index must be no class (0 to {num_classes - 1}), got {ignore_index}; change it.")
        if class_weights is not None:
            check_class_weights(class_weights, num_classes)
        network = segmentation_network(architecture, num_classes, architecture_options, weights, len(mean))
        self._take(network, num_classes)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, C, H, W) in [0, 1]; at hidden pixels they mean nothing.

        Args:
            images: (B, C, H, W) float in [0, 1].
            visible: (B, 1, H, W) bool for layer masking; None shows everything.

        Raises:
            UnsupportedNetworkError: `visible` is given, and layer masking cannot read the network.
            InputError: the network returns something else.
        """
        found = self._answer(images, visible)
        logits = found.get("out") if isinstance(found, dict) else found
        expected = (len(images), self.num_classes, *images.shape[2:])
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(found).__name__
            raise InputError(
                f"the network must return logits of each pixel, {expected}, alone or as 'out' of a dictionary, got "
                f"{given}; give it as many outputs, and images whose sides its strides divide."
            )
        return logits

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """A batch whose labels are checked while they are on the CPU.

        Raises:
            InputError: it is no batch, or a visible pixel has a label that is no class.
        """
        made = super().on_before_batch_transfer(batch, dataloader_idx)
        if made.labels.shape != (len(made.ids), *made.images.shape[2:]):
            raise InputError(
                f"labels must be a class for each pixel, {(len(made.ids), *made.images.shape[2:])}, got shape "
                f"{tuple(made.labels.shape)}; train a MaskRobustClassifier where an image has one."
            )
        check_labels(made.labels[made.known[:, 0]], self.num_classes, self.hparams["ignore_index"])
        return made

    def targets(self, batch: Batch, kept: Tensor) -> Tensor:
        """What is learnt of a batch, (B, H, W) int64: labels, and -1 at pixels that are hidden or have none.

        Args:
            batch: B samples with labels (B, H, W).
            kept: (B, 1, H, W) bool, False where a pixel does not count.
        """
        is_known = (kept & batch.known)[:, 0] & (batch.labels != self.hparams["ignore_index"])
        return batch.labels.long().where(is_known, UNLABELLED)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, () float, over labelled pixels that are shown."""
        shown = self.present(batch)
        logits, weights = self(shown.images, shown.visible), self.hparams["class_weights"]
        given = None if weights is None else logits.new_tensor(weights)
        loss = LOSSES[self.hparams["loss"]](logits, self.targets(batch, shown.kept), given)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss and IoU of clean images, and IoU of what is left with half of the patches hidden."""
        keys = sample_keys(0, batch.ids)
        logits, targets = self._clean_logits(batch, keys), self.targets(batch, batch.known)
        losses = F.cross_entropy(logits.float(), targets, ignore_index=UNLABELLED, reduction="none")
        sums = torch.stack([losses.sum((1, 2)), (targets != UNLABELLED).sum((1, 2))], dim=1)
        self._log_mean("val/loss", batch, sums)
        self._log_iou("val/iou", batch, logits, targets)
        left, logits = self.half_hidden(batch)
        self._log_iou("val/iou_half_hidden", batch, logits, self.targets(batch, left))
        is_beside = F.max_pool2d((~left).float(), 2 * _BESIDE + 1, stride=1, padding=_BESIDE) > 0
        self._log_iou("val/iou_beside_holes", batch, logits, self.targets(batch, left & is_beside))

    def half_hidden(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What validation leaves of images where it hides half of the patches, and the answer to that.

        Args:
            batch: B samples.

        Returns:
            (B, 1, H, W) bool, False where pixels are hidden or have no data; and logits (B, num_classes, H, W).
        """
        keys, (height, width) = sample_keys(0, batch.ids), batch.images.shape[2:]
        half = patches(keys, height, width, hidden_fraction=(0.5, 0.5), patch_size=int(self.hparams["patch_size"]))
        predict = self.trained_network().predictor(self.validation_method)
        return half & batch.known, predict(batch.images, half & batch.known, keys)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the IoU of clean images."""
        logits = self._clean_logits(batch, sample_keys(0, batch.ids))
        self._log_iou("test/iou", batch, logits, self.targets(batch, batch.known))

    def trained_network(self, name: str = "the network") -> SegmentationNetwork:
        """See `MaskedLearner.trained_network`; this one knows `ignore_index`, too."""
        found = super().trained_network(name)
        assert isinstance(found, SegmentationNetwork)
        found.ignore_index = self.hparams["ignore_index"]
        return found

    def _log_iou(self, name: str, batch: Batch, logits: Tensor, targets: Tensor) -> None:
        counts = counts_of_pixels(logits.argmax(dim=1), targets, self.num_classes)
        self._log_mean(name, batch, counts, prog_bar=True)
