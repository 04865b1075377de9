"""The page on explanations: its code runs, and gives what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.pages.commands import blocks

PAGE = Path(__file__).parents[3] / "docs" / "explanations.md"


def test_the_code_of_the_page_runs_and_gives_the_shapes_it_says(capsys):
    names: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        for block in blocks(PAGE):
            if block.language == "python":
                exec(compile(block.text, PAGE.name, "exec"), names)
    count, classes = names["segments"].count(0), names["data"].num_classes
    assert capsys.readouterr().out.count(f"({count}, {classes})") == 2
    assert names["heat"].shape == (*names["images"].shape[2:], classes)
    for scores in (names["explanation"].scores, names["shapley"].scores, names["without"]):
        assert scores.shape == (count, classes) and np.ptp(scores) > 0
