"""Batch scripts for LSF."""

from __future__ import annotations

from distrain_launch.batch import shell
from distrain_launch.batch.description import Job


def script(job: Job) -> str:
    """The job as a script for bsub.

    Raises:
        ArgumentError: it asks for what LSF does not have.
    """
    job.refuse(
        "--lsf",
        mpi="mpiexec starts the ranks; name another with --mpiexec.",
        parallel_environment="it belongs to Grid Engine.",
    )
    options = [
        f"-J {job.name}",
        f"-o {job.name}-%J.log",
        f"-n {job.ranks}",
        f'-R "span[ptile={job.ranks_per_node}]"',
    ]
    if job.cores_per_rank is not None:
        options.append(f'-R "affinity[core({job.cores_per_rank})]"')
    if job.gpus_per_node:
        options.append(f'-gpu "num={job.gpus_per_node}:mode=shared:j_exclusive=yes"')
    if job.time_s is not None:
        minutes = -(-job.time_s // 60)  # LSF counts no seconds
        options.append(f"-W {minutes // 60}:{minutes % 60:02}")
    if job.account is not None:
        options.append(f"-P {job.account}")
    if job.queue is not None:
        options.append(f"-q {job.queue}")
    if job.requeue_s is not None:
        options += ["-r", '-Q "75"', f"-wa USR1 -wt {-(-job.requeue_s // 60)}"]  # in minutes
    head = shell.header(job, "--lsf", [f"#BSUB {option}" for option in (*options, *job.directives)])
    if job.requeue_s is None:
        return shell.script(job, head, shell.mpiexec(job))
    start = shell.stoppable(shell.mpiexec(job), _WHO, _ENDING, "USR1 USR2", "INT TERM")
    return shell.script(
        job, head, start, variables=['"DISTRAIN_JOB=lsf-$LSB_JOBID"', f"DISTRAIN_GRACE={job.requeue_s}"]
    )


_WHO = "LSF sends USR1 when the end is near, INT and TERM when somebody ends the job"
_ENDING = """\
# Code 75 puts the job back into the queue (-Q), unless somebody has ended it.
if [ "$code" -eq 75 ] && [ "$told" -gt 0 ] && [ "$again" -eq 0 ]; then
    code=143
fi"""
