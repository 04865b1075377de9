"""Processes that train together resume from one checkpoint, though each may see other times of files."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from torch import distributed

from maskrobust.train.fit.command import _last_checkpoint
from maskrobust.train.running.processes import joined
from tests.processes import started

STARTED_BY = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "maskrobust"},
    "srun": {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "{rank}", "SLURM_LOCALID": "{rank}"},
}


def write_view(folder, newest):
    """A folder as one machine sees it, with two versions of a run, the newest of which is given; none for None."""
    folder.mkdir()
    for version in (0, 1) if newest is not None else ():
        path = folder / "runs" / "run" / f"version_{version}" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (0, int(version == newest)))
    return folder


def choose(view, environment):
    """Write down which checkpoint this process resumes from, and join the others, as Lightning does later."""
    os.environ |= environment
    os.chdir(view)
    chosen = _last_checkpoint(Path("runs/run"), needed=False)
    with joined():
        if distributed.is_initialized():
            distributed.barrier()
    (view / "chosen").write_text(chosen)


def choose_in_turn(views):
    """As when Lightning starts the second process, with the environment of the first."""
    for rank, view in enumerate(views):
        choose(view, {"LOCAL_RANK": f"{rank}"} if rank else {})


@pytest.mark.parametrize(
    ("launcher", "newest", "decided"),
    [("torchrun", (1, 0), 1), ("srun", (0, 1), 0), ("Lightning", (1, 0), 1), ("srun", (None, 1), None)],
)
def test_the_first_process_decides_which_checkpoint_is_the_last(tmp_path, launcher, newest, decided):
    views = [write_view(tmp_path / f"view-{rank}", version) for rank, version in enumerate(newest)]
    errors = tmp_path / "errors"
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as server:
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1]), "WORLD_SIZE": "2"}
        server.close()
        given = {**meet, "RANK": "{rank}", "LOCAL_RANK": "{rank}", **STARTED_BY.get(launcher, {})}
        calls = [
            (choose, view, {name: value.format(rank=rank) for name, value in given.items()})
            for rank, view in enumerate(views)
        ]
        if launcher == "Lightning":
            calls = [(choose_in_turn, views)]
        running = [stack.enter_context(started(*call, errors=errors)) for call in calls]
        assert {process.wait() for process in running} == {0}, errors.read_text()
    path = "last" if decided is None else f"runs/run/version_{decided}/checkpoints/last.ckpt"
    assert [(view / "chosen").read_text() for view in views] == [path, path]
