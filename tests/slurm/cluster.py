"""A real Slurm of two nodes on this machine, for tests: munge, slurmctld and two slurmd, gone without a trace.

    python tests/slurm/cluster.py COMMAND…        runs a command beside such a cluster, as `… sinfo`

It needs root, and Debian's packages slurm-wlm and munge (or others that have the same programs). All that it writes is
in a temporary folder; a configuration that the machine may have is left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "salloc", "scancel", "scontrol", "squeue", "sinfo")
NODES = ("node0", "node1")
CORES = 4  # of each node, whatever the machine has
_START_S = 60.0
_END_S = 20.0
_PR_SET_PDEATHSIG = 1

_AS_HOST = 'hostname "$0" && mount --bind "$1/hosts" /etc/hosts && shift && exec "$@"'

_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SwitchType=switch/none
ReturnToService=2
KillWait=5
FirstJobId={first_job}
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName=node0 NodeHostname=node0 NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cores} State=UNKNOWN
NodeName=node1 NodeHostname=node1 NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cores} State=UNKNOWN
PartitionName=all Nodes=node[0-1] Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    absent = [name for name in PROGRAMS if _path(name) is None]
    if absent:
        return f"Slurm is not installed: no {', '.join(absent)} (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "a Slurm of one's own needs root"


def _path(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


class Cluster:
    """A running cluster.

    Attributes:
        folder: all that it writes.
        environ: variables for commands that are to speak with it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts the daemons and waits until both nodes are idle.

        Raises:
            RuntimeError: they are not in time; the message ends with what the daemons say.
        """
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(128))
        for name in ("state", *(f"tmp-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        # MPICH names its shared memory after the job; what a killed one has left would be in the way of a namesake.
        first_job = secrets.randbelow(60_000_000) + 1
        text = _CONFIGURATION.format(
            folder=self.folder, host=host, ports=_free_ports(3), cores=CORES, first_job=first_job
        )
        (self.folder / "slurm.conf").write_text(text.lstrip())
        names = "".join([f"127.0.0.1 {node}\n" for node in NODES])
        (self.folder / "hosts").write_text(Path("/etc/hosts").read_text() + names)
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self._daemon(
            "munged",
            "--foreground",
            "--force",  # the folder above, /tmp, is not to its taste
            f"--socket={self.folder}/munge.socket",
            f"--key-file={key}",
            f"--pid-file={self.folder}/munge.pid",
            f"--seed-file={self.folder}/munge.seed",
            f"--log-file={self.folder}/munge.log",
        )
        self._wait(lambda: (self.folder / "munge.socket").exists(), "munged listens")
        self._daemon("slurmctld", "-D", "-i", "-f", self.environ["SLURM_CONF"])
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", self.environ["SLURM_CONF"], host=node)
        self._wait(lambda: self._ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES), "idle nodes")

    def _daemon(self, name: str, *options: str, host: str = "") -> None:
        """Starts a daemon; it and its children see the host name, if there is one, in the place of the machine's."""
        program = _path(name)
        assert program is not None, name
        # PMIx looks for its own node in the list by the name of the host.
        naming = ["unshare", "--uts", "--mount", "sh", "-c", _AS_HOST, host, str(self.folder)] if host else []
        with (self.folder / f"{name}-{len(self._daemons)}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [*naming, program, *options],
                    cwd=self.folder,
                    env={**os.environ, **self.environ},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            )

    def _ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environ}, capture_output=True, text=True, timeout=_START_S
        )
        return done.stdout

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _START_S
        while not condition():
            ended = [str(daemon.args[0]) for daemon in self._daemons if daemon.poll() is not None]  # type: ignore[index]
            if ended or time.monotonic() > end:
                raise RuntimeError(f"Slurm: no {what}; ended: {ended}\n{self.words()}")
            time.sleep(0.05)

    def words(self) -> str:
        """The last lines of all logs."""
        files = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join("\n".join([file.name, *file.read_text(errors="replace").splitlines()[-15:]]) for file in files)

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait, run or are ending."""
        return self._ask("squeue", "-h", "-o", "%A").split()

    def stop(self) -> None:
        """Ends all jobs and the daemons, and removes the folder."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._ask("scancel", "--full", "--signal=KILL", "--user=root")
            self._ask("scancel", "--user=root")
        end = time.monotonic() + _END_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            while self.jobs() and time.monotonic() < end:
                time.sleep(0.05)
        for daemon in reversed(self._daemons):  # munge last: the others speak through it
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(_END_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in _steps(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _end_with_parent() -> None:
    """A daemon must not outlive tests that were killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _steps(folder: Path) -> Iterator[int]:
    """Processes of this cluster that outlived its daemons."""
    for found in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (found / "cmdline").read_bytes()
            is_ours = f"SLURM_CONF={folder}".encode() in (found / "environ").read_bytes()
            if b"slurmstepd" in words and is_ours:
                yield int(found.name)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster while it is needed."""
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="distrain-slurm-", dir="/tmp")))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


if __name__ == "__main__":
    if reason := missing():
        sys.exit(reason)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with running() as here:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, **here.environ}).returncode)
