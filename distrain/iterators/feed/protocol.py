"""What a rank and its feeders say to each other, as bytes and back; every message is checked before it is believed.

    rank → feeder     ["work", ticket, rows, start, stop, offset, nbytes, layout, [[epoch, indices], …]]
                      ["cancel", ticket]                 do not begin with it
                      ["welcome", seed, on_error]        to a feeder on another host
                      ["refused", text]                  to one that reads something else
                      ["ping"]   ["stop"]                on another host, "stop" means: knock again
    feeder → rank     ["hello", version, token, number, pid, host, length]
                      ["done", ticket, form, seconds, slowest, slowest_index, layout, spilled, [skipped …] …], payload …
                      ["failed", ticket, row, epoch, index, error, message, notes, traceback, arguments]
                      ["cancelled", ticket]
                      ["broken", text]                   the dataset does not arrive
                      ["knock", version, number, pid, host, dataset, length, converter]   from another host
                      ["busy", ticket, row]              so does this, now and then

`done` comes in four forms. "columns": the rows are in the slot. "parcel": they are columns in the payload. "examples":
they are examples, in the slot's region of these rows and in the payload. "batch": the whole minibatch as a converter
made it. The payload of the last three is [lengths, packed nodes, frames …], see `parcels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from distrain import wire
from distrain.errors import WireError

VERSION = 1
FORMS = ("columns", "parcel", "examples", "batch")

_MAX_ROWS = 1 << 40
_TEXT = 1 << 16
_SHORT_TEXT = 1000
_MAX_SECONDS = 1e9
_CHUNK = 1000  # skipped samples in one list


@dataclass(frozen=True, slots=True)
class Work:
    """Rows `start … stop - 1` of a minibatch of `rows` are to be read.

    Attributes:
        ticket: names this order; no two orders of a feed have the same.
        offset, nbytes: of the slot; nbytes is 0 where there is none.
        layout: packed; empty where there is none.
        runs: the samples, by epoch.
    """

    ticket: int
    rows: int
    start: int
    stop: int
    offset: int
    nbytes: int
    layout: bytes
    runs: list[tuple[int, list[int]]]


@dataclass(frozen=True, slots=True)
class Hello:
    """A feeder is there."""

    version: int
    token: bytes
    number: int
    pid: int
    host: str
    length: int


@dataclass(frozen=True, slots=True)
class Knock:
    """A feeder on another host asks for work.

    Attributes:
        number: among those that were started together.
        dataset: the name of its class.
        length: samples in it.
        converter: the name of the function; empty if there is none.
    """

    version: int
    number: int
    pid: int
    host: str
    dataset: str
    length: int
    converter: str


@dataclass(frozen=True, slots=True)
class Busy:
    """A feeder on another host begins with a row."""

    ticket: int
    row: int


@dataclass(frozen=True, slots=True)
class Done:
    """Rows have been read; `form` says where they are.

    Attributes:
        ticket: of the work.
        form: see the head of the file.
        seconds: for all rows.
        slowest: seconds of the slowest sample.
        slowest_index: which that was.
        layout: what the first example would fit in, packed, where columns cannot be written to the slot. The one that
            the work came with: the parcel was made by it.
        spilled: bytes that found no room in the slot.
        skipped: samples that were replaced, `(epoch, index, substitute, error)`.
        payload: frames.
    """

    ticket: int
    form: str
    seconds: float
    slowest: float
    slowest_index: int
    layout: bytes
    spilled: int
    skipped: list[tuple[int, int, int, str]]
    payload: Sequence[Any] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The dataset raised an exception.

    Attributes:
        ticket: of the work.
        row: of the minibatch.
        epoch, index: the sample.
        error: name of the exception's class.
        message: its text.
        notes: its notes.
        traceback: as printed.
        arguments: its arguments, where they are plain values and the class is built in; else None.
    """

    ticket: int
    row: int
    epoch: int
    index: int
    error: str
    message: str
    notes: list[str]
    traceback: str
    arguments: list[Any] | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A feeder has not begun with this work, and will not."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A feeder cannot work at all."""

    text: str


Reply: TypeAlias = Hello | Knock | Busy | Done | Failed | Cancelled | Broken


def pack_work(work: Work) -> bytes:
    """A `Work` as a message."""
    runs = [[epoch, np.asarray(indices, np.int64).tobytes()] for epoch, indices in work.runs]
    fields = [work.ticket, work.rows, work.start, work.stop, work.offset, work.nbytes, work.layout, runs]
    return wire.pack(["work", *fields])


def pack_reply(reply: Reply) -> list[Any]:
    """A reply as frames."""
    if isinstance(reply, Hello):
        fields: list[Any] = [reply.version, reply.token, reply.number, reply.pid, reply.host, reply.length]
        return [wire.pack(["hello", *fields])]
    if isinstance(reply, Done):
        fields = [reply.ticket, reply.form, reply.seconds, reply.slowest, reply.slowest_index]
        skipped = [[*numbers, _text(error, _SHORT_TEXT)] for *numbers, error in reply.skipped]
        chunks = [skipped[at : at + _CHUNK] for at in range(0, len(skipped), _CHUNK)]
        return [wire.pack(["done", *fields, reply.layout, reply.spilled, chunks]), *reply.payload]
    if isinstance(reply, Failed):
        fields = [reply.ticket, reply.row, reply.epoch, reply.index, _text(reply.error), _text(reply.message)]
        rest = [[_text(note) for note in reply.notes[:100]], _text(reply.traceback), _sendable(reply.arguments)]
        return [wire.pack(["failed", *fields, *rest])]
    if isinstance(reply, Cancelled):
        return [wire.pack(["cancelled", reply.ticket])]
    if isinstance(reply, Knock):
        fields = [reply.version, reply.number, reply.pid, reply.host, reply.dataset, reply.length, reply.converter]
        return [wire.pack(["knock", *fields])]
    if isinstance(reply, Busy):
        return [wire.pack(["busy", reply.ticket, reply.row])]
    return [wire.pack(["broken", _text(reply.text)])]


def _text(text: str, limit: int = _TEXT) -> str:
    """A text that fits a message: its end, and escapes for what is no Unicode, such as odd bytes of a file's name."""
    return text[-limit:].encode(errors="backslashreplace").decode()


def _sendable(arguments: list[Any] | None) -> list[Any] | None:
    """The arguments of an exception; None if they do not fit a message."""
    try:
        return arguments if len(wire.pack(arguments)) <= _TEXT else None
    except WireError:
        return None


def unpack_order(message: Any) -> tuple[str, Any]:
    """What a rank says: `("work", Work)`, `("cancel", ticket)`, `("welcome", (seed, on_error))`, `("refused", text)`,
    or a word and None.

    Raises:
        WireError: it is nothing of the kind.
    """
    word, fields = _opened(message)
    if word == "work":
        _expect(word, fields, int, int, int, int, int, int, bytes, list)
        ticket, rows, start, stop, offset, nbytes, layout, runs = fields
        if not (0 < ticket and 0 <= start < stop <= rows <= _MAX_ROWS and 0 <= offset and 0 <= nbytes):
            raise WireError(f"work {ticket} is for rows {start} … {stop} of {rows}")
        unpacked = [_unpack_run(run) for run in runs]
        if sum(len(indices) for _, indices in unpacked) != stop - start:
            raise WireError(f"work {ticket} is for {stop - start} rows, but does not name as many samples")
        return word, Work(ticket, rows, start, stop, offset, nbytes, layout, unpacked)
    if word == "cancel":
        _expect(word, fields, int)
        return word, fields[0]
    if word == "welcome":
        _expect(word, fields, int, str)
        return word, tuple(fields)
    if word == "refused":
        _expect(word, fields, str)
        return word, fields[0]
    if word in ("ping", "stop") and not fields:
        return word, None
    raise WireError(f"{wire.shown(word)} is no order to a feeder")


def _unpack_run(run: Any) -> tuple[int, list[int]]:
    if not isinstance(run, list) or len(run) != 2 or type(run[0]) is not int or not isinstance(run[1], bytes):
        raise WireError("samples are an epoch and their indices")
    if len(run[1]) % 8:
        raise WireError(f"{len(run[1])} bytes are no indices")
    return run[0], np.frombuffer(run[1], np.int64).tolist()


def unpack_reply(frames: Sequence[Any]) -> Reply:
    """What a feeder says, from the frames of its message.

    Raises:
        WireError: it is nothing of the kind.
    """
    if not frames:
        raise WireError("an empty message")
    word, fields = _opened(frames[0])
    if word == "done":
        _expect(word, fields, int, str, float, float, int, bytes, int, list)
        if fields[1] not in FORMS:
            raise WireError(f"work cannot be done in the form {wire.shown(fields[1])}")
        if not (0 <= fields[2] <= _MAX_SECONDS and 0 <= fields[3] <= _MAX_SECONDS):
            raise WireError(f"work cannot take {fields[2]} s, or a sample of it {fields[3]} s")
        if not 0 <= fields[6] <= sum(memoryview(frame).nbytes for frame in frames[1:]):
            raise WireError(f"{fields[6]} bytes cannot have found no room")
        if not all(isinstance(chunk, list) for chunk in fields[7]):
            raise WireError("skipped samples are lists in lists")
        skipped = [_unpack_skipped(one) for chunk in fields[7] for one in chunk]
        if (fields[1] == "columns") != (len(frames) == 1) or len(frames) == 2:
            raise WireError(f"{len(frames) - 1} frames came with the form {fields[1]!r}")
        ticket, form, seconds, slowest, index, layout, spilled, _ = fields
        return Done(ticket, form, seconds, slowest, index, layout, spilled, skipped, frames[1:])
    if len(frames) > 1:
        raise WireError(f"{wire.shown(word)} came with {len(frames) - 1} frames")
    if word == "hello":
        _expect(word, fields, int, bytes, int, int, str, int)
        return Hello(*fields)
    if word == "failed":
        _expect(word, fields, int, int, int, int, str, str, list, str, (list, type(None)))
        if not all(isinstance(note, str) for note in fields[6]):
            raise WireError("notes are texts")
        return Failed(*fields)
    if word == "cancelled":
        _expect(word, fields, int)
        return Cancelled(*fields)
    if word == "knock":
        _expect(word, fields, int, int, int, str, str, int, str)
        return Knock(*fields)
    if word == "busy":
        _expect(word, fields, int, int)
        return Busy(*fields)
    if word == "broken":
        _expect(word, fields, str)
        return Broken(*fields)
    raise WireError(f"{wire.shown(word)} is no reply of a feeder")


def _unpack_skipped(fields: Any) -> tuple[int, int, int, str]:
    if not isinstance(fields, list):
        raise WireError("a skipped sample is a list")
    _expect("skipped", fields, int, int, int, str)
    epoch, index, substitute, error = fields
    return epoch, index, substitute, error


def _opened(message: Any) -> tuple[str, list[Any]]:
    content = wire.unpack(message)
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise WireError("a message is a list that begins with a word")
    return content[0], content[1:]


def _expect(word: str, fields: list[Any], *types: Any) -> None:
    if tuple(map(type, fields)) == types:  # nearly always
        return
    if len(fields) != len(types):
        raise WireError(f"{word!r} has {len(types)} fields, not {len(fields)}")
    for i, (field, kind) in enumerate(zip(fields, types, strict=True)):
        if not isinstance(field, kind) or (type(field) is bool and kind is not bool):
            raise WireError(f"field {i} of {word!r} is a {type(field).__name__}")
