"""`FeatureProbe`, which asks during a pre-training how well its features tell labelled images apart."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.callbacks.loggers import define_metric
from maskrobust.lm_modules.callbacks.reliance import check_order, module_of, set_up
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.processes import of_all_ranks

LINEAR, NEIGHBOURS = "val/linear_probe", "val/nearest_neighbours"


class FeatureProbe(pl.Callback):
    """Logs, every few epochs of a `MaskedPretraining`, how well two simple classifiers of its features do.

    Features are `MaskedPretraining.embed` of whole images. Both classifiers learn from images of the training split
    that have a label, and the logged number is the fraction of those of the validation split that they get right.
    ``val/linear_probe`` is logistic regression on standardised features (L2 penalty of weight 1), and
    ``val/nearest_neighbours`` the majority of the training images with the largest cosine similarity. Training goes on
    as it would without.

    Args:
        data: data module of labelled images, such as `maskrobust.train.data.Folder`.
        every_n_epochs: epochs between two measurements, at least 1; the last epoch of the trainer's max_epochs or
            max_steps is measured, too.
        neighbours: how many nearest neighbours vote, at least 1.
        max_images: images of each split, at least 1; of files evenly spread over it, else the first ones.

    Raises:
        InputError: a number is below its minimum.
    """

    def __init__(
        self, data: pl.LightningDataModule, *, every_n_epochs: int = 10, neighbours: int = 20, max_images: int = 5000
    ) -> None:
        numbers = {"every_n_epochs": every_n_epochs, "neighbours": neighbours, "max_images": max_images}
        for name, number in numbers.items():
            check_at_least(name, number, 1)
        self.data: Any = data
        self.every_n_epochs, self.neighbours, self.max_images = every_n_epochs, neighbours, max_images

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Get the data ready, and choose the best values for the summary of Weights & Biases.

        Raises:
            InputError: the module is no `MaskedPretraining`, the data are no data module of this project or have fewer
                than two classes, or a callback that averages weights comes first.
        """
        module_of(MaskedPretraining, pl_module, self)
        if not hasattr(self.data, "some_images"):
            raise InputError(
                f"FeatureProbe needs a data module of maskrobust.train.data, got {type(self.data).__name__}; give one."
            )
        check_order(self, trainer, stage)
        if self.data.num_classes < 2:
            raise InputError(
                f"FeatureProbe needs images of two classes or more, got {self.data.num_classes}; give labelled images."
            )
        set_up(self.data, trainer)
        for name in (LINEAR, NEIGHBOURS):
            define_metric(trainer.loggers, name, goal="high")

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit both classifiers where this epoch is to be measured, and log how often they are right.

        Raises:
            InputError: images with fewer than two labels are left to learn from, or none to be tested on.
        """
        epoch = trainer.current_epoch + 1
        is_last = epoch == trainer.max_epochs or trainer.global_step == trainer.max_steps
        if trainer.sanity_checking or (epoch % self.every_n_epochs and not is_last):
            return
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        module = module_of(MaskedPretraining, pl_module, self)
        with isolate_rng():  # loaders draw from the generator of the training
            seen, labels = self._embedded("train", trainer, module)
            tested, answers = self._embedded("val", trainer, module)
        if len(labels.unique()) < 2 or len(answers) == 0:
            raise InputError(
                f"FeatureProbe needs training images with two labels or more and labelled validation images, got "
                f"{len(labels.unique())} labels and {len(answers)} images; give other data."
            )
        fitted = {
            LINEAR: make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
            NEIGHBOURS: KNeighborsClassifier(min(self.neighbours, len(labels)), metric="cosine"),
        }
        for name, classifier in fitted.items():
            classifier.fit(seen.numpy(), labels.numpy())
            right = float(classifier.score(tested.numpy(), answers.numpy()))
            # every process has the same value, and the mean over processes leaves it so
            module.log(name, right, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def _embedded(
        self, split: str, trainer: pl.Trainer, module: MaskedPretraining
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, C) float32 and labels (N,) of the labelled images of a split, on the CPU."""
        found = []
        for number, batch in enumerate(self.data.some_images(split, self.max_images)):
            if number % trainer.world_size == trainer.global_rank:
                labelled = batch.select(batch.labels >= 0).to(module.device)
                visible = torch.ones_like(labelled.images[:, :1], dtype=torch.bool)
                found.append((number, module.embed(labelled.images, visible).float().cpu(), labelled.labels.cpu()))
        ordered = sorted((each for of_rank in of_all_ranks(found) for each in of_rank), key=lambda each: each[0])
        return torch.cat([each[1] for each in ordered]), torch.cat([each[2] for each in ordered])
