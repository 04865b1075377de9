"""Rules for timm's own layers that must be masked as a whole, because their parts lose what axes mean."""

import math
from typing import Any

from timm.layers.cond_conv2d import CondConv2d
from timm.layers.space_to_depth import SpaceToDepth
from torch import Tensor

from maskrobust.lm_modules.masking.axes import Padding, Sizes, symmetric, tuple_of
from maskrobust.lm_modules.masking.masked import Masked
from maskrobust.lm_modules.masking.rules.convolution import slide
from maskrobust.lm_modules.masking.table import masking_rule
from maskrobust.lm_modules.masking.visible_map import Window


def register() -> None:
    """Enter the rules in the table."""
    masking_rule(CondConv2d)(conditional_convolution)
    masking_rule(SpaceToDepth)(space_to_depth)


def conditional_convolution(operation: Any, x: Masked, routing_weights: Tensor) -> Masked:
    """A convolution with its own kernel for each image, mixed by plain weights, which views images as channels."""
    geometry = tuple_of(operation.kernel_size, 2), tuple_of(operation.stride, 2)
    dilation = tuple_of(operation.dilation, 2)
    padding = _same_padding(x, *geometry, dilation) if operation.dynamic_padding else symmetric(operation.padding, 2)
    window = Window(*geometry, padding, dilation)
    return slide(x, window, lambda features: operation(features, routing_weights), hidden="neighbours")


def _same_padding(x: Masked, kernel_size: Sizes, stride: Sizes, dilation: Sizes) -> Padding:
    """TensorFlow's "same" padding, as large as the size of the features asks for, the odd position right and below."""
    vertical, horizontal = (
        max((math.ceil(size / step) - 1) * step + (kernel - 1) * spread + 1 - size, 0)
        for size, step, kernel, spread in zip(x.visible.size[1:], stride, kernel_size, dilation, strict=True)
    )
    return horizontal // 2, math.ceil(horizontal / 2), vertical // 2, math.ceil(vertical / 2)


def space_to_depth(operation: Any, x: Masked) -> Masked:
    """Blocks of positions become channels, by views of six axes: visible where any of the block is, the others 0."""
    return slide(x, Window((operation.bs, operation.bs), (operation.bs, operation.bs)), operation, hidden="zero")
