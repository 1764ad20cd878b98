"""What ranks and rank 0 say to each other, as bytes and back; every message is checked before it is believed.

    rank → rank 0     ["beat", iteration, phase, [seconds …], quiet, dropped]
                      ["part", stream, iteration, [[key …] …], sums]
                      ["failed", iteration, text]
                      ["done", iteration]
    rank 0 → rank     ["merged", stream, iteration, elapsed, [[key …] …], means, ranks, [[[key, ranks] …] …]]

Each is one frame. Keys come in lists of a thousand, because longer ones are refused. Sums and means are float64, ranks
are int32, both little-endian: a NaN is the same NaN on the other side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from distrain import wire
from distrain.errors import WireError
from distrain.reporting.merged import Merged
from distrain.reporting.rank_states import PHASES
from distrain.reporting.summary import Sums

MAX_MESSAGE = 1 << 22
"""Bytes of a message that the sockets let through: the sums of some fifty thousand keys."""

_MAX_COUNT = 1 << 62
_MAX_STREAMS = 1 << 16
_MAX_SECONDS = 1e9
_TEXT = 2000
_CHUNK = 1000  # keys in one list


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat; see `RankStates.beat`.

    Attributes:
        iteration: the last complete one.
        phase: what the rank had done last, or the extension that it calls now.
        times: mean seconds of an iteration in the order of `PHASES`, or nothing.
        quiet_s: so long the rank may be quiet now.
        dropped: messages that it has dropped so far.
    """

    iteration: int
    phase: str
    times: Sequence[float]
    quiet_s: float
    dropped: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank has summed up for an entry of a log.

    Attributes:
        stream: which log.
        iteration: of the entry.
        sums: by key.
    """

    stream: int
    iteration: int
    sums: dict[str, Sums]


@dataclass(frozen=True, slots=True)
class Failed:
    """The training of a rank has failed: its last complete iteration, and the line of the exception."""

    iteration: int
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The training of a rank has ended well, after this iteration."""

    iteration: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a log that rank 0 has made.

    Attributes:
        stream: which log.
        merged: the entry.
    """

    stream: int
    merged: Merged


Report: TypeAlias = Beat | Part | Failed | Done


def pack(message: Report | Entry) -> bytes:
    """A message as bytes.

    Raises:
        WireError: it cannot be sent, because of a key that is no Unicode, or too many of them.
    """
    if isinstance(message, Beat):
        times = list(map(float, message.times))
        fields: list[Any] = ["beat", message.iteration, message.phase, times, message.quiet_s, message.dropped]
    elif isinstance(message, Part):
        sums = np.array(list(message.sums.values()), "<f8").tobytes()
        fields = ["part", message.stream, message.iteration, _chunks(list(message.sums)), sums]
    elif isinstance(message, Failed):
        text = message.text[:_TEXT].encode(errors="backslashreplace").decode()[:_TEXT]
        fields = ["failed", message.iteration, text]
    elif isinstance(message, Done):
        fields = ["done", message.iteration]
    else:
        merged = message.merged
        means = np.array(list(merged.means.values()), "<f8").tobytes()
        missing = [[key, _pack_ranks(ranks)] for key, ranks in merged.missing_keys.items()]
        fields = ["merged", message.stream, merged.iteration, float(merged.elapsed_time), _chunks(list(merged.means))]
        fields += [means, _pack_ranks(merged.missing_ranks), _chunks(missing)]
    packed = wire.pack(fields)
    if len(packed) > MAX_MESSAGE:
        raise WireError(f"{len(packed)} bytes are more than the {MAX_MESSAGE} that a message of the side channel has")
    return packed


def unpack_report(data: bytes) -> Report:
    """What a rank says.

    Raises:
        WireError: it is nothing of the kind.
    """
    word, fields = _opened(data)
    if word == "beat":
        _expect(word, fields, int, str, list, float, int)
        iteration, phase, times, quiet_s, dropped = fields
        _check_numbers(word, iteration, dropped)
        if len(times) not in (0, len(PHASES)) or not all(_is_duration(seconds) for seconds in [*times, quiet_s]):
            raise WireError(f"a heartbeat has {len(PHASES)} times in seconds, not {wire.shown(times)}")
        return Beat(iteration, phase[:_TEXT], times, quiet_s, dropped)
    if word == "part":
        _expect(word, fields, int, int, list, bytes)
        stream, iteration, chunks, data = fields
        _check_numbers(word, iteration, stream)
        keys = _keys(chunks)
        sums = [(x, x2, n) for x, x2, n in _floats(data, len(keys), 3)]
        return Part(stream, iteration, dict(zip(keys, sums, strict=True)))
    if word == "failed":
        _expect(word, fields, int, str)
        _check_numbers(word, fields[0])
        return Failed(fields[0], fields[1][:_TEXT])
    if word == "done":
        _expect(word, fields, int)
        _check_numbers(word, fields[0])
        return Done(fields[0])
    raise WireError(f"{wire.shown(word)} is nothing that a rank says")


def unpack_entry(data: bytes) -> Entry:
    """What rank 0 says.

    Raises:
        WireError: it is nothing of the kind.
    """
    word, fields = _opened(data)
    if word != "merged":
        raise WireError(f"{wire.shown(word)} is nothing that rank 0 says")
    _expect(word, fields, int, int, float, list, bytes, bytes, list)
    stream, iteration, elapsed_time, chunks, means, ranks, missing = fields
    _check_numbers(word, iteration, stream)
    keys = _keys(chunks)
    values = [mean for (mean,) in _floats(means, len(keys), 1)]
    named = dict(zip(keys, values, strict=True))
    return Entry(stream, Merged(iteration, elapsed_time, named, _ranks(ranks), _missing_keys(missing)))


def _chunks(items: list[Any]) -> list[list[Any]]:
    return [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]


def _pack_ranks(ranks: Sequence[int]) -> bytes:
    return np.array(ranks, "<i4").tobytes()


def _opened(data: bytes) -> tuple[str, list[Any]]:
    content = wire.unpack(data)
    if not isinstance(content, list) or not content or not isinstance(content[0], str):
        raise WireError("a message is a list that begins with a word")
    return content[0], content[1:]


def _expect(word: str, fields: list[Any], *types: type) -> None:
    if tuple(map(type, fields)) != types:
        found, wanted = ([kind.__name__ for kind in kinds] for kinds in (map(type, fields), types))
        raise WireError(f"{word!r} has the fields {', '.join(wanted)}, not {', '.join(found[:20])}")


def _check_numbers(word: str, iteration: int, other: int = 0) -> None:
    if not 0 <= iteration < _MAX_COUNT or not 0 <= other < (_MAX_STREAMS if word != "beat" else _MAX_COUNT):
        raise WireError(f"{word!r} with the numbers {iteration} and {other}")


def _is_duration(seconds: Any) -> bool:
    return type(seconds) is float and math.isfinite(seconds) and abs(seconds) <= _MAX_SECONDS


def _flat(chunks: list[Any]) -> list[Any]:
    if not all(isinstance(chunk, list) for chunk in chunks):
        raise WireError("keys are lists in a list")
    return [item for chunk in chunks for item in chunk]


def _keys(chunks: list[Any]) -> list[str]:
    keys = _flat(chunks)
    if not all(type(key) is str for key in keys) or len(set(keys)) < len(keys):
        raise WireError("keys are texts, and none comes twice")
    return keys


def _floats(data: bytes, rows: int, columns: int) -> list[list[float]]:
    if len(data) != 8 * rows * columns:
        raise WireError(f"{len(data)} bytes are not the {rows} x {columns} numbers of {rows} keys")
    numbers: list[list[float]] = np.frombuffer(data, "<f8").reshape(rows, columns).tolist()
    return numbers


def _ranks(data: Any) -> list[int]:
    if type(data) is not bytes or len(data) % 4:
        raise WireError("ranks are int32")
    ranks: list[int] = np.frombuffer(data, "<i4").tolist()
    return ranks


def _missing_keys(chunks: list[Any]) -> dict[str, list[int]]:
    pairs = _flat(chunks)
    if not all(isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is str for pair in pairs):
        raise WireError("a missing key is a text with ranks")
    return {key: _ranks(ranks) for key, ranks in pairs}
