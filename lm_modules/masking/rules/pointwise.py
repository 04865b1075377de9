"""Operations that compute each position from that position alone: visible positions stay what they are."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, VisibleMap
from maskrobust.lm_modules.masking.row_features import Rows
from maskrobust.lm_modules.masking.rules.table import Operation, RowKernel, masking_rule

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Threshold,
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid,
    F.hardtanh, F.logsigmoid, F.softplus, F.softsign, torch.relu, torch.relu_, torch.sigmoid, torch.tanh,
    "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "hardtanh", "hardtanh_",
)  # fmt: skip
ARITHMETIC = (
    operator.neg, torch.neg, torch.abs, torch.square, torch.clamp, "neg", "abs", "square", "clamp", "clamp_", "clip",
)  # fmt: skip
COPIES = ("contiguous", "clone", "detach", "to", "float", "half", "bfloat16")
DROPOUT = (
    nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Dropout2d, F.dropout, F.dropout2d, F.alpha_dropout,
)  # fmt: skip


def _compute_values(operation: Operation, _outputs: VisibleMap, *operands: Rows) -> Tensor:
    values: Tensor = operation(*(operand.values for operand in operands))
    return values


ROW_BY_ROW = RowKernel(_compute_values)
"""Operations that compute a row from that row alone, whatever its length."""


def elementwise(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """Position by position."""
    return x.with_features(operation(x.features, *args, **kwargs))


masking_rule(*ACTIVATIONS, *DROPOUT, nn.Identity, rows=ROW_BY_ROW, is_local=True)(elementwise)
masking_rule(*ARITHMETIC, *COPIES, is_local=True)(elementwise)


@masking_rule("type_as")
def type_as(operation: Operation, x: Masked, like: Masked | Tensor) -> Masked:
    """Position by position."""
    return x.with_features(operation(x.features, like.features if isinstance(like, Masked) else like))


@masking_rule(nn.LocalResponseNorm, nn.PReLU, nn.Softmax2d)
def channelwise(operation: Operation, x: Masked) -> Masked:
    """Position by position, over or for each channel of axis 1.

    Raises:
        NotImplementedError: the channels are not on axis 1.
    """
    if x.channels_last or x.features.ndim != 4:
        raise NotImplementedError(
            f"layer masking needs features (B, C, H, W) here, got shape {tuple(x.features.shape)} with "
            f"channels_last={x.channels_last}; permute them first."
        )
    of_ones = isinstance(operation, nn.LocalResponseNorm)  # a quotient
    return x.with_features(operation(x.with_hidden_one() if of_ones else x.features))


def _check_axis(operation: Any, _x: Any, *args: Any, dim: int | None = None, **_kwargs: Any) -> None:
    axis = _axis(operation, args, dim)
    if axis not in (1, -1, -3):
        raise NotImplementedError(
            f"layer masking takes a softmax or an argmax over the channels only, got axis {axis}; give the module "
            "around this operation a rule of its own with masking_rule."
        )


def _axis(operation: Any, args: tuple[Any, ...], dim: int | None) -> int | None:
    given = args[0] if args else dim
    return getattr(operation, "dim", None) if given is None else given


@masking_rule(
    nn.Softmax, nn.LogSoftmax, F.softmax, F.log_softmax, torch.softmax, torch.log_softmax, "softmax", "log_softmax",
    torch.argmax, "argmax",
    check=_check_axis,
    is_local=True,
)  # fmt: skip
def over_channels(operation: Operation, x: Masked, *args: Any, dim: int | None = None, **kwargs: Any) -> Masked:
    """Position by position, over its channels.

    Raises:
        NotImplementedError: the axis is one of positions.
    """
    axis = _axis(operation, args, dim)
    if x.features.ndim != 4 or axis not in ((-1, 3) if x.channels_last else (1, -3)):
        raise NotImplementedError(
            f"layer masking takes a softmax or an argmax over the channels only, got axis {axis} of shape "
            f"{tuple(x.features.shape)} with channels_last={x.channels_last}; permute the features first."
        )
    if isinstance(operation, nn.Module):
        return x.with_features(operation(x.features))
    return Masked(operation(x.features, axis, *args[1:], **kwargs), x.visible, x.channels_last)


@masking_rule(nn.Linear, F.linear, is_local=True)
def over_last_axis(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """A linear layer or a norm over the channels of one position, where these are the last axis.

    Raises:
        NotImplementedError: the last axis is one of positions.
    """
    if not x.channels_last:
        raise NotImplementedError(
            "layer masking needs the channels on the last axis for a linear layer or a norm over them, but it is the "
            "width of the image; permute the features to (B, H, W, C), or flatten them first."
        )
    return x.with_features(operation(x.features, *args, **kwargs))


@masking_rule("expand_as", ends_masking=True)
def expand_as(operation: Operation, plain: Tensor, like: Masked) -> Tensor:
    """A plain tensor, such as a gate, in the shape of masked features."""
    result: Tensor = operation(plain, like.features)
    return result
