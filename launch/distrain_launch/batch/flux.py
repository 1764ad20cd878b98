"""Batch scripts for Flux, whose own `flux run` starts the ranks."""

from __future__ import annotations

from distrain.errors import ArgumentError
from distrain_launch.batch import shell
from distrain_launch.batch.description import Job


def script(job: Job) -> str:
    """The job as a script for `flux batch`.

    Raises:
        ArgumentError: it asks for what Flux does not have.
    """
    job.refuse("--flux", parallel_environment="it belongs to Grid Engine.")
    if job.gpus_per_node % job.ranks_per_node:
        raise ArgumentError(
            f"--gpus-per-node {job.gpus_per_node} cannot be shared out evenly to --ranks-per-node "
            f"{job.ranks_per_node}, as Flux wants it. Take a multiple."
        )
    options = [
        f"--job-name={job.name}",
        f"--output={job.name}-{{{{id}}}}.log",
        f"--nodes={job.nodes}",
        f"--nslots={job.ranks}",
        f"--cores-per-slot={job.cores_per_rank or 1}",
    ]
    gpus = job.gpus_per_node // job.ranks_per_node
    if gpus:
        options.append(f"--gpus-per-slot={gpus}")
    if job.time_s is not None:
        options.append(f"--time-limit={job.time_s}s")
    if job.account is not None:
        options.append(f"--bank={job.account}")
    if job.queue is not None:
        options.append(f"--queue={job.queue}")
    head = shell.header(job, "--flux", [f"# flux: {option}" for option in (*options, *job.directives)])
    words = ["flux", "run", f"--nodes={job.nodes}", f"--ntasks={job.ranks}"]
    words.append(f"--cores-per-task={job.cores_per_rank or 1}")
    if gpus:
        words.append(f"--gpus-per-task={gpus}")
    if job.mpi is not None:
        words.append(f"-o pmi={job.mpi}")
    return shell.script(job, head, f'{" ".join(words)} "${{program[@]}}"', "$FLUX_TASK_LOCAL_ID")
