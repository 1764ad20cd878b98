"""Batch scripts for Grid Engine. It counts slots; how they lie on hosts is up to the site's parallel environment."""

from __future__ import annotations

from distrain.errors import ArgumentError
from distrain_launch.batch import shell
from distrain_launch.batch.description import Job, clock

# With a slot for each core, mpiexec left to itself would fill the first hosts with ranks.
_HOSTS = """\
# The hosts of the job, with the ranks on each.
hosts=$(awk '{{ printf "%s%s:{ranks}", comma, $1; comma = "," }}' "$PE_HOSTFILE")
given=$(wc -l < "$PE_HOSTFILE")
if [ "$given" -ne {nodes} ]; then
    echo "the parallel environment gave $given hosts, not {nodes}; take one with {slots} slots a host" >&2
    exit 2
fi

"""


def script(job: Job) -> str:
    """The job as a script for qsub of Grid Engine.

    Raises:
        ArgumentError: it asks for what Grid Engine does not have.
    """
    job.refuse("--sge", mpi="mpiexec starts the ranks; name another with --mpiexec.")
    if job.gpus_per_node and not job.directives:
        raise ArgumentError(
            f"--gpus-per-node {job.gpus_per_node}: every Grid Engine has its own way of asking for GPUs. Look it up in "
            "the site's manual and pass it too, as --directive '-l gpu=1'."
        )
    options = ["-S /bin/bash", f"-N {job.name}", "-cwd", "-j y", f"-o {job.name}.$JOB_ID.log"]
    slots = job.nodes * job.cores_per_node
    if slots > 1:
        options.append(f"-pe {job.parallel_environment or 'mpi'} {slots}")
    if job.time_s is not None:
        options.append(f"-l h_rt={clock(job.time_s)}")
    if job.requeue_s is not None:
        if job.time_s is None:
            raise ArgumentError(
                "--requeue: Grid Engine must know the time limit to send a signal before it. Give --time."
            )
        options += [f"-l s_rt={clock(job.time_s - job.requeue_s)}", "-notify", "-r y"]
    if job.account is not None:
        options.append(f"-P {job.account}")
    if job.queue is not None:
        options.append(f"-q {job.queue}")
    head = shell.header(job, "--sge", [f"#$ {option}" for option in (*options, *job.directives)])
    if job.ranks == 1:
        start, more = _start(job, shell.mpiexec(job))
        return shell.script(job, head, start, variables=more)
    hosts = _HOSTS.format(ranks=job.ranks_per_node, nodes=job.nodes, slots=job.cores_per_node)
    start, more = _start(job, shell.mpiexec(job, "-host", '"$hosts"'))
    return shell.script(job, head, hosts + start, variables=more)


def _start(job: Job, start: str) -> tuple[str, list[str]]:
    """The lines that start the ranks, and variables for them."""
    if job.requeue_s is None:
        return start, []
    variables = ['"DISTRAIN_JOB=sge-$JOB_ID"', f"DISTRAIN_GRACE={job.requeue_s}"]
    return shell.stoppable(start, _WHO, _ENDING, "USR1", "USR2 TERM"), variables


_WHO = (
    "Grid Engine sends USR1 when the end is near (s_rt) or the job is to be suspended, USR2 before it kills (-notify)"
)
_ENDING = """\
# Code 99 puts the job back into the queue. After USR2 that is up to who has ended it.
if [ "$code" -eq 75 ] && [ "$again" -eq 1 ]; then
    code=99
fi"""
