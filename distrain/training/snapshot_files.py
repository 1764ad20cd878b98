"""Which snapshot a training continues from, and its way to all ranks."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distrain import restart
from distrain.comm import Communicator
from distrain.errors import CorruptFileError, WorldError
from distrain.files import atomic_write
from distrain.serializers import load_npz
from distrain.serializers.archive import Archive
from distrain.training import attempts
from distrain.training.extensions.file_series import file_series

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_MARK = ".job"


class NamedBytes(io.BytesIO):
    """The bytes of a file, with its name for messages."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


def newest_whole(paths: Iterable[str], filename: str, directory: str) -> str | None:
    """The first of some files that is whole; None if there is no file at all. Damaged ones are left out with a warning.

    Args:
        paths: the newest first.
        filename: their common name, for messages.
        directory: likewise.

    Raises:
        CorruptFileError: there are files, and none of them can be read.
    """
    damage: CorruptFileError | OSError | None = None
    for path in paths:
        try:
            with open(path, "rb") as stream:
                Archive(stream, path).check()
            return path
        except (CorruptFileError, OSError) as error:
            warnings.warn(f"a snapshot cannot be read and is left out: {error}")
            damage = damage or error
    if damage is not None:
        damage.add_note(
            f"No older file {filename!r} in {os.path.abspath(directory)!r} can be read; move them away to train from "
            "the start"
        )
        raise damage
    return None


def found_for_all(comm: Communicator, find: Callable[[], str | None]) -> str | NamedBytes | None:
    """The file that rank 0 finds, on every rank: the others need not see it. A collective call.

    Raises:
        WorldError: rank 0 could not read the files; on the other ranks.
        Exception: what `find` raised; on rank 0.
    """
    if comm.size == 1:
        return find()
    found: tuple[bytes, str] | None = None
    failure: Exception | None = None
    if comm.rank == 0:
        try:
            path = find()
            found = None if path is None else (Path(path).read_bytes(), path)
        except Exception as error:  # first the other ranks must know
            failure = error
    said = None if failure is None else f"{type(failure).__name__}: {failure}"
    found, said = comm.bcast_obj((found, said))
    if failure is not None:
        raise failure
    if said is not None:
        raise WorldError(f"rank 0 could not load a snapshot ({said})")
    return None if found is None else NamedBytes(*found)


def continue_job(trainer: Trainer, filenames: Sequence[str]) -> None:
    """Loads the newest snapshot of the trainer that an earlier attempt of this job has written; a collective call.

    Nothing is loaded unless the job is one that may be started again, see `distrain.restart`, nor into a trainer that
    has made steps. Files that lay in `out` before the first attempt are not the job's; they are listed in `.job`.

    Args:
        trainer: that is about to begin.
        filenames: under which its extensions save it as a whole.

    Raises:
        CorruptFileError: there are files, and none of them can be read; on rank 0.
        MismatchError: the newest file belongs to another training.
        WorldError: rank 0 could not read the files; on the other ranks.
    """
    job = restart.job()
    if job is None or not trainer.is_before_training:
        return
    found = found_for_all(trainer.comm, lambda: _newest_of_job(trainer, filenames, job))
    if found is not None:
        load_npz(found, trainer)
        path = found if isinstance(found, str) else found.name
        trainer.comm.print(f"{attempts.title(attempts.earlier(trainer.out))}: continues from {path}")
    elif ends := attempts.earlier(trainer.out):
        trainer.comm.print(f"{attempts.title(ends)}: from the beginning, for this job has no snapshot yet")


def _newest_of_job(trainer: Trainer, filenames: Sequence[str], job: str) -> str | None:
    """The newest whole file of this trainer from an earlier attempt; None if there is none.

    A script may have several trainers for one directory, in an order that is the same in all attempts. What each found
    when it first began is noted, so the files of one are those which the next one found and it did not.
    """
    out = os.path.realpath(trainer.out)
    changed = _changed(out)
    count, at_start = _begun.get(out, (0, changed))
    _begun[out] = count + 1, at_start
    found_by = _read(out, job)
    if count >= len(found_by):  # the first attempt that comes this far
        with atomic_write(os.path.join(out, _MARK)) as stream:
            stream.write(json.dumps({"job": job, "found": [*found_by, changed]}).encode())
        return None
    before, after = found_by[count], found_by[count + 1] if count + 1 < len(found_by) else at_start
    names = [name for filename in filenames for name in file_series(filename, trainer)]
    mine = {
        name: changed[name]
        for name in names
        if before.get(name) != changed[name] == at_start.get(name) == after.get(name)
    }
    paths = (os.path.join(trainer.out, name) for name in sorted(mine, key=mine.__getitem__, reverse=True))
    return newest_whole(paths, " or ".join(filenames), trainer.out)


_begun: dict[str, tuple[int, dict[str, int]]] = {}
"""By directory: how many trainers of this process have begun there, and what the first one found."""


def _changed(directory: str) -> dict[str, int]:
    """When each file was changed, in nanoseconds, by its name in the directory."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):  # removed meanwhile
                found[os.path.relpath(path, directory)] = os.stat(path).st_mtime_ns
    return found


def _read(directory: str, job: str) -> list[dict[str, int]]:
    """What the trainers of this job found when they first began; none if no attempt has come so far."""
    try:
        with open(os.path.join(directory, _MARK), encoding="utf-8") as stream:
            noted = json.load(stream)
        return [dict(found) for found in noted["found"]] if noted["job"] == job else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
