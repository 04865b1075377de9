"""The page on ignoring part of an image: its code runs from top to bottom, and it stays short."""

import re

import torch

from tests.test_house import ROOT

PAGE = (ROOT / "docs" / "ignore-a-region.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_and_its_comments_name_the_shapes() -> None:
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
            exec(block, names)
            for name, shape in re.findall(r"^(\w+) = .*# \((\d+(?:, \d+)+)\)", block, flags=re.MULTILINE):
                assert str(tuple(names[name].shape)) == f"({shape})"  # type: ignore[attr-defined]
    visible, proposals = names["visible"], names["proposals"]
    assert 0 < visible.sum() < visible.numel()
    assert {*proposals} == {"features", "objectness", "boxes"}
    assert names["coverage"].amax() < 1  # squeeze-and-excitation
