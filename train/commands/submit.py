"""`maskrobust submit`: a command as a job of SLURM, which computes with the Python that runs this."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from maskrobust.errors import InputError, check_at_least
from maskrobust.train.commands.launch import LauncherParser, split, trainer_options

_ABOUT = """Submits a job to SLURM. The environment, the data and the runs must lie where all nodes see them.

  fit, pretrain  a process for each GPU of each node. Three minutes ahead of its time limit the job saves, and puts
                 itself back into the queue; a job that SLURM preempts or requeues saves as far as SLURM's KillWait lets
                 it. It resumes from the last checkpoint of its --run_name, so give each training a name of its own. A
                 job that has saved nothing yet when its time limit comes near fails: give it a longer --time.
  evaluate       the same; if it is requeued, it goes on.
  claim          a job with one process. Give --array=1-8 for eight of them, which share the runs; the last to end
                 decides. Where one fails, submit the claim again: what is finished is not computed again.

Other options go to sbatch, such as --partition=gpu --time=1-0 --cpus-per-task=12, which is the number of CPUs for each
process; --signal=TERM@600 leaves ten minutes to save. scancel JOB ends a job for good, and it saves as when it is
preempted; scancel --signal=TERM JOB has it save and puts it back into the queue."""
_SINGLE = "#!/usr/bin/env bash\nexec COMMAND\n"
_RESUMING = r"""#!/usr/bin/env bash
# Ahead of the time limit SLURM sends SIGTERM to the tasks, which save and end with status 143, and the job goes back
# into the queue. Where SLURM ends the job itself, to requeue it or for good, it sends SIGTERM to this script, too,
# which then waits.
ended_by_slurm=""
trap 'ended_by_slurm=1' TERM
export MASTER_ADDR=$(hostname) MASTER_PORT=$((20000 + SLURM_JOB_ID % 10000)) MASKROBUST_PROGRESS=$(mktemp --dry-run)
# The srun of SLURM 22.05 to 23.02 does not inherit --cpus-per-task, and none inherits variables after sbatch --export.
srun --export=ALL --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+"--cpus-per-task=$SLURM_CPUS_PER_TASK"} \
    bash -c 'RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS exec "$@"' bash \
    COMMAND
status=$?
if ((status == 143)) && [[ ! $ended_by_slurm ]]; then
    if [[ -e $MASKROBUST_PROGRESS ]]; then
        rm "$MASKROBUST_PROGRESS"
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    echo "No process has saved and stopped as told, so the job is not put back; see what went wrong before, or" \
        "submit it with a longer --time." >&2
fi
rm -f "$MASKROBUST_PROGRESS"
exit "$status"
"""


def main(arguments: Sequence[str]) -> None:
    """Run `maskrobust submit` with command-line arguments, the launcher first; exits as sbatch where that fails.

    Raises:
        InputError: an argument is wrong or would have no effect, or sbatch is missing.
    """
    parser = LauncherParser("maskrobust submit", _ABOUT, ("fit", "pretrain", "segment", "evaluate", "claim"))
    parser.add_argument("--nodes", type=int, default=1, help="nodes of a job that is no claim (default: 1)")
    parser.add_argument(
        "--gpus", type=int, default=1, help="GPUs of a node, of a task for a claim; 0: none (default: 1)"
    )
    parser.add_argument("--ntasks-per-node", type=int, help="processes on each node (default: one for each GPU, or 1)")
    own, further = split(arguments)
    given, options = parser.parse_known_args(own)
    check_at_least("--nodes", given.nodes, 1)
    check_at_least("--gpus", given.gpus, 0)
    tasks = max(given.gpus, 1) if given.ntasks_per_node is None else given.ntasks_per_node
    check_at_least("--ntasks-per-node", tasks, 1)
    if given.command == "claim" and (given.nodes > 1 or given.ntasks_per_node is not None):
        raise InputError(
            "--nodes and --ntasks-per-node are not for a claim, a task of which is one process; leave them."
        )
    trainer = trainer_options(given.command, tasks, given.nodes)
    if trainer and any(each.startswith("--ckpt_path") for each in further):
        raise InputError(
            f"maskrobust submit {given.command} resumes from the last checkpoint of its --run_name, got --ckpt_path; "
            "leave --ckpt_path out, or give a file as --model.weights."
        )
    command = [sys.executable, "-m", "maskrobust", given.command, *further, *trainer]
    command += ["--ckpt_path=auto"] if trainer else []  # after a YAML that may say null
    sbatch = ["sbatch", "--parsable", f"--job-name=maskrobust-{given.command}", "--requeue"]
    if given.command != "claim":
        sbatch += [f"--nodes={given.nodes}", f"--ntasks-per-node={tasks}", "--open-mode=append", "--signal=TERM@180"]
    sbatch += [*([f"--gpus-per-node={given.gpus}"] if given.gpus else []), *options]
    script = (_SINGLE if given.command == "claim" else _RESUMING).replace("COMMAND", shlex.join(command))
    if given.dry_run:
        print(f"# {shlex.join(sbatch)}\n{script}")
        return
    if shutil.which("sbatch") is None:
        raise InputError(
            "sbatch is missing, so nothing can be submitted to SLURM; run this on a login node of the cluster."
        )
    submitted = subprocess.run(sbatch, input=script, stdout=subprocess.PIPE, text=True, check=False)
    if submitted.returncode:
        sys.exit(submitted.returncode)
    job, _, cluster = submitted.stdout.strip().partition(";")
    where = f"{job} -M {cluster}" if cluster else job
    print(f"submitted job {job}")
    print(f"next: scontrol show job {where}   # its state, and as StdOut the file of what it says")
