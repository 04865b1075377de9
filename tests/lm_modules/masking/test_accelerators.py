"""On an accelerator layer masking computes the same, and does not wait for the device at every layer.

Tensors on "meta" stand for those of an accelerator: they have no values, and whoever asks for one gets an error.
"""

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, VisibleMap
from maskrobust.lm_modules.masking.masked import PaddingRule
from tests.lm_modules.masking.architectures import build
from tests.lm_modules.masking.networks import draw_images, holes

ARCHITECTURES = ["timm/test_convnext", "timm/test_efficientnet"]
every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@every_architecture
@every_padding
def test_a_training_step_does_not_wait_for_the_device(architecture: str, padding: PaddingRule) -> None:
    masked = LayerMasking(build(architecture), padding=padding).to("meta").train()
    logits = masked(draw_images().to("meta"), holes().to("meta"))
    nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64, device="meta")).backward()
    assert all(parameter.grad is not None for parameter in masked.parameters())


@every_architecture
@torch.no_grad()
def test_in_eval_mode_it_waits_for_whether_everything_is_visible_alone(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = LayerMasking(build(architecture)).to("meta").eval()
    images, visible = draw_images().to("meta"), holes().to("meta")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        masked(images, visible)
    monkeypatch.setattr(VisibleMap, "is_all_visible", False)
    assert masked(images, visible).shape == (3, 10)
