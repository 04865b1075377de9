"""Start torchrun for `scripts/launch_multi_gpu`, without its noise where processes report their errors themselves."""

import os
import sys
from collections.abc import Sequence

import torch
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_SECONDS_TO_SAVE = 180  # as many as scripts/launch_slurm leaves ahead of a time limit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run torchrun, and exit with the status of the processes that it starts.

    That is 0, what the first that failed has ended with, or 143 or 130 where SIGTERM or Ctrl-C was handed on to them.
    After SIGTERM or Ctrl-C the processes have three minutes to save, unless the environment variable
    `TORCH_ELASTIC_SHUTDOWN_TIMEOUT` gives other seconds; then they are killed.
    Where one process for each GPU is asked for and there is none, it is 2, after one sentence on standard error.

    Args:
        arguments: arguments for torchrun; None for those of this process.
    """
    parsed = run.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    if parsed.nproc_per_node == "gpu" and not torch.cuda.is_available():
        print(
            "scripts/launch_multi_gpu needs a GPU for each process, and torch finds none here; to compute on the CPU, "
            "give --nproc N before --, and to train also --trainer.accelerator cpu after it.",
            file=sys.stderr,
        )
        sys.exit(2)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SECONDS_TO_SAVE))
    try:
        run.run(parsed)
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as failed:
        status = failed.get_first_failure()[1].exitcode
        sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    main()
