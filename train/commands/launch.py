"""`maskrobust launch`: a command with one process for each GPU, started by torchrun with the Python that runs this."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from maskrobust.errors import InputError

_SECONDS_TO_SAVE = 180  # as many as `maskrobust submit` leaves ahead of a time limit


class LauncherParser(argparse.ArgumentParser):
    """Options of a launcher, which the command follows that it launches, and after -- the arguments of that.

    Args:
        prog: the launcher.
        about: what it does.
        commands: what it launches.
    """

    def __init__(self, prog: str, about: str, commands: Sequence[str]) -> None:
        usage = f"{prog} {{{','.join(commands)}}} [OPTIONS] -- ARGUMENTS"
        super().__init__(prog, usage, about, formatter_class=argparse.RawTextHelpFormatter, allow_abbrev=False)
        self.add_argument("command", choices=commands)
        self.add_argument("--dry_run", action="store_true", help="print what would be started, and do nothing")

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong as an `InputError`."""
        message = message.replace("unrecognized arguments", "arguments must follow --, got")
        raise InputError(f"{self.prog}: {message}; see {self.prog} --help.")


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands ahead of -- but for the launcher itself, and what follows."""
    _, *given = arguments
    place = given.index("--") if "--" in given else len(given)
    return given[:place], given[place + 1 :]


def trainer_options(command: str, devices: int | str, nodes: int) -> list[str]:
    """Options by which a training takes the processes that are started for it; none for other commands."""
    return (
        [f"--trainer.devices={devices}", f"--trainer.num_nodes={nodes}"]
        if command in ("fit", "pretrain", "segment")
        else []
    )


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust launch` with command-line arguments, the launcher first.

    The processes divide the machine's cores, unless the environment variable `OMP_NUM_THREADS` gives each some threads.
    Exits with the status of the processes that torchrun starts: 0, what the first that failed has ended with, or 143 or
    130 where SIGTERM or Ctrl-C was handed on to them. They then have three minutes to save, unless the environment
    variable `TORCH_ELASTIC_SHUTDOWN_TIMEOUT` gives other seconds; then they are killed.

    Raises:
        InputError: an argument is unknown or wrong, or one process for each GPU is asked for and there is none.
    """
    about = (
        "Starts one process for each GPU by torchrun. Where one fails, the others are ended and nothing is restarted."
    )
    parser = LauncherParser("maskrobust launch", about, ("fit", "pretrain", "segment", "evaluate", "predict"))
    parser.add_argument("--nproc", default="gpu", help="processes on this machine (default: one for each GPU)")
    parser.add_argument("--nnodes", type=int, default=1, help="machines; call the same command on each (default: 1)")
    parser.add_argument("--rdzv", metavar="HOST:PORT", help="where machines meet: a port that is free on one of them")
    own, further = split(arguments)
    given = parser.parse_args(own)
    if not re.fullmatch("[1-9][0-9]*|gpu", given.nproc):
        raise InputError(f"--nproc must be a number of processes, or gpu, got '{given.nproc}'; correct it.")
    if given.nnodes < 1 or (given.nnodes > 1 and ":" not in (given.rdzv or "")):
        raise InputError(f"--nnodes {given.nnodes} must be 1, or more with --rdzv HOST:PORT, where they meet; give it.")
    meeting = ["--standalone"]
    if given.nnodes > 1:
        meeting = [f"--nnodes={given.nnodes}", "--rdzv_backend=c10d", f"--rdzv_endpoint={given.rdzv}"]
        meeting += ["--rdzv_id=maskrobust"]
    devices = given.nproc.replace("gpu", "auto")
    command = [given.command, *further, *trainer_options(given.command, devices, given.nnodes)]
    started = [f"--nproc_per_node={given.nproc}", *meeting, "-m", "maskrobust", *command]
    if given.dry_run:
        print(shlex.join([sys.executable, "-m", "torch.distributed.run", *started]))
    else:
        _run(started)


def _run(started: Sequence[str]) -> None:
    """Run torchrun with its arguments, without its noise where processes report their errors themselves."""
    import torch
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from maskrobust.train.running.processes import number_of_cores

    parsed = run.parse_args(list(started))
    if parsed.nproc_per_node == "gpu" and not torch.cuda.is_available():
        raise InputError(
            "maskrobust launch needs a GPU for each process, and torch finds none here; to compute on the CPU, give "
            "--nproc N before --, and to train also --trainer.accelerator cpu after it."
        )
    processes = torch.cuda.device_count() if parsed.nproc_per_node == "gpu" else int(parsed.nproc_per_node)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, number_of_cores() // processes)))  # torchrun gives each one
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SECONDS_TO_SAVE))
    try:
        run.run(parsed)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:
        status = failed.get_first_failure()[1].exitcode
        sys.exit(status if status > 0 else 128 - status)
