"""The ways of hiding that studies in `docs/studies` compare with, against plain formulas."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

STUDIES = Path(__file__).parents[1] / "docs" / "studies"


@pytest.mark.parametrize(("bias", "stride", "dilation", "groups"), [(True, 1, 1, 1), (True, 2, 1, 3), (False, 1, 2, 1)])
def test_partial_convolution_divides_each_sum_by_the_fraction_of_its_window_that_is_visible(
    monkeypatch, bias, stride, dilation, groups
):
    monkeypatch.syspath_prepend(STUDIES)
    from padding_variants import PartialConvolution

    geometry = {"stride": stride, "padding": dilation, "dilation": dilation}
    convolution = nn.Conv2d(3, 6, 3, groups=groups, bias=bias, **geometry)
    images, visible = torch.rand(2, 3, 9, 9), torch.rand(2, 1, 9, 9) > 0.4
    given = images.where(visible, torch.nan)

    seen, every = (
        F.conv2d(each.float(), torch.ones(1, 1, 3, 3), **geometry) for each in (visible, torch.ones_like(visible))
    )
    sums = F.conv2d(images * visible, convolution.weight, None, groups=groups, **geometry)
    expected = sums * every / seen.clamp(min=1)
    if convolution.bias is not None:
        expected += convolution.bias[:, None, None]
    known = (seen > 0).expand_as(expected)
    assert known.any()
    torch.testing.assert_close(PartialConvolution(nn.Sequential(convolution))(given, visible)[known], expected[known])
