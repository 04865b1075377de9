"""Rules for timm's own layers whose forward cannot be read step by step, or changes buffers."""

import math
from typing import Any

from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.drop import DropPath
from timm.layers.norm_act import BatchNormAct2d, FrozenBatchNormAct2d, SyncBatchNormAct
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.space_to_depth import SpaceToDepth
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models.vgg import ConvMlp
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, Padding, Window
from maskrobust.lm_modules.masking.rules.convolution import convolution, convolution_window, pair, slide, symmetric
from maskrobust.lm_modules.masking.rules.normalisation import batch_norm
from maskrobust.lm_modules.masking.rules.pointwise import elementwise
from maskrobust.lm_modules.masking.rules.pooling import adaptive_average
from maskrobust.lm_modules.masking.rules.table import masking_rule


def register() -> None:
    """Enter the rules in the table."""
    masking_rule(ScaledStdConv2d, StdConv2d)(convolution)
    masking_rule(FrozenBatchNormAct2d, DropPath, is_local=True)(elementwise)
    masking_rule(BatchNormAct2d, SyncBatchNormAct, is_local=True, folds=True)(batch_norm_act)
    masking_rule(Conv2dSame, folds=True)(convolution_same)
    masking_rule(StdConv2dSame, ScaledStdConv2dSame)(convolution_same)
    masking_rule(AvgPool2dSame, MaxPool2dSame)(pool_same)
    masking_rule(CondConv2d)(conditional_convolution)
    masking_rule(SpaceToDepth)(space_to_depth)
    masking_rule(ConvMlp)(convolutional_mlp)


def batch_norm_act(operation: Any, x: Masked) -> Masked:
    """Batch norm by its rule, with the dropout and the activation that these modules add."""
    return batch_norm(operation, x, lambda features: operation.act(operation.drop(features)))


def _same_window(operation: Any, x: Masked, dilation: tuple[int, int]) -> Window:
    """TensorFlow's "same" padding, as large as the size of the features asks for, the odd position right and below."""
    kernel_size, stride = pair(operation.kernel_size), pair(operation.stride)
    sizes = x.visible.positions.shape[2:]
    vertical, horizontal = (
        max((math.ceil(size / step) - 1) * step + (kernel - 1) * spread + 1 - size, 0)
        for size, step, kernel, spread in zip(sizes, stride, kernel_size, dilation, strict=True)
    )
    padding: Padding = (horizontal // 2, math.ceil(horizontal / 2), vertical // 2, math.ceil(vertical / 2))
    return Window(kernel_size, stride, padding, dilation)


def convolution_same(operation: nn.Conv2d, x: Masked) -> Masked:
    """A convolution whose padding follows from the size of the features, unless it was given a fixed one."""
    is_dynamic = getattr(operation, "same_pad", True)
    window = _same_window(operation, x, pair(operation.dilation)) if is_dynamic else convolution_window(operation)
    return slide(x, window, operation, hidden="neighbours")


def pool_same(operation: nn.Module, x: Masked) -> Masked:
    """A pool whose padding follows from the size of the features."""
    return slide(x, _same_window(operation, x, pair(getattr(operation, "dilation", 1))), operation, hidden="zero")


def conditional_convolution(operation: Any, x: Masked, routing_weights: Tensor) -> Masked:
    """A convolution with its own kernel for each image, mixed by plain weights."""
    dilation = pair(operation.dilation)
    if operation.dynamic_padding:
        window = _same_window(operation, x, dilation)
    else:
        padding = symmetric(operation.padding)
        window = Window(pair(operation.kernel_size), pair(operation.stride), padding, dilation)
    return slide(x, window, lambda features: operation(features, routing_weights), hidden="neighbours")


def space_to_depth(operation: Any, x: Masked) -> Masked:
    """Blocks of positions become channels: visible where any of the block is, the others 0."""
    return slide(x, Window((operation.bs, operation.bs), (operation.bs, operation.bs)), operation, hidden="zero")


def convolutional_mlp(operation: Any, x: Masked) -> Masked:
    """VGG's linear layers as convolutions, on features brought to the size that the first one needs."""
    side = operation.input_kernel_size
    if x.features.shape[-2] < side or x.features.shape[-1] < side:
        size = max(side, x.features.shape[-2]), max(side, x.features.shape[-1])
        x = adaptive_average(x, size)
    x = convolution(operation.fc1, x)
    x = x.with_features(operation.drop(operation.act1(x.features)))
    x = convolution(operation.fc2, x)
    return x.with_features(operation.act2(x.features))
