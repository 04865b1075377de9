"""Views, permutes, splits and slices, and flattening into a linear head."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import UnsupportedNetworkError
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    DIFFERENTIABLE,
    Function,
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
    masked_output,
)


def shuffle(x: Tensor) -> Tensor:
    """ShuffleNet's channel shuffle."""
    batch, channels, height, width = x.size()
    grouped = x.view(batch, 2, channels // 2, height, width)
    return torch.transpose(grouped, 1, 2).contiguous().view(batch, -1, height, width)


def shuffle_by_shape(x: Tensor) -> Tensor:
    grouped = x.reshape((x.shape[0], 2, -1, x.shape[2], x.shape[3])).swapaxes(1, 2)
    return torch.reshape(grouped, shape=(x.size(0), -1, x.size(2), x.size(3)))


def halves_swapped(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return torch.cat([second, first], 1)


def parts_swapped(x: Tensor) -> Tensor:
    first, second, third = torch.split(x, [1, 4, 1], dim=1)
    return torch.cat([third, second, first], 1)


def sections_swapped(x: Tensor) -> Tensor:
    parts = torch.tensor_split(x, 3, dim=1)
    return torch.cat([parts[2], parts[1], parts[0]], 1)


def split_attention(x: Tensor) -> Tensor:
    """Groups of channels, each weighed, summed again."""
    grouped = x.view(x.shape[0], 2, 3, x.shape[2], x.shape[3])
    first, second = grouped.unbind(dim=1)
    return (grouped * 2).sum(dim=1) + first - second


CHANNELS: dict[str, tuple[Callable[[Tensor], Tensor], list[int]]] = {
    "channel shuffle": (shuffle, [0, 3, 1, 4, 2, 5]),
    "by shape": (shuffle_by_shape, [0, 3, 1, 4, 2, 5]),
    "module": (nn.ChannelShuffle(2), [0, 3, 1, 4, 2, 5]),
    "chunk": (halves_swapped, [3, 4, 5, 0, 1, 2]),
    "split": (parts_swapped, [5, 1, 2, 3, 4, 0]),
    "tensor_split": (sections_swapped, [4, 5, 2, 3, 0, 1]),
    "slice": (lambda x: x[:, 1:4], [1, 2, 3]),
    "strided slice": (lambda x: x[:, ::2, :, :], [0, 2, 4]),
    "one channel": (lambda x: x[:, 4].unsqueeze(1), [4]),
    "a new axis": (lambda x: torch.unsqueeze(x[:, 2], dim=1), [2]),
    "channels last": (lambda x: x.permute(0, 2, 3, 1)[..., 3:].permute([0, 3, 1, 2]), [3, 4, 5]),
    "negative axes": (lambda x: torch.permute(x, dims=(0, -2, -1, 1)).permute(0, -1, 1, 2), [0, 1, 2, 3, 4, 5]),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channels_are_rearranged_position_by_position(name: str) -> None:
    function, order = CHANNELS[name]
    module = function if isinstance(function, nn.Module) else Function(function)
    features, visible = draw_features(6, 6, 5, 7), draw_visible(5, 7)
    assert_agrees(masked_forward(module, masked(features, visible)), (exact(features)[:, order], visible[:, 0].numpy()))
    assert_differentiable(module, 6)


def test_groups_of_channels_may_be_weighed_and_summed() -> None:
    features, visible = draw_features(6, 6, 5, 7), draw_visible(5, 7)
    x = exact(features)
    expected = 2 * (x[:, :3] + x[:, 3:]) + x[:, :3] - x[:, 3:]
    result = masked_forward(Function(split_attention), masked(features, visible))
    assert_agrees(result, (expected, visible[:, 0].numpy()))


def test_a_mask_goes_along_with_groups_of_channels() -> None:
    features, visible = draw_features(6, 6, 5, 7), draw_visible(5, 7)
    x = masked(features, visible)
    grouped = x.with_features(x.features.unflatten(1, (2, 3)))
    expected = torch.where(visible[:, None], grouped.features, 0)
    assert torch.equal(grouped.with_hidden_zero(), expected)


def space_to_depth(x: Tensor) -> Tensor:
    """YOLO's focus: four slices, one for each place in a block."""
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], dim=1)


def test_slices_of_positions_take_the_masks_slices_along() -> None:
    features, visible = draw_features(6, 2, 6, 8), draw_visible(6, 8)
    x, seen = exact(features), visible[:, 0].numpy()
    shown, places = reference.hide(x, seen), [(0, 0), (1, 0), (0, 1), (1, 1)]
    expected = np.concatenate([shown[:, :, row::2, column::2] for row, column in places], axis=1)
    anywhere = np.any([seen[:, row::2, column::2] for row, column in places], axis=0)
    module = Function(space_to_depth)
    assert_agrees(masked_forward(module, masked(features, visible)), (expected, anywhere))
    assert_differentiable(module, 2, (6, 4))
    cropped = masked_forward(Function(lambda x: x[:, :, 1:-2, 3:]), masked(features, visible))
    assert_agrees(cropped, (x[:, :, 1:-2, 3:], seen[:, 1:-2, 3:]))


FLATTENS = {
    "module": nn.Flatten(),
    "method": Function(lambda x: x.flatten(1)),
    "torch.flatten": Function(lambda x: torch.flatten(x, 1, 3)),
    "view": Function(lambda x: x.view(x.size(0), -1)),
    "reshape": Function(lambda x: x.reshape((x.shape[0], -1))),
    "torch.reshape": Function(lambda x: torch.reshape(x, (-1, 120))),
}


@pytest.mark.parametrize("name", FLATTENS)
def test_flattened_features_are_zero_where_hidden_and_feed_any_head(name: str) -> None:
    head = nn.Sequential(nn.Linear(120, 3), nn.Softmax(dim=1)).double()
    images, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    shown = torch.from_numpy(reference.hide(exact(images), visible[:, 0].numpy()))
    logits = masked_output(nn.Sequential(FLATTENS[name], head), masked(images, visible))
    torch.testing.assert_close(logits, head(shown.flatten(1)))


REFUSED = {
    "tokens": (lambda x: x.flatten(2), "sequence of tokens"),
    "tokens by view": (lambda x: x.view(x.shape[0], x.shape[1], -1), "sequence of tokens"),
    "batch and channels": (lambda x: x.view(-1, 1, 5, 6), "sequence of tokens"),
    "transposed image": (lambda x: x.transpose(2, 3), r"got \[2, 3\]"),
    "batch last": (lambda x: x.permute(1, 2, 3, 0), r"got \(1, 2, 3, 0\)"),
    "rows apart": (lambda x: torch.cat(x.chunk(5, dim=2), 1), "positions of the mask"),
    "images apart": (lambda x: torch.cat(x.split(3, dim=0), 1), "splits channels only"),
    "one row": (lambda x: x[:, :, 0], "keeps all images"),
    "one image": (lambda x: x[0], "keeps all images"),
    "image axis": (lambda x: x.unsqueeze(0), "positions of the mask"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_images_or_positions_apart_is_refused(name: str) -> None:
    function, named = REFUSED[name]
    with pytest.raises(UnsupportedNetworkError, match=named) as refusal:
        masked_forward(Function(function), masked(draw_features(6, 4, 5, 6), draw_visible(5, 6), DIFFERENTIABLE))
    assert "rule of its own" in str(refusal.value) and "'0'" in str(refusal.value)
