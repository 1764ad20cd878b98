"""Batch scripts for PBS Professional and OpenPBS."""

from __future__ import annotations

from distrain_launch.batch import shell
from distrain_launch.batch.description import Job, clock


def script(job: Job) -> str:
    """The job as a script for qsub of PBS.

    Raises:
        ArgumentError: it asks for what PBS does not have.
    """
    job.refuse(
        "--pbs",
        mpi="mpiexec starts the ranks; name another with --mpiexec.",
        parallel_environment="it belongs to Grid Engine.",
    )
    # PBS sets OMP_NUM_THREADS to all cores of a node, for each of its ranks, unless ompthreads says otherwise.
    chunk = f"{job.nodes}:ncpus={job.cores_per_node}:mpiprocs={job.ranks_per_node}:ompthreads={job.cores_per_rank or 1}"
    if job.gpus_per_node:
        chunk += f":ngpus={job.gpus_per_node}"
    options = ["-S /bin/bash", f"-N {job.name}", "-j oe", f"-l select={chunk}", "-l place=scatter"]
    if job.time_s is not None:
        options.append(f"-l walltime={clock(job.time_s)}")
    if job.account is not None:
        options.append(f"-A {job.account}")
    if job.queue is not None:
        options.append(f"-q {job.queue}")
    head = shell.header(job, "--pbs", [f"#PBS {option}" for option in (*options, *job.directives)])
    return shell.script(job, head, shell.mpiexec(job))
