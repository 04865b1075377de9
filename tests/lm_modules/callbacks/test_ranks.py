"""What two real processes tell each other."""

import json
from contextlib import ExitStack
from pathlib import Path

import torch

from maskrobust.lm_modules.training.processes import of_all_ranks
from tests.processes import started


def tell(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    (folder / f"{rank}.json").write_text(json.dumps(of_all_ranks({"ids": list(range(rank + 1))})))
    torch.distributed.destroy_process_group()


def test_every_process_gets_what_all_have_found_in_order_of_ranks(tmp_path: Path) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(started(tell, rank, tmp_path)) for rank in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found[0] == found[1] == [{"ids": [0]}, {"ids": [0, 1]}]


def test_one_process_gets_what_it_has_found() -> None:
    assert of_all_ranks("own") == ["own"]
