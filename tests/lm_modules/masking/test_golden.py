"""ResNet-50 against the logits of the paper's own code, which the project does not contain.

`golden/resnet50_layer_masking.npz` holds `plain_logits` and `masked_logits`, (3, 1000) float32, computed on a CPU in
eval mode. Weights, images and masks follow from a formula, so that no random generator is involved.
"""

from pathlib import Path

import numpy as np
import torch
import torchvision

from maskrobust.lm_modules.masking import LayerMasking

SIZE = 128


def pseudo_random(count, stream):
    """(count,) values in [0, 1): the fractional part of sin(12.9898 k + 78.233 stream) * 43758.5453."""
    wave = np.sin(12.9898 * np.arange(count, dtype=np.float64) + 78.233 * stream) * 43758.5453
    return wave - np.floor(wave)


def draw_weights(name, shape, stream):
    u = pseudo_random(int(np.prod(shape)), stream)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith("running_var"):
        values = 0.5 + u
    elif name.endswith("running_mean"):
        values = 0.2 * (u - 0.5)
    elif len(shape) >= 2:
        values = (u - 0.5) * np.sqrt(12) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight"):
        values = 0.8 + 0.4 * u
    else:
        values = 0.2 * (u - 0.5)
    return torch.from_numpy(values.reshape(shape)).float()


@torch.no_grad()
def test_masked_logits_agree_with_the_papers_code():
    with torch.device("meta"):
        network = torchvision.models.resnet50()
    shapes = {name: tuple(tensor.shape) for name, tensor in sorted(network.state_dict().items())}
    drawn = {name: draw_weights(name, shape, i) for i, (name, shape) in enumerate(shapes.items())}
    network.load_state_dict(drawn, assign=True)
    images = torch.from_numpy(3 * (pseudo_random(9 * SIZE * SIZE, 0) - 0.5)).float().reshape(3, 3, SIZE, SIZE)
    y, x = np.mgrid[:SIZE, :SIZE]
    disc_hidden = (y - 60) ** 2 + (x - 70) ** 2 >= 35**2
    patches_hidden = (5 * (y // 16) + 3 * (x // 16)) % 7 >= 3
    box_shown = (y >= 20) & (y < 50) & (x >= 30) & (x < 100)
    visible = torch.from_numpy(np.stack([disc_hidden, patches_hidden, box_shown])[:, None])

    logits = LayerMasking(network.eval())(images, visible).numpy()
    golden = np.load(Path(__file__).with_name("golden") / "resnet50_layer_masking.npz")
    errors = {name: np.linalg.norm(logits - golden[name]) / np.linalg.norm(golden[name]) for name in golden}
    assert errors["masked_logits"] < 1e-5 and errors["plain_logits"] > 0.2
