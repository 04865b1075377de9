"""Networks and masked images that the tests of `LayerMasking` share."""

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from maskrobust.lm_modules.networks.architectures import SmallResNet

CLASSES = 5
BUILDERS = {
    "basic_resnet": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES),
    "small_resnet": lambda: SmallResNet(CLASSES, width=16, blocks=2),
}


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm statistics and an affine map that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                tensor.data = low + torch.rand(tensor.shape, generator=generator)
            module.running_var.data = 0.5 + torch.rand(module.running_var.shape, generator=generator)
    return network


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """What a function makes with this seed of the global generator, which stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


@cache
def _built(make: Callable[[], nn.Module]) -> nn.Module:
    return seeded(lambda: randomise(make()).eval())


def build(name: str | Callable[[], nn.Module]) -> nn.Module:
    """A fresh copy of the same network each time, of `BUILDERS` or of a function, in eval mode."""
    return copy.deepcopy(_built(BUILDERS[name] if isinstance(name, str) else name))


def draw_images(batch: int = 3, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def holes(size: int = 64) -> Tensor:
    """(3, 1, size, size): a disc is hidden; patches are hidden; only a box is shown."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    disc = (y - 0.45 * size) ** 2 + (x - 0.55 * size) ** 2 >= (0.3 * size) ** 2
    patches = (5 * (y * 8 // size) + 3 * (x * 8 // size)) % 7 >= 3
    box = (y >= 0.2 * size) & (y < 0.5 * size) & (x >= 0.3 * size) & (x < 0.8 * size)
    return torch.stack([disc, patches, box])[:, None]
