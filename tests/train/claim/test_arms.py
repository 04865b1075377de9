"""The networks of arms: seeds, and known manipulation checks."""

from io import StringIO

import pytorch_lightning as pl
import torch
from rich.console import Console

from maskrobust.train.claim.arms import train
from maskrobust.train.claim.checks import parse_config
from maskrobust.train.running.progress import ClaimProgress
from tests.train.tiny import write_claim

SILENT = Console(file=StringIO())


def config_of(path, out, *options):
    return parse_config([f"--config={path}", f"--out={out}", *options])


def test_the_seed_of_a_run_decides_weights_and_order_alike_for_all_arms(tmp_path, monkeypatch):
    config = config_of(write_claim(tmp_path / "claim.yaml", seeds=[1, 2]), tmp_path / "out")
    begun = []

    def fit(_trainer, classifier, datamodule, **_):
        begun.append((datamodule.order_seed, torch.cat([each.flatten() for each in classifier.network.parameters()])))

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    for arm in ("no_masks", "layer_masking"):
        for seed in (1, 2):
            train(config, config.run_of(arm, seed), tmp_path, ClaimProgress(SILENT, runs=1))
    assert [order for order, _ in begun] == [1, 2, 1, 2]
    first, second, *same = (weights for _, weights in begun)
    assert torch.equal(first, same[0]) and torch.equal(second, same[1]) and not torch.equal(first, second)
