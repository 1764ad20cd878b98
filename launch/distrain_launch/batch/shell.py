"""The part of a batch script that bash runs, much the same on every system.

A line that begins with the user's text could be taken for a directive: Grid Engine and LSF look for theirs in the whole
file, Flux behind any punctuation. So every line begins with a word of ours or the name of a variable, and texts with
line breaks are written in one line. Commands given with --setup are the exception; they are code, and the user's own.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from distrain.env import THREAD_VARIABLES
from distrain_launch.batch.description import Job

# A node's GPUs are dealt out by the rank's number on the node. A list that is too short must not end in no GPU at all,
# which would mean the CPU.
_OWN_GPU = """\
number={local_rank}
list=${{CUDA_VISIBLE_DEVICES:-{numbers}}}
CUDA_VISIBLE_DEVICES=$(echo "$list," | cut -d , -f "$((${{number:?no number on this node is known}} + 1))")
export CUDA_VISIBLE_DEVICES=${{CUDA_VISIBLE_DEVICES:?no GPU is left for rank $number of this node in $list}}
exec "$@"
"""
MPIEXEC_LOCAL_RANK = "${OMPI_COMM_WORLD_LOCAL_RANK:-$MPI_LOCALRANKID}"


def quote(text: str) -> str:
    """A word of bash that means this text, in one line and with nothing but printable characters."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if character.isprintable():
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def own_gpu(job: Job, local_rank: str) -> str:
    """The text of a shell that takes the rank's GPU and becomes the program it is given."""
    return _OWN_GPU.format(local_rank=local_rank, numbers=",".join(map(str, range(job.gpus_per_node))))


def header(job: Job, option: str, directives: Sequence[str]) -> str:
    """The lines that the batch system reads.

    Args:
        job: the job.
        option: of `distrain submit`, as `--slurm`.
        directives: lines, complete.
    """
    return "\n".join(["#!/bin/bash", f"# Written by `distrain submit {option}`: {job.summary()}.", *directives, ""])


def mpiexec(job: Job, *options: str) -> str:
    """The lines that start the ranks with mpiexec; a job of one rank needs none.

    Args:
        job: the job.
        *options: words of bash before the number of ranks.
    """
    if job.ranks == 1:
        return _ALONE
    words = " ".join([quote(job.mpiexec), *options, "-n", str(job.ranks)])
    return (
        "# Open MPI alone reads this: a rank that it binds to one core could not use the others that are its own.\n"
        "export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none\n\n"
        f'{words} "${{program[@]}}"'
    )


_ALONE = '"${program[@]}"'

# Open MPI's mpiexec ends the ranks at SIGTERM, so whatever the system sends becomes SIGUSR1.
_TOLD = """\
# {who}.
# All ranks finish their step and save, and the training ends with code 75.
told=0{more}
{traps}

{start} &
training=$!
while
    before=$told code=0
    wait "$training" || code=$?
    [ "$told" -gt "$before" ]  # it was the signal that ended the wait
do :; done
{ending}
exit "$code\""""
_TRAP = """trap 'told=$((told + 1)){more}; kill -USR1 "$training" 2> /dev/null || :' {signals}"""


def stoppable(start: str, who: str, ending: str, signals: str, of_others: str = "") -> str:
    """The lines that start the ranks, and pass on that the end is near.

    Args:
        start: the lines that start the ranks.
        who: says so, and when; for a comment.
        ending: what to do with the exit code of the training, in `code`; `told` counts the signals.
        signals: names of those after which the job is to go on later.
        of_others: names of those after which somebody else decides about that. If there are any, `again` is 1 if one of
            the first kind has come.
    """
    more = " again=1" if of_others else ""
    traps = [_TRAP.format(more=more, signals=signals)]
    if of_others:
        traps.append(_TRAP.format(more="", signals=of_others))
    return _TOLD.format(
        who=who, more=" again=0" if of_others else "", traps="\n".join(traps), start=start, ending=ending
    )


def script(job: Job, head: str, start: str, local_rank: str = MPIEXEC_LOCAL_RANK, variables: Sequence[str] = ()) -> str:
    """A whole batch script.

    Args:
        job: the job.
        head: what `header` gave.
        start: the lines that start the ranks; they find each rank's command line in the array `program`.
        local_rank: words of sh that give a rank's number on its node.
        variables: words of bash, each a variable of every rank that is known only when the job runs.
    """
    parts = [
        head,
        f"set -e  # what fails here ends the job\ncd {quote(job.directory)}\n",
        _software(job),
        _environment(job, variables),
        _program(job, local_rank),
        f"{start}\n",
    ]
    return "\n".join(part for part in parts if part)


def _software(job: Job) -> str:
    lines = []
    if job.modules:
        lines += [
            "# Batch shells do not always know `module`.",
            "# shellcheck disable=SC1091",
            "type module > /dev/null 2>&1 || source /etc/profile",
            *(f"module load {quote(module)}" for module in job.modules),
            "",
        ]
    if job.setup:
        lines += ["# Given with --setup.", *job.setup, ""]
    return "\n".join(lines)


def _environment(job: Job, variables: Sequence[str]) -> str:
    lines = [
        "# What every rank finds in its environment; exported variables do not reach other nodes through every MPI.",
        "environment=(",
        *(f"    {name}={quote(value)}" for name, value in job.variables().items()),
        *(f"    {word}" for word in variables),
        ")",
    ]
    if job.threads is not None:
        lines += [
            "# Threads of BLAS: one for each core of a rank, unless their number has been chosen already.",
            f"threads=({' '.join(THREAD_VARIABLES)})",
            "chosen=",
            'for name in "${threads[@]}"; do chosen+=${!name}; done',
            f'[ -n "$chosen" ] || environment+=("${{threads[@]/%/={job.threads}}}")',
        ]
    return "\n".join([*lines, ""])


def _program(job: Job, local_rank: str) -> str:
    lines, words = [], ["env", '"${environment[@]}"']
    if job.shares_gpus:
        lines += [
            "# Each rank sees one GPU of its node, which is number 0 to it.",
            "# shellcheck disable=SC2016",
            f"own_gpu='{own_gpu(job, local_rank)}'",
        ]
        words = ["sh", "-c", '"$own_gpu"', "sh", *words]
    if job.container is not None:
        words += ["apptainer", "exec", *["--nv"] * (job.gpus_per_node > 0), quote(job.container)]
    words += [quote(word) for word in (job.python, job.script, *job.args)]
    return "\n".join([*lines, "# The command line of every rank.", f"program=({' '.join(words)})", ""])
