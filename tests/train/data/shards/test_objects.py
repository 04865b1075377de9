"""Which samples of shards show one object: any order in, ids that ascend in the file, and no other file taken."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.train.data.shards.manifest import OBJECTS, ObjectTable, read_objects


def test_objects_are_those_of_the_samples_in_whatever_order_these_come(tmp_path: Path) -> None:
    table = ObjectTable.of([(torch.tensor([9, 2]), torch.tensor([1, 1])), (torch.tensor([4, 3]), torch.tensor([4, 1]))])
    digest = table.write(tmp_path)
    assert (tmp_path / OBJECTS).stat().st_size == 48  # sample 4 is numbered as its object is
    for each in (table, read_objects(str(tmp_path), digest, 4)):
        assert each.object_of(torch.tensor([4, 9, 0, 3, 2, 100])).tolist() == [4, 1, 0, 1, 1, 100]
    empty = ObjectTable.of([(torch.tensor([1]), torch.tensor([1]))])
    assert empty.write(tmp_path) is None and empty.object_of(torch.tensor([1, 7])).tolist() == [1, 7]


@pytest.mark.parametrize("ids", [[2, 1], [1, 1]])
def test_ids_that_do_not_ascend_are_refused(tmp_path: Path, ids: list[int]) -> None:
    content = np.array([ids, [0, 0]], dtype="<i8").tobytes()
    (tmp_path / OBJECTS).write_bytes(content)
    with pytest.raises(InputError, match="do not ascend"):
        read_objects(str(tmp_path), hashlib.sha256(content).hexdigest(), 2)


def test_more_numbers_than_there_are_samples_are_refused(tmp_path: Path) -> None:
    digest = ObjectTable(torch.tensor([1, 2, 3]), torch.tensor([0, 0, 0])).write(tmp_path)
    assert len(read_objects(str(tmp_path), digest, 3).ids) == 3
    with pytest.raises(InputError, match="its size or its checksum"):
        read_objects(str(tmp_path), digest, 2)
