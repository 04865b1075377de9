"""`ExplanationPanel`, a callback that logs explanations of validation images as pictures."""

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from maskrobust.augment import Batch, fold_in, sample_keys
from maskrobust.augment.batch import check_all_known
from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.callbacks.loggers import draw_grid, log_picture, shows_pictures
from maskrobust.lm_modules.callbacks.reliance import classifier_of
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.overlays import grey, laid_over, score_overlay, shown_scores
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, check_methods


class ExplanationPanel(pl.Callback):
    """Shows what the predictions of the first validation images rest on, every few epochs, under each masking method.

    Weights & Biases and TensorBoard get the picture as ``explanations/<explainer>``: a row an image, then a column a
    method; orange segments raise the image's own class, blue ones lower it, and a row has one scale. Without these
    loggers nothing is computed. Queries depend on (seed, sample id) alone, so that epochs can be compared; training
    goes on as it would without. The first process explains alone.

    Args:
        methods: masking methods to ask the network under.
        plan: how images are explained; of its explainers the first is shown.
        patch_size: side in pixels of the patches that are hidden.
        every_n_epochs: epochs between two pictures, at least 1; the last epoch of each group is shown.
        pictures: how many images, at least 1, of the first validation batch.
        seed: seed of queries and random fills.

    Raises:
        InputError: a method is unknown, a number is below its minimum, or an explainer needs gradients.
    """

    def __init__(
        self,
        methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking"),
        *,
        plan: ExplanationPlan | None = None,
        patch_size: int = 16,
        every_n_epochs: int = 1,
        pictures: int = 4,
        seed: int = 0,
    ) -> None:
        check_methods(methods, "methods")
        for name, number in {"patch_size": patch_size, "every_n_epochs": every_n_epochs, "pictures": pictures}.items():
            check_at_least(name, number, 1)
        self.methods = tuple(methods)
        self.plan = plan or ExplanationPlan(("lime",), samples=512)
        for name in self.plan.explainers:
            if find_explainer(name).reads_network is not None:
                raise InputError(f"{name} needs gradients, which validation has none of; take another explainer.")
        self.patch_size, self.every_n_epochs, self.pictures, self.seed = patch_size, every_n_epochs, pictures, seed

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Explain the first images of the first batch where this epoch is to be shown.

        Raises:
            InputError: the module is no `MaskRobustClassifier`, or there are too few samples for the patches.
            UnsupportedNetworkError: layer masking is asked for and cannot read the network.
        """
        is_due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 and not trainer.sanity_checking
        if batch_idx > 0 or not (is_due and trainer.is_global_zero and shows_pictures(trainer.loggers)):
            return
        check_all_known(batch, type(self).__name__)
        network = classifier_of(pl_module, self).trained_network()
        predictors = [network.predictor(method) for method in self.methods]
        with isolate_rng():
            picture = draw_explanations(
                batch.select(slice(self.pictures)), predictors, self.plan, self.patch_size, self.seed
            )
        name = f"explanations/{self.plan.explainers[0]}"
        log_picture(trainer.loggers, name, picture, " | ".join(("image", *self.methods)), trainer.global_step)


def draw_explanations(
    batch: Batch, predictors: list[Predictor], plan: ExplanationPlan, patch_size: int, seed: int
) -> Tensor:
    """Images, and beside each the explanation of its own class under each masking method.

    Args:
        batch: a row for each of its images.
        predictors: a column for each, after that of the images.
        plan: how images are explained; of its explainers the first is shown.
        patch_size: side in pixels of the patches that are hidden.
        seed: seed of queries and random fills.

    Returns:
        (3, height, width) float32 in [0, 1], on the CPU.
    """
    keys = fold_in(sample_keys(seed, batch.ids), 0).tolist()
    patches = Segments.patches(batch.images[:1], patch_size)
    labels = patches.labels[0].cpu().numpy()
    explainer = plan.explainers[0]
    cells = []
    for image, label, key in zip(batch.images, batch.labels.tolist(), keys, strict=True):
        found = explain_image(ExplanationRequest(image, [predictors], plan, key), {"patches": patches}, [label])
        scores = shown_scores(explainer, found.explanations[Explained("patches", explainer)].scores[0, ..., 0], axis=1)
        shown = (image.float().cpu() * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        largest = float(np.abs(scores).max())
        overlays = [laid_over(grey(shown), score_overlay(labels, each, largest)) for each in scores]
        cells += [shown, *overlays]
    return draw_grid(torch.from_numpy(np.stack(cells)).permute(0, 3, 1, 2) / 255, columns=1 + len(predictors))
