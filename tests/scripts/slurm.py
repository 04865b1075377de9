"""A real SLURM of one node, which computes as two CPUs: its daemons run as the user, beside any other SLURM."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import require_component

PATIENCE = 240
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
# A job that is put back into the queue waits as long as a credential lives.
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
TaskPluginParam=autobind=cores
MpiDefault=none
MailProg={true}
ReturnToService=2
KillWait=60
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """How to speak to it.

    Attributes:
        environment: of processes that do.
    """

    environment: Mapping[str, str]

    def ask(self, *command: str) -> str:
        """What one of its commands prints."""
        return subprocess.run(
            command, env=self.environment, check=True, capture_output=True, text=True, timeout=60
        ).stdout

    def tasks(self, number: str) -> list[dict[str, str]]:
        """What it knows of each task of an array, or of the one of a job, by the names of `scontrol show job`."""
        lines = self.ask("scontrol", "--oneliner", "show", "job", number).splitlines()
        return [dict(word.partition("=")[::2] for word in line.split()) for line in lines if line]

    def wait_for(self, number: str, *states: str, log: Path | None = None) -> list[dict[str, str]]:
        """Wait until every task of a job is in one of some states, such as "COMPLETED"; what is known of each then."""
        wait_until(
            lambda: all(task["JobState"] in states for task in self.tasks(number)),
            lambda: f"{self.tasks(number)}\n{_text(log)}",
        )
        return self.tasks(number)


def wait_until(happened: Callable[[], bool], said: Callable[[], str]) -> None:
    """Wait for something; say what is known where it does not happen."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, said()
        time.sleep(0.1)


@contextmanager
def running_slurm() -> Iterator[Slurm]:
    """Start it for a block, and end it and what is left of its jobs with it."""
    how = "apt install slurm-wlm munge (Debian, Ubuntu)"
    for command in ("munged", "slurmctld", "slurmd", "sbatch", "srun"):
        require_component(_found(command), how)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short, as the path of a socket must be
        stack.callback(shutil.rmtree, folder)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        _write_configuration(folder)
        environment = {**os.environ, "SLURM_CONF": f"{folder}/slurm.conf"}
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o600)
        files = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("pid-file", "log-file", "seed-file")]
        munged = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}", *files]
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D"]):
            stack.enter_context(_daemon(command, environment, folder))
        slurm = Slurm(environment)
        wait_until(lambda: "idle" in _answer(slurm), lambda: "\n".join(map(_text, folder.glob("*.log"))))
        stack.callback(_end_jobs, slurm)
        yield slurm


def _found(command: str) -> str:
    return shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") or command


def _write_configuration(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {"controller": one.getsockname()[1], "node": other.getsockname()[1]}
    names = {"host": socket.gethostname().partition(".")[0], "user": os.getuid(), "true": shutil.which("true")}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, **ports, **names))
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")


@contextmanager
def _daemon(command: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    log = folder / f"{command[0]}.out.log"
    with log.open("w") as file:
        ends_with_us = ["setpriv", "--pdeathsig", "TERM", _found(command[0]), *command[1:]]
        process = subprocess.Popen(ends_with_us, env=environment, stdout=file, stderr=file)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _answer(slurm: Slurm) -> str:
    answered = subprocess.run(["sinfo"], env=slurm.environment, capture_output=True, text=True, timeout=60, check=False)
    return answered.stdout


def _end_jobs(slurm: Slurm) -> None:
    slurm.ask("scancel", "--me")
    slurm.ask("scancel", "--me", "--full", "--signal=KILL")
    wait_until(lambda: not slurm.ask("squeue", "--noheader"), lambda: slurm.ask("squeue"))


def _text(path: Path | None) -> str:
    return path.read_text() if path is not None and path.exists() else ""
