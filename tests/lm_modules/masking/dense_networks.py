"""Networks that return maps: those of libraries, small where these allow it, and some of one's own."""

from collections.abc import Callable

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone


def _block(channels: int, made: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, made, 3, padding=1), nn.BatchNorm2d(made), nn.ReLU())


class SmallUNet(nn.Module):
    """Two levels down and up again, enlarged as `enlarge` says."""

    def __init__(self, enlarge: Callable[[int, int], nn.Module], pool: nn.Module | None = None) -> None:
        super().__init__()
        self.pool = pool or nn.MaxPool2d(2)
        self.first, self.second, self.third = _block(3, 8), _block(8, 16), _block(16, 16)
        self.up_second, self.up_first = enlarge(16, 8), enlarge(16, 8)
        self.join_second, self.join_first = _block(24, 16), _block(16, 8)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        second = self.second(self.pool(first))
        third = self.third(self.pool(second))
        second = self.join_second(torch.cat([second, self.up_second(third)], 1))
        return self.head(self.join_first(torch.cat([first, self.up_first(second)], 1)))


def transposed(channels: int, made: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, made, 2, 2)


def bilinear(channels: int, made: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(channels, made, 1))


class ContextNet(nn.Module):
    """Dilated convolutions side by side, summed, beside two heads in a list within a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _block(3, 8)
        self.branches = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=step, dilation=step) for step in (1, 2, 4))
        self.wide = nn.ConvTranspose2d(8, 4, 4, 2, 1)

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.stem(x)
        x = torch.stack([branch(x) for branch in self.branches]).sum(dim=0)
        return {"maps": [x.softmax(1), F.interpolate(x, scale_factor=0.5)], "wide": (self.wide(x),)}


def _segmentation(name: str, **options: bool) -> Callable[[], nn.Module]:
    build = getattr(segmentation, name)
    return lambda: build(weights=None, weights_backbone=None, num_classes=4, **options)


def _features(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, features_only=True)


def _smp(name: str, encoder: str = "mobilenet_v2", **options: object) -> Callable[[], nn.Module]:
    return lambda: getattr(smp, name)(encoder, encoder_weights=None, classes=4, **options)


DENSE_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DeepLabV3, MobileNetV3": _segmentation("deeplabv3_mobilenet_v3_large", aux_loss=True),
    "features of ConvNeXt": _features("convnext_atto"),
    "FPN, ResNet-18": lambda: resnet_fpn_backbone(backbone_name="resnet18", weights=None),
    "smp Unet with attention gates": _smp("Unet", decoder_attention_type="scse"),
    "smp DeepLabV3Plus": _smp("DeepLabV3Plus"),
    "smp PSPNet": _smp("PSPNet"),
    "U-Net, transposed": lambda: SmallUNet(transposed),
    "U-Net, bilinear": lambda: SmallUNet(bilinear),
    "dilated context": ContextNet,
}
