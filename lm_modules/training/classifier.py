"""`MaskRobustClassifier`, the LightningModule that trains a CNN with masks, layer masking or both."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from maskrobust.augment import Batch, fold_in, patches, sample_keys
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import unwrapped
from maskrobust.lm_modules.networks.architectures import head_of
from maskrobust.lm_modules.networks.named import network_to_train
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.networks.weights import LayerMaskingOptions
from maskrobust.lm_modules.training.classifier_arguments import check_arguments
from maskrobust.lm_modules.training.learner import MaskedLearner
from maskrobust.lm_modules.training.mixing import MixName, mix
from maskrobust.lm_modules.training.objectives import OBJECTIVES, build_class_weights
from maskrobust.lm_modules.training.optimisation import OptimiserName, ScheduleName, defaults_of, plain_name
from maskrobust.lm_modules.training.processes import BalancedAccuracy, SampleMean
from maskrobust.lm_modules.training.training_masks import PresentedImages, TrainingMasking

_MEANS = ("val/loss", "val/accuracy", "val/accuracy_half_hidden", "test/accuracy")
_MIX_STREAM = 5


class MaskRobustClassifier(MaskedLearner):
    """A classifier trained on masked images.

    The hole of a training image follows from (`seed`, sample id, optimiser step) alone, so a resumed run, or one on
    more processes, draws the same holes. What a CPU computes (superpixels, enclosing circles, fills by inpainting,
    exemplars or linear imputation) and any of several fills are drawn by the loader processes of
    `maskrobust.train.data`, without `mix`, and follow from (`seed`, sample id, epoch).

    Args:
        architecture: name for `maskrobust.build_network`; or a class or function of your own, as in "my_module.MyNet";
            or a network that returns logits.
        num_classes: number of classes, and of the outputs of an architecture that takes it.
        architecture_options: further keyword arguments of the architecture, for example ``{"width": 32}``.
        in_channels: bands of the images, as many as `mean` has, which are those of the data; None for these. Weights of
            three colours are adapted as timm does it.
        mean: channel means in [0, 1], for normalisation and for the fill "mean".
        std: channel standard deviations, for normalisation.
        masking: how training images are presented: "none" (never masked), "fill" (the hole is painted), "layer_masking"
            (no layer reads hidden pixels), or "mixture" (each image one of the last two, evenly).
        mask_family: how the hole is drawn, a name of `augment.FAMILIES`; or several names, from which each image draws
            its own, each with its weight or with its options, as in
            ``{"patches": 2.0, "rectangles": {"weight": 1.0, "count": 3}}``. A family of your own is named with its
            module, as in "my_masks.stripes". Silhouettes are those of the data module's training objects.
        hidden_fraction: (low, high) fraction of the image hidden, by the families that can choose it.
        patch_size: side of a patch in pixels.
        mask_probability: probability that a training image is masked.
        exchange_holes: probability that a training image gets the hole of another image of the batch beside its own:
            pixels without data, which the data give as `visible`. Where holes go with the class, this makes them tell
            less of it. It applies whether or not the image is masked at random, too.
        fill: what is painted into the hole, a name of `augment.FILLS` or "other_image"; or several, as for
            `mask_family`. Under "other_image" (Patch Mixing) the label is mixed as the image is. Validation uses the
            one with the largest weight, or "mean" instead of "other_image", so that it does not depend on the batch.
        layer_masking: options of layer masking: `merge`, `detach_padding`, `padding`.
        mix: "mixup" or "cutmix" mixes each training image and its label with another one, before the holes are drawn
            (`lm_modules.training.mixing`); "none" does not.
        objective: the loss of a batch, a name of `objectives.OBJECTIVES`. An objective of your own, see
            `maskrobust.objective`, is named with its module, as in "my_objectives.margin".
        consistency_weight: weight of the agreement in the loss of the objective "consistency".
        optimiser: "sgd" (Nesterov) or "adamw". None for "sgd", and where `weights` are fine-tuned for "adamw", unless
            `learning_rate` is given.
        learning_rate: peak learning rate, of the head where `backbone_factor` is not 1. None for 0.1 of "sgd" (0.01
            where `weights` are fine-tuned) and 0.001 of "adamw".
        backbone_factor: learning rate of all layers ahead of the last linear one, over `learning_rate`; at least 0.
            None for 1, and for 0.1 where `weights` are fine-tuned, unless `learning_rate` is given.
        freeze_backbone_epochs: epochs at the start in which the last linear layer alone is trained, and all other
            layers are in eval mode.
        momentum: momentum of "sgd".
        weight_decay: weight decay, of weights with two or more axes only.
        schedule: "cosine" to 0, or "constant". None for "cosine", and where `weights` are fine-tuned for "constant",
            unless `learning_rate` is given.
        warmup_fraction: fraction of all steps spent on linear warm-up.
        label_smoothing: label smoothing in [0, 1), of the objective "cross_entropy".
        class_weights: weights of the classes in the loss of "cross_entropy", in label order; or "balanced" for N / (K
            n), with n of the N training images in a class of K. None weighs images alike.
        weights: what to start from: the name of torchvision's weights for the architecture, such as "IMAGENET1K_V2";
            "pretrained" for timm's; or a safetensors file, state dict or Lightning checkpoint.
        new_head: start the last linear layer at zero, for fine-tuning `weights` on other classes.
        trainable: paths of the modules that are trained, such as ["layer4", "fc"] of a ResNet; all others stay as they
            are, and those ahead of them cost no backward pass. The network then keeps to eval mode, so that all batch
            norms keep their statistics. None trains all.
        channels_last: keep images and weights in channels-last memory format (faster on most devices).
        seed: seed of the training masks.

    Attributes:
        num_classes: number of classes as given.
        class_names: one name for each class, where `from_checkpoint` has found them; None otherwise.
        read_as: how the data of the training read files, where `from_checkpoint` has found that; empty otherwise.
        training_view: size and crop of the pictures of the training, as values of `Preprocessing`, where
            `from_checkpoint` has found them; empty otherwise.

    Raises:
        InputError, MissingFileError: an argument is out of its range, or weights do not fit.
        UnsupportedNetworkError: `masking` is "layer_masking" or "mixture", and layer masking cannot read the network.
            Without layer masking any network can be trained.
    """

    def __init__(
        self,
        architecture: str | nn.Module = "small_resnet",
        num_classes: int = 10,
        *,
        architecture_options: dict[str, Any] | None = None,
        in_channels: int | None = None,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        masking: TrainingMasking = "none",
        mask_family: str | dict[str, float | dict[str, Any]] = "patches",
        hidden_fraction: tuple[float, float] = (0.1, 0.9),
        patch_size: int = 16,
        mask_probability: float = 0.5,
        exchange_holes: float = 0.0,
        fill: str | dict[str, float | dict[str, Any]] = "black",
        layer_masking: LayerMaskingOptions | None = None,
        mix: MixName = "none",
        objective: str = "cross_entropy",
        consistency_weight: float = 1.0,
        optimiser: OptimiserName | None = None,
        learning_rate: float | None = None,
        backbone_factor: float | None = None,
        freeze_backbone_epochs: int = 0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        schedule: ScheduleName | None = None,
        warmup_fraction: float = 0.1,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | Sequence[float] | None = None,
        weights: str | None = None,
        new_head: bool = False,
        trainable: Sequence[str] | None = None,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        balanced = {"val/balanced_accuracy": BalancedAccuracy(num_classes)}
        super().__init__(mean, std, {name: SampleMean() for name in _MEANS} | balanced)
        self.save_hyperparameters(ignore=["architecture"] if isinstance(architecture, nn.Module) else [])
        self._defaults = defaults_of(self.hparams)
        self.hparams.update(self._defaults)
        check_arguments(self.hparams)
        architecture = network_to_train(
            architecture, num_classes, architecture_options, weights, in_channels=len(mean), new_head=new_head
        )
        self.objective = OBJECTIVES.find(objective, "objective")
        has_teacher = "teacher" in self.objective.inputs
        self.teacher = copy.deepcopy(architecture).requires_grad_(False) if has_teacher else None
        self._take(architecture, num_classes)
        if channels_last and self.teacher is not None:
            self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._class_weights: Tensor | None = None

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Logits of images in pixel space.

        Args:
            images: (B, C, H, W) float in [0, 1].
            visible: (B, 1, H, W) bool for layer masking; None shows everything.

        Returns:
            (B, num_classes), or with more columns where a network of your own has more outputs.

        Raises:
            UnsupportedNetworkError: `visible` is given, and layer masking cannot read the network.
            InputError: the network returns something else.
        """
        logits: object = self._answer(images, visible)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] != self.num_classes:
            given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise InputError(
                f"the network must return logits (B, {self.num_classes}), one for each class, got {given}; give it as "
                "many outputs."
            )
        return logits

    def setup(self, stage: str) -> None:
        """Build the mask policy of a fit, and weigh its classes.

        Raises:
            InputError: silhouettes or objects are asked for and there are none, or no layer is the head.
        """
        super().setup(stage)
        if stage == "fit":
            source = getattr(self.trainer, "datamodule", None)
            self._class_weights = build_class_weights(self.hparams["class_weights"], self.num_classes, source)
            self._backbone = self._names_of_backbone()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the optimiser of the checkpoint where none is given: its defaults may have followed from weights.

        Raises:
            InputError: weights in it are refused; see `TrainingModule`.
        """
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("hyper_parameters", {})
        self.hparams.update({name: saved[name] for name in self._defaults if name in saved})

    def on_fit_start(self) -> None:
        """Refuse to distil from random weights; only now does the trainer say whether it goes on from a checkpoint.

        Raises:
            InputError: a distillation has no weights to learn from.
        """
        by_name, resumed = isinstance(self.hparams.get("architecture"), str), self.trainer.ckpt_path is not None
        if self.teacher is not None and by_name and not resumed and self.hparams["weights"] is None:
            raise InputError(
                f"objective '{self.objective.name}' learns from the network as it starts out, got random weights; give "
                "it trained ones as weights."
            )

    def _names_of_backbone(self) -> frozenset[str]:
        """Names of the parameters ahead of the head, the last linear layer; all where there is none."""
        network = unwrapped(self.network)
        path = head_of(network)
        if path is None and self.hparams["freeze_backbone_epochs"] > 0:
            raise InputError(
                f"freeze_backbone_epochs trains the last linear layer alone, but {type(network).__name__} has none; "
                "name what is trained as trainable."
            )
        head = [] if path is None else [*network.get_submodule(path).parameters()]
        return frozenset(name for name, each in self.named_parameters() if not any(each is other for other in head))

    def on_train_start(self) -> None:
        """Put the teacher into eval mode, too; a training that resumes within an epoch has no start of that epoch."""
        super().on_train_start()
        if self.teacher is not None:
            self.teacher.eval()
        self.on_train_epoch_start()

    @property
    def _is_frozen(self) -> bool:
        """Whether the head alone is trained in this epoch."""
        return bool(self.current_epoch < self.hparams["freeze_backbone_epochs"])

    def on_train_epoch_start(self) -> None:
        """Put frozen layers into eval mode, and take them out of it when they are trained."""
        super().on_train_epoch_start()
        if self.hparams["freeze_backbone_epochs"] > 0:
            self.network.train(not self._is_frozen)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave frozen layers as they are: an optimiser passes over parameters without a gradient."""
        if self._is_frozen:
            for name, parameter in self.named_parameters():
                if plain_name(name) in self._backbone:
                    parameter.grad = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch, () float.

        Raises:
            InputError: the objective compares with whole images, and these have pixels without data.
        """
        if batch.visible is not None and (self.teacher is not None or self.objective.name == "consistency"):
            raise InputError(
                f"objective '{self.objective.name}' compares with whole images, but these have pixels without data; "
                "choose cross_entropy."
            )
        self.training_view = {"size": list(batch.images.shape[2:])}
        inputs = {
            "learner": self,
            "batch": batch,
            "shown": self.present(batch),
            "teacher": self._ask_teacher,
            "source": getattr(self._trainer, "datamodule", None),
            "label_smoothing": float(self.hparams["label_smoothing"]),
            "class_weights": None if self._class_weights is None else self._class_weights.to(batch.labels.device),
            "consistency_weight": float(self.hparams["consistency_weight"]),
        }
        loss = self.objective.call(inputs, {})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.ids))
        return loss

    def present(self, batch: Batch) -> PresentedImages:
        """A batch as the training step sees it at this point of the training.

        Raises:
            RuntimeError: the training masks images, and no fit has started.
        """
        if self.hparams["mix"] == "none":
            return super().present(batch)
        step = sample_keys(int(self.hparams["seed"]), torch.tensor([self.global_step]))
        key = int(fold_in(fold_in(step, _MIX_STREAM), self.global_rank))
        batch, partners, own_weight = mix(batch, self.hparams["mix"], key)
        return super().present(batch)._replace(partners=partners, own_weight=own_weight)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log loss, accuracy and balanced accuracy of clean images, and accuracy with half of the patches hidden.

        Under an objective with a teacher the teacher's answers stand for the labels.
        """
        keys = sample_keys(0, batch.ids)
        logits = self._clean_logits(batch, keys)
        labels = batch.labels if self.teacher is None else self._ask_teacher(batch.images).argmax(dim=1)
        height, width = batch.images.shape[2:]
        half = patches(keys, height, width, hidden_fraction=(0.5, 0.5), patch_size=int(self.hparams["patch_size"]))
        predict = self.trained_network().predictor(self.validation_method)
        masked_logits = predict(batch.images, half & batch.known, keys)
        self._log_mean("val/loss", batch, F.cross_entropy(logits, labels, reduction="none"))
        self._log_mean("val/accuracy", batch, _is_right(logits, labels), prog_bar=True)
        self._log_mean("val/balanced_accuracy", batch, torch.stack([labels, logits.argmax(dim=1)], dim=1))
        self._log_mean("val/accuracy_half_hidden", batch, _is_right(masked_logits, labels), prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the accuracy of clean images."""
        logits = self._clean_logits(batch, sample_keys(0, batch.ids))
        self._log_mean("test/accuracy", batch, _is_right(logits, batch.labels))

    @torch.no_grad()
    def _ask_teacher(self, images: Tensor) -> Tensor:
        """The teacher's logits (B, num_classes) of images in pixel space."""
        assert self.teacher is not None
        logits: Tensor = self.teacher(self._normalise(images))
        return logits


def _is_right(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(dim=1) == labels
