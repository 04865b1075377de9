"""What two real processes tell each other."""

import multiprocessing
from pathlib import Path

import torch

from maskrobust.lm_modules.callbacks.ranks import of_all_ranks


def tell(rank: int, file: str, queue) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    queue.put((rank, of_all_ranks({"ids": list(range(rank + 1))})))
    torch.distributed.destroy_process_group()


def test_every_process_gets_what_all_have_found_in_order_of_ranks(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=tell, args=(rank, str(tmp_path / "store"), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        found = dict(queue.get(timeout=120) for _ in processes)
    finally:
        for process in processes:
            process.join(timeout=20)
            process.kill()
    assert found[0] == found[1] == [{"ids": [0]}, {"ids": [0, 1]}]


def test_one_process_gets_what_it_has_found() -> None:
    assert of_all_ranks("own") == ["own"]
