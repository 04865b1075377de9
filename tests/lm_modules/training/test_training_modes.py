"""The classifier under the trainer's own modes: averaged weights, accumulated gradients, mixed precision."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging

from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data import Cues


@pytest.fixture(scope="module")
def data():
    return Cues(train_images=64, val_images=8, test_images=8, image_size=32, num_classes=4, batch_size=16)


def classifier(**options):
    pl.seed_everything(0, verbose=False)
    return MaskRobustClassifier(num_classes=4, masking="layer_masking", patch_size=8, mask_probability=1.0, **options)


def fit(model, data, **options):
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model, datamodule=data)
    return trainer


class GradientRecord(pl.Callback):
    """Every parameter's gradient after each backward pass, and at the last step."""

    def __init__(self) -> None:
        self.after_backward: list[list[torch.Tensor]] = []
        self.at_step: list[torch.Tensor] = []

    def on_after_backward(self, trainer, pl_module):
        self.after_backward.append([parameter.grad.clone() for parameter in pl_module.parameters()])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.at_step = [parameter.grad.clone() for parameter in pl_module.parameters()]


def test_averaged_weights_are_the_mean_of_those_of_every_step(data):
    seen: list[dict[str, torch.Tensor]] = []

    class Record(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            seen.append(copy.deepcopy(dict(pl_module.named_parameters())))

    model = classifier()
    fit(model, data, callbacks=[EMAWeightAveraging(decay=0.5), Record()])
    average = seen[0]
    for weights in seen[1:]:
        average = {name: 0.5 * average[name] + 0.5 * value for name, value in weights.items()}
    torch.testing.assert_close(dict(model.named_parameters()), average, rtol=1e-4, atol=1e-5)


def test_two_batches_accumulated_are_one_step_by_the_mean_of_their_gradients(data):
    """With plain SGD the step is -learning_rate x gradient; batch norm's statistics are those of each batch alone."""
    alone, together = GradientRecord(), GradientRecord()
    fit(classifier(), data, callbacks=[alone], limit_train_batches=1)
    fit(classifier(), data, callbacks=[together], limit_train_batches=2, accumulate_grad_batches=2)
    first, second = together.after_backward
    torch.testing.assert_close(first, [gradient / 2 for gradient in alone.at_step], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together.at_step, second)
    assert all(not torch.equal(one, both) for one, both in zip(first, second, strict=True))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_mixed_precision_trains_with_finite_losses_on_visible_pixels_alone(data, precision):
    trainer = fit(classifier(), data, precision=precision)
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert torch.isfinite(trainer.callback_metrics["val/loss"])
