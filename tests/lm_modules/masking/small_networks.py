"""Small networks, one for each way in which CNNs are put together."""

import torch
from timm.layers import BlurPool2d, StdConv2d
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

CLASSES = 3


class Dense(nn.Module):
    """Every layer reads all earlier ones (DenseNet), activated in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(16 * i) for i in (1, 2, 3))
        self.convs = nn.ModuleList(nn.Conv2d(16 * i, 16, 3, padding=1, bias=False) for i in (1, 2, 3))
        self.relu = nn.ReLU(inplace=True)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.Conv2d(64, 16, 1), nn.AvgPool2d(2)
        )
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        features = [F.max_pool2d(self.stem(x), 3, 2, 1)]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            features.append(conv(self.relu(norm(torch.cat(features, 1)))))
        x = self.transition(torch.cat(features, 1))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))


class Branched(nn.Module):
    """Branches of different windows side by side (Inception), with pools in ceil mode."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)
        )
        self.one = nn.Conv2d(16, 16, 1)
        self.flat = nn.Conv2d(16, 16, (1, 7), padding=(0, 3))
        self.tall = nn.Conv2d(16, 16, (7, 1), padding=(3, 0))
        self.pooled = nn.Conv2d(16, 16, 1)
        self.drop, self.fc = nn.Dropout(0.4), nn.Linear(48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        pooled = self.pooled(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        x = F.relu(torch.cat([self.one(x), self.tall(self.flat(x)), pooled], 1), inplace=True)
        return self.fc(self.drop(x.mean((2, 3))))


class Modern(nn.Module):
    """Large depthwise kernels and layer norm over the channels, channels last (ConvNeXt V2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 32), nn.Linear(32, 16)
        self.response = GlobalResponseNorm(32)
        self.scale = nn.Parameter(torch.full((16, 1, 1), 0.5))
        self.drop = StochasticDepth(0.1, "row")
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        branch = self.down(self.response(F.gelu(self.up(branch)))).permute(0, 3, 1, 2)
        return self.head(x + self.drop(self.scale * branch))


class Normalised(nn.Module):
    """No batch statistics: standardised weights and group norm (Big Transfer)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ZeroPad2d(1), StdConv2d(3, 16, 4, 2, padding=0), nn.ZeroPad2d(1), nn.MaxPool2d(3, 2)
        )
        self.norms = nn.ModuleList([nn.GroupNorm(4, 16), nn.GroupNorm(1, 16), nn.InstanceNorm2d(16, affine=True)])
        self.convs = nn.ModuleList(StdConv2d(16, 16, 3) for _ in range(2))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, CLASSES, 1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        branch = self.convs[0](F.relu(self.norms[0](x)))
        branch = self.convs[1](F.relu(self.norms[1](branch)))
        return self.head(F.relu(self.norms[2](x + branch)))


class Rearranged(nn.Module):
    """Blocks of positions become channels, and are blurred before they are left out; a linear head on all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.1), BlurPool2d(16)
        )
        self.shuffle = nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(4, 16, 3, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d((3, 2))
        self.head = nn.Sequential(nn.Linear(96, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        x = self.pool(self.shuffle(self.conv(x)))
        return self.head(x.view(x.size(0), -1))


SMALL_NETWORKS = (Dense, Branched, Modern, Normalised, Rearranged)
