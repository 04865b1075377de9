"""Rules for convolutions of every kind, and for padding before them."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.arrangement import Arrangement, remade, several
from maskrobust.lm_modules.masking.axes import CONVOLUTIONS, TRANSPOSED, Sizes, added, after, before, tuple_of
from maskrobust.lm_modules.masking.masked import Masked, arrange, carry, check_images_first, layout_of, slide
from maskrobust.lm_modules.masking.memory import Frame, share_memory
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule


@masking_rule(*CONVOLUTIONS.values(), any_sizes=True, is_of_one=True)
def convolution(
    operation: Operation,
    x: Masked,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sizes = 1,
    padding: int | Sizes | str = 0,
    dilation: int | Sizes = 1,
    groups: int = 1,
) -> Masked:
    """Neighbour padding, the convolution as usual, mask propagation."""
    convolve = partial(
        operation, weight=weight, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    return slide(x, convolve, tuple(weight.shape[2:]), stride, padding, dilation, hidden="neighbours")


@masking_rule(*TRANSPOSED.values(), any_sizes=True, is_of_one=True)
def transposed_convolution(
    operation: Operation,
    x: Masked,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sizes = 1,
    padding: int | Sizes = 0,
    output_padding: int | Sizes = 0,
    groups: int = 1,
    dilation: int | Sizes = 1,
) -> Masked:
    """An output is visible when a visible input reaches it; inputs that reach one output are (k - 1) d / s apart."""
    check_images_first(x)
    kernel_size = tuple(weight.shape[2:])
    steps, frames, more, dilation = (
        tuple_of(each, len(kernel_size)) for each in (stride, padding, output_padding, dilation)
    )
    sizes = zip(kernel_size, dilation, steps, strict=True)
    rings = max((size - 1) * spread // step for size, spread, step in sizes)
    geometry = steps, frames, more
    padded = x.with_zero_outside(x.with_neighbour_padding(rings))
    features = operation(padded, weight, bias, *geometry, groups, dilation)

    def reached(numbers: Tensor) -> Tensor:
        window = torch.ones(1, 1, *kernel_size, device=numbers.device)
        return torch.as_tensor(TRANSPOSED[len(kernel_size)](numbers, window, None, *geometry, 1, dilation))

    key = ("transposed", kernel_size, geometry, dilation)

    def extent_after(extent: Tensor) -> Tensor:
        frame, rest, size, spread, step = (
            extent.new_tensor(each) for each in (frames, more, kernel_size, dilation, steps)
        )
        return (extent - 1) * step - 2 * frame + (size - 1) * spread + rest + 1

    result = carry(features, x.visible.derive(key, reached, least=0.5, extent_after=extent_after, adds=True))
    result.rings = rings
    return result


@masking_rule(F.pad, any_sizes=True)
def pad(
    operation: Operation, x: Masked, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
) -> Masked:
    """Frame or crop: zeros are hidden positions, as those that a convolution adds; other modes frame the mask alike.

    Further channels are as visible as the others. Zeros among tokens, such as ahead of windows that attend, are seen.

    Raises:
        NotImplementedError: images are padded, channels and positions of a map at once, or positions with a constant
            other than 0, and minus infinity ahead of a max pool.
    """
    if not _is_map_ahead_of_windows(x, len(pad)):
        return _of_tokens(operation, x, pad, mode, value)
    count = 2 * len(x.spatial_axes)
    sizes, others = (tuple(map(int, pad)) + (0,) * (count - len(pad)))[:count], pad[count:]
    if any(others):
        if any(sizes) or any(others[2:]):
            raise NotImplementedError(
                f"layer masking pads the channels or the positions of {layout_of(x)} features only, got {tuple(pad)} "
                f"for shape {tuple(x.shape)}; {OWN_RULE}"
            )
        return carry(F.pad(x.features, pad, mode, value), x.visible)
    filler = 0.0 if value is None else float(value)
    if mode == "constant" and filler not in (0.0, -math.inf):
        raise NotImplementedError(f"layer masking pads with 0 only, got the constant {value}; {OWN_RULE}")
    is_frame = mode == "constant" and min(sizes) >= 0

    def extent_after(extent: Tensor) -> Tensor:
        return extent + extent.new_tensor(before(sizes)) + extent.new_tensor(after(sizes))

    visible = x.visible.derive(
        ("pad", sizes, mode),
        lambda numbers: F.pad(numbers, sizes, mode),
        extent_after=extent_after if is_frame else None,
        adds=mode == "constant",
    )
    padded = carry(F.pad(x.visible.cut(x.features, filler), sizes, mode, value), visible)
    if is_frame:
        inside, earlier = (x, (0,) * len(sizes)) if x.frame is None or x.frame.value != filler else x.frame[:2]
        padded.frame = Frame(inside, added(earlier, sizes), filler, share_memory(inside).state)
    return padded


def _is_map_ahead_of_windows(x: Masked, sides: int) -> bool:
    """Whether features are (B, C, *size), and not of tokens that are padded among these."""
    if x.is_map:
        return x.is_images_first
    varies = x.arrangement.varies
    return x.ndim == sides == 4 and not varies(1) and varies(2) and varies(3)


def _of_tokens(operation: Operation, x: Masked, pad: Sequence[int], mode: str, value: float | None) -> Masked:
    arrangement = x.arrangement
    sizes = [(0, 0)] * (x.ndim - len(pad) // 2) + [*zip(pad[-2::-2], pad[::-2], strict=True)]
    padded = [axis for axis, each in enumerate(sizes) if any(each)]
    result = operation(x.features, pad, mode, value)
    if not any(map(arrangement.varies, padded)):
        return arrange(result, arrangement.resized(result.shape))
    if mode != "constant" or value not in (None, 0) or min(pad) < 0 or any(map(x.has_images_along, padded)):
        raise NotImplementedError(
            f"layer masking pads tokens with zeros, got {tuple(pad)}, '{mode}', {value}; {OWN_RULE}"
        )

    def frame() -> Arrangement:
        positions, axes = arrangement.positions, arrangement.kinds
        for axis in padded:
            axes[axis] = several(result.shape[axis])
            positions = positions.expand([size if at == axis else -1 for at, size in enumerate(x.shape)])
        flat = [each for pair in sizes[::-1] for each in pair]
        return remade(F.pad(positions, flat, value=1), axes, arrangement.places.like)

    return arrange(result, arrangement.places.once(("pad", arrangement.axes, tuple(pad)), frame))
