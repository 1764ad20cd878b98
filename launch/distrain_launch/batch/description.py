"""What a batch job is, whichever system runs it. A description that exists is one that can be written down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

from distrain.env import THREAD_VARIABLES
from distrain.errors import ArgumentError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+:@,/-]*")  # of accounts, queues and partitions: no directive needs quotes
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,5}):(\d\d):(\d\d)", re.ASCII)
_RANK_DEFAULTS = {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}  # as `distrain run` sets them


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training job for a batch system.

    Attributes:
        script: the training script, as seen from the directory.
        args: its arguments.
        directory: where the job runs; in Kubernetes the image says.
        python: the interpreter of the ranks.
        name: of the job.
        nodes: machines.
        ranks_per_node: ranks on each.
        gpus_per_node: GPUs on each.
        all_gpus: every rank sees every GPU of its node; otherwise one of its own, unless it is alone there.
        cores_per_rank: cores of each rank; None: what the system gives.
        time_s: time limit, in seconds; None: the queue's.
        requeue_s: so many seconds before the limit the training saves itself, and the job goes back into the queue;
            None: it does not.
        account: who pays.
        queue: queue or partition.
        modules: modules of the site to load.
        setup: shell commands that come before the training.
        container: image in which the ranks run.
        environment: variables of the ranks.
        mpi: kind of MPI, where the system starts the ranks itself: `srun --mpi`, `flux run -o pmi`, MPIJob.
        mpiexec: the program that starts the ranks elsewhere.
        parallel_environment: Grid Engine's `-pe`; None: mpi.
        directives: options of the system's own, each a line.

    Raises:
        ArgumentError: on creation, if such a job cannot be.
    """

    script: str
    args: tuple[str, ...] = ()
    directory: str = "."
    python: str = "python3"
    name: str = "train"
    nodes: int = 1
    ranks_per_node: int = 1
    gpus_per_node: int = 0
    all_gpus: bool = False
    cores_per_rank: int | None = None
    time_s: int | None = None
    requeue_s: int | None = None
    account: str | None = None
    queue: str | None = None
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    container: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    mpi: str | None = None
    mpiexec: str = "mpiexec"
    parallel_environment: str | None = None
    directives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_words()
        self._check_texts()

    @property
    def ranks(self) -> int:
        """Ranks of the whole job."""
        return self.nodes * self.ranks_per_node

    @property
    def cores_per_node(self) -> int:
        """Cores that the ranks of a node need; one each if nothing else was said."""
        return self.ranks_per_node * (self.cores_per_rank or 1)

    @property
    def shares_gpus(self) -> bool:
        """Whether the GPUs of a node are to be dealt out among its ranks."""
        return self.gpus_per_node > 0 and self.ranks_per_node > 1 and not self.all_gpus

    @property
    def threads(self) -> int | None:
        """Threads of BLAS for each rank; None: the ranks find out, or the user has said."""
        chosen = {name for name, _ in self.environment} & set(THREAD_VARIABLES)
        return None if chosen else self.cores_per_rank

    def variables(self) -> dict[str, str]:
        """What every rank finds in its environment, threads aside."""
        return {**_RANK_DEFAULTS, **dict(self.environment)}

    def summary(self) -> str:
        """The size of the job in words."""
        ranks = f"{self.ranks} rank{'s' * (self.ranks > 1)}"
        return (
            f"{ranks} on {self.nodes} nodes, {self.ranks_per_node} on each" if self.nodes > 1 else f"{ranks} on 1 node"
        )

    def refuse(self, system: str, **reasons: str) -> None:
        """Refuses what a system does not have.

        Args:
            system: its option, as `--pbs`.
            **reasons: attributes that must not be set, and what to do instead.

        Raises:
            ArgumentError: one is set.
        """
        if self.requeue_s is not None and system in ("--pbs", "--flux"):
            raise ArgumentError(
                f"--requeue does not go with {system}: its jobs cannot put themselves back into the queue. A training "
                "that gets SIGTERM or SIGUSR1 saves itself and ends with code 75, which the script can look at."
            )
        for attribute, reason in reasons.items():
            if getattr(self, attribute):
                raise ArgumentError(f"{_option(attribute)} does not go with {system}: {reason}")

    def _check_counts(self) -> None:
        for attribute, least in (("nodes", 1), ("ranks_per_node", 1), ("gpus_per_node", 0), ("cores_per_rank", 1)):
            count = getattr(self, attribute)
            if count is not None and not least <= count <= 10**6:
                raise ArgumentError(f"{_option(attribute)} {count}: expected a number from {least} to a million.")
        if self.requeue_s is not None and not 1 <= self.requeue_s <= min(65535, (self.time_s or 10**6) - 1):
            raise ArgumentError(
                f"--requeue {self.requeue_s}: expected seconds from 1 to 65535, and fewer than the time limit has."
            )
        if self.shares_gpus and self.ranks_per_node > self.gpus_per_node:
            raise ArgumentError(
                f"--ranks-per-node {self.ranks_per_node} is more than --gpus-per-node {self.gpus_per_node}, and each "
                "rank gets a GPU of its own. Take fewer ranks, or give --all-gpus: every rank sees every GPU."
            )

    def _check_words(self) -> None:
        _match(_NAME, "name", self.name, "a letter, then letters, digits and any of _.- (63 at most)")
        for attribute in ("account", "queue", "mpi", "parallel_environment"):
            word = getattr(self, attribute)
            if word is not None:
                _match(_WORD, attribute, word, "letters, digits and any of _.+:@,/-")
        for name, _ in self.environment:
            _match(_VARIABLE, "environment", name, "NAME=value, with a name of letters, digits and _")

    def _check_texts(self) -> None:
        for attribute, text in self._texts():
            if "\0" in text or not _is_unicode(text):
                raise ArgumentError(f"{_option(attribute)} {text!r}: this is no text that a script could hold.")
        for attribute in ("script", "python", "mpiexec", "container", "directory"):
            text = getattr(self, attribute)
            if text is not None and (not text or text.startswith("-")):
                raise ArgumentError(f"{_option(attribute)} {text!r}: expected a name that does not begin with a dash.")
        if "=" in self.python:  # `env` would take it for a variable
            raise ArgumentError(f"--python {self.python!r}: expected a path without an equals sign.")
        for attribute in ("modules", "setup", "directives"):
            for text in getattr(self, attribute):
                if not text.strip() or not text.isprintable():
                    raise ArgumentError(f"{_option(attribute)} {text!r}: expected one line of printable characters.")

    def _texts(self) -> Iterator[tuple[str, str]]:
        for field in fields(self):
            value = getattr(self, field.name)
            for item in value if isinstance(value, tuple) else (value,):
                for text in item if isinstance(item, tuple) else (item,):
                    if isinstance(text, str):
                        yield field.name, text


def seconds(text: str) -> int:
    """Reads a time limit.

    Args:
        text: hours:minutes:seconds, or days-hours:minutes:seconds.

    Returns:
        Seconds, at least 1.

    Raises:
        ArgumentError: it is something else. `4:00` is refused too: systems disagree about what it means.
    """
    parts = _TIME.fullmatch(text)
    if parts is not None:
        days, hours, minutes, rest = (int(part or 0) for part in parts.groups())
        total = ((days * 24 + hours) * 60 + minutes) * 60 + rest
        if total and minutes < 60 and rest < 60:
            return total
    raise ArgumentError(
        f"--time {text}: expected hours:minutes:seconds such as 4:00:00, or days-hours:minutes:seconds; not 0."
    )


def clock(time_s: int) -> str:
    """A time limit as hours:minutes:seconds."""
    return f"{time_s // 3600}:{time_s // 60 % 60:02}:{time_s % 60:02}"


_OPTIONS = {
    "environment": "--env",
    "modules": "--module",
    "directives": "--directive",
    "parallel_environment": "--pe",
    "time_s": "--time",
    "requeue_s": "--requeue",
    "script": "script",
    "args": "argument",
}


def _option(attribute: str) -> str:
    return _OPTIONS.get(attribute, f"--{attribute.replace('_', '-')}")


def _match(pattern: re.Pattern[str], attribute: str, text: str, expected: str) -> None:
    if not pattern.fullmatch(text):
        raise ArgumentError(f"{_option(attribute)} {text!r}: expected {expected}.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a command line that are not UTF-8
        return False
    return True
