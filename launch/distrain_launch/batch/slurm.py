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
    head = shell.header(job, "--slurm", [f"#SBATCH {option}" for option in (*options, *job.directives)])
    if job.mpi is None:
        return shell.script(job, head, shell.mpiexec(job))
    return shell.script(job, head, _srun(job), "$SLURM_LOCALID")


def _srun(job: Job) -> str:
    words = ["srun", f"--mpi={job.mpi}", "--kill-on-bad-exit=1"]
    comment = "# A rank that is killed ends the others."
    if job.cores_per_rank is not None:
        comment = (
            "# A rank that is killed ends the others. Newer versions do not take the cores of a rank from the job."
        )
        words.append(f"--cpus-per-task={job.cores_per_rank}")
    return f'{comment}\n{" ".join(words)} "${{program[@]}}"'
