"""Batch scripts for Slurm."""

from __future__ import annotations

from distrain_launch.batch import shell
from distrain_launch.batch.description import Job, clock


def script(job: Job) -> str:
    """The job as a script for sbatch.

    Raises:
        ArgumentError: it asks for what Slurm does not have.
    """
    job.refuse("--slurm", parallel_environment="it belongs to Grid Engine.")
    options = [
        f"--job-name={job.name}",
        f"--output={job.name}-%j.log",
        f"--nodes={job.nodes}",
        f"--ntasks-per-node={job.ranks_per_node}",
    ]
    if job.cores_per_rank is not None:
        options.append(f"--cpus-per-task={job.cores_per_rank}")
    if job.gpus_per_node:
        options.append(f"--gpus-per-node={job.gpus_per_node}")
    if job.time_s is not None:
        options.append(f"--time={clock(job.time_s)}")
    if job.account is not None:
        options.append(f"--account={job.account}")
    if job.queue is not None:
        options.append(f"--partition={job.queue}")
    if job.requeue_s is not None:
        options += ["--requeue", "--open-mode=append", f"--signal=B:USR1@{job.requeue_s}"]
    head = shell.header(job, "--slurm", [f"#SBATCH {option}" for option in (*options, *job.directives)])
    start, local_rank = shell.mpiexec(job), shell.MPIEXEC_LOCAL_RANK
    if job.mpi is not None:
        start, local_rank = _srun(job), "$SLURM_LOCALID"
    if job.requeue_s is None:
        return shell.script(job, head, start, local_rank)
    told = [_JOB, '"DISTRAIN_RESTART=${SLURM_RESTART_COUNT:-0}"', f"DISTRAIN_GRACE={job.requeue_s}"]
    ending = _REQUEUE.format(is_to_go_on=_STOPPED if job.mpi is None else _KILLED)
    return shell.script(job, head, shell.stoppable(start, _WHO, ending, "USR1 USR2 TERM"), local_rank, told)


_JOB = '"DISTRAIN_JOB=slurm-$SLURM_JOB_ID"'
_STOPPED = '[ "$code" -eq 75 ]'
_KILLED = f'{_STOPPED} || {{ [ "$told" -gt 0 ] && [ "$code" -eq 137 ]; }}'  # srun kills ranks that end a little later
_WHO = "Slurm tells this shell when the end is near (USR1; USR2 if you ask for it) or the job must make room (TERM)"
_REQUEUE = """\
if {is_to_go_on}; then
    scontrol requeue "$SLURM_JOB_ID"
fi"""


def _srun(job: Job) -> str:
    words = ["srun", f"--mpi={job.mpi}", "--kill-on-bad-exit=1"]
    comment = "# A rank that is killed ends the others."
    if job.cores_per_rank is not None:
        comment = (
            "# A rank that is killed ends the others. Newer versions do not take the cores of a rank from the job."
        )
        words.append(f"--cpus-per-task={job.cores_per_rank}")
    return f'{comment}\n{" ".join(words)} "${{program[@]}}"'
