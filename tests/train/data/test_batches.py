"""Some of the batches of a split by their numbers: what they are among all, and that the others are not read."""

from itertools import count
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from maskrobust.augment import Batch
from maskrobust.train.data import Cues, Shards
from maskrobust.train.data.batches import numbered_batches
from maskrobust.train.data.sets import shards as shards_module
from tests.train.data.sets.test_shards import write_folder
from tests.train.tiny import TINY_DATA

ODD = [1, 3, 5]


class Numbers(Dataset[int]):
    def __init__(self):
        self.read: list[int] = []

    def __len__(self):
        return 14

    def __getitem__(self, index):
        self.read.append(index)
        return index


def test_samples_of_other_batches_are_not_read():
    dataset = Numbers()
    given: Any = DataLoader(dataset, batch_size=2, collate_fn=list)
    assert [*numbered_batches(given, count(1, 3))] == [(1, [2, 3]), (4, [8, 9])]
    assert dataset.read == [2, 3, 8, 9]


@pytest.fixture(params=["cues", "shards", "shards with loader processes"])
def data(request, tmp_path):
    if request.param == "cues":
        return Cues(**TINY_DATA | {"batch_size": 4})
    workers = 2 if "processes" in request.param else 0
    return Shards(str(write_folder(tmp_path)), image_size=16, batch_size=2, num_workers=workers)


def test_some_batches_are_what_they_are_among_all(data):
    every: list[Batch] = [*data.whole_split("val")]
    found = dict(numbered_batches(data.whole_split("val"), iter(ODD)))
    assert sorted(found) == [number for number in ODD if number < len(every)] and found
    pairs = [(batch[:4], every[number][:4]) for number, batch in found.items()]
    assert all(torch.equal(a, b) for pair in pairs for a, b in zip(*pair, strict=True))


def test_a_loader_process_opens_the_shards_of_its_own_run_of_batches_alone(tmp_path):
    folder, opened = write_folder(tmp_path / "shards"), tmp_path / "opened"  # of 5, 3 and 4 samples
    root = f"pipe:echo {{}} >> '{opened}'; cat '{folder}'/{{}}"
    data = Shards(root, image_size=16, batch_size=2, num_workers=2)
    found = dict(numbered_batches(data.whole_split("val"), count()))
    assert sorted(found) == [*range(6)]
    shards = [name for name in opened.read_text().split() if name != "manifest.json"]
    assert sorted(shards) == [f"val-{number:06d}.tar" for number in (0, 1, 1, 2)]


def test_a_process_of_several_reads_the_whole_split_of_shards(tmp_path, monkeypatch):
    data = Shards(str(write_folder(tmp_path)), image_size=16, batch_size=2, num_workers=0)
    alone = Batch.cat([*data.whole_split("val")])
    monkeypatch.setattr(shards_module, "rank_and_number", lambda: (1, 2))
    assert torch.equal(Batch.cat([*data.whole_split("val")]).images, alone.images)
    assert len(Batch.cat([*data.val_dataloader()]).ids) < len(alone.ids)
