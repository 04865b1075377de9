"""Rules for timm's own layers that must be masked as a whole, because their parts lose what axes mean."""

import math
from typing import Any

from timm.layers.cond_conv2d import CondConv2d
from timm.layers.space_to_depth import SpaceToDepth
from torch import Tensor

from maskrobust.lm_modules.masking.axes import Padding
from maskrobust.lm_modules.masking.masked import Masked, slide
from maskrobust.lm_modules.masking.table import masking_rule


def register() -> None:
    """Enter the rules in the table."""
    masking_rule(CondConv2d, is_of_one=True)(conditional_convolution)
    masking_rule(SpaceToDepth)(space_to_depth)


def conditional_convolution(operation: Any, x: Masked, routing_weights: Tensor) -> Masked:
    """A convolution with its own kernel for each image, mixed by plain weights, which views images as channels."""
    padding = _same_padding(x, operation) if operation.dynamic_padding else operation.padding
    settings = operation.kernel_size, operation.stride, padding, operation.dilation
    return slide(x, lambda features: operation(features, routing_weights), *settings, hidden="neighbours")


def _same_padding(x: Masked, operation: Any) -> Padding:
    """TensorFlow's "same" padding, as large as the size of the features asks for, the odd position right and below."""
    vertical, horizontal = (
        max((math.ceil(size / step) - 1) * step + (kernel - 1) * spread + 1 - size, 0)
        for size, kernel, step, spread in zip(
            x.visible.size[1:], operation.kernel_size, operation.stride, operation.dilation, strict=True
        )
    )
    return horizontal // 2, math.ceil(horizontal / 2), vertical // 2, math.ceil(vertical / 2)


def space_to_depth(operation: Any, x: Masked) -> Masked:
    """Blocks of positions become channels, by views of six axes: visible where any of the block is, the others 0."""
    return slide(x, operation, operation.bs, operation.bs, hidden="zero")
