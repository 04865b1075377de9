"""An image of which nothing is hidden, beside masked ones in a batch: its output is that of the plain network."""

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, VisibleMap
from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import draw_images

SIZE = 12
AHEAD = {
    "padding beyond the window": lambda: [nn.Conv2d(3, 8, 1, padding=1)],
    "padding beyond a dilated window": lambda: [nn.Conv2d(3, 8, 2, padding=4, dilation=3)],
    "padding apart from its convolution": lambda: [nn.ZeroPad2d(2), nn.ReLU(), nn.Conv2d(3, 8, 3)],
    "padding on one side, then a pool": lambda: [
        Function(lambda x: nn.functional.pad(x, (0, 3, 0, 0))),
        nn.AvgPool2d(2),
    ],
    "gaps of a transposed convolution": lambda: [nn.ConvTranspose2d(3, 8, 2, stride=3, output_padding=1)],
}


def build(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        channels = 3 if "pool" in name else 8
        behind = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
        return nn.Sequential(*AHEAD[name](), *behind, *head).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images: something is hidden in the first, nothing in the second, all but one pixel in the third."""
    visible = torch.zeros(3, 1, SIZE, SIZE, dtype=torch.bool)
    visible[0, :, :9, :9] = visible[1] = visible[2, :, 5, 5] = True
    return draw_images(3, SIZE), visible


@pytest.mark.parametrize("name", AHEAD)
@pytest.mark.parametrize("way", ["dense", "rows", "on an accelerator"])
@torch.no_grad()
def test_a_whole_image_is_computed_as_by_the_plain_network_however_it_is_padded(
    name: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, (images, visible) = build(name), batch()
    if way == "on an accelerator":
        monkeypatch.setattr(VisibleMap, "may_be_read", False)
    logits = LayerMasking(network, engine="rows" if way == "rows" else "dense")(images, visible)
    torch.testing.assert_close(logits[1], network(images)[1])
    assert ((logits - network(images)).abs().amax(dim=1) > 1e-3).tolist() == [True, False, True]


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_a_compiled_network_computes_it_likewise() -> None:
    network, (images, visible) = build("padding beyond the window"), batch()
    compiled = torch.compile(LayerMasking(network), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, visible)[1], network(images)[1])
