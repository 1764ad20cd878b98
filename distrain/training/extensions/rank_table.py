"""The ranks of a job, in words and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

_SLOW = 0.2  # of the median of the others' own time: a straggler takes so much more,
_MATTERS = 0.1  # and that is so much of an iteration
_WORST_FIRST = ("failed", "silent", "straggler", "running", "done")
_STYLES = {"failed": "bold red", "silent": "bold red", "straggler": "bold yellow", "done": "dim"}
_PHASES = ("data", "forward", "backward", "exchange", "update")


def straggler(states: Sequence[Any]) -> int | None:
    """The rank that the others wait for, if it matters: its own time an iteration, without the exchange, exceeds the
    median of the others by 20 %, and by a tenth of the whole iteration.

    Args:
        states: as in `Trainer.rank_states`.
    """
    running = [one for one in states if one.state == "running" and sum(one.time.values()) > 0]
    if len(running) < 2:
        return None
    slowest = max(running, key=_own)
    others = median(_own(one) for one in running if one is not slowest)
    more = max(_SLOW * others, _MATTERS * sum(slowest.time.values()))
    return int(slowest.rank) if _own(slowest) > others + more else None


def _own(state: Any) -> float:
    return float(sum(state.time.values()) - state.time.get("exchange", 0.0))


def standing(state: Any, slowest: int | None) -> str:
    """The state of a rank in one word; that of the slowest one is "straggler"."""
    return "straggler" if state.rank == slowest and state.state == "running" else str(state.state)


def sentences(states: Sequence[Any]) -> dict[int, str]:
    """What is to be said of ranks that need attention, by rank."""
    slowest = straggler(states)
    found = {}
    for state in states:
        word = standing(state, slowest)
        if word in ("failed", "silent", "straggler"):
            why = f": {state.failure}" if state.failure else ""
            found[int(state.rank)] = f"rank {state.rank} on {state.host}: {word}, iteration {state.iteration}{why}"
    return found


def table(states: Sequence[Any], width: int, height: int) -> Any:
    """A rich table of the ranks, or of those that need attention most.

    Args:
        states: as in `Trainer.rank_states`.
        width: columns of the terminal; more of them show more.
        height: lines that the table may have at most.
    """
    from rich.table import Table
    from rich.text import Text

    slowest = straggler(states)
    is_wide = width >= 110
    order = {word: number for number, word in enumerate(_WORST_FIRST)}
    ranked = sorted(states, key=lambda one: (order.get(standing(one, slowest), 0), one.rank))
    most = max(1, height - 1 - (len(states) >= height))  # a line for the names, and one for those left out
    listed = sorted(ranked[:most], key=lambda one: int(one.rank))
    columns = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("rank", *(("host",) if is_wide else ()), "state", "iteration", "phase", "ms"):
        is_word = name in ("host", "state", "phase")
        columns.add_column(name, justify="left" if is_word else "right", no_wrap=True, overflow="ellipsis")
    for name in _PHASES if is_wide else ("data", "exchange"):
        columns.add_column(name, justify="right", no_wrap=True)
    columns.add_column("", no_wrap=True, overflow="ellipsis")
    for one in listed:
        total = sum(one.time.values())
        word = standing(one, slowest)
        shares = [f"{one.time.get(name, 0.0) / total:.0%}" if total else "" for name in columns_of_time(is_wide)]
        cells = [str(one.rank), *((str(one.host),) if is_wide else ()), Text(word, _STYLES.get(word, ""))]
        cells += [str(one.iteration), str(one.phase), f"{total * 1000:.3g}" if total else "", *shares]
        columns.add_row(*cells, str(one.failure or ""))
    if len(listed) < len(states):
        columns.add_row("", f"… and {len(states) - len(listed)} more")
    return columns


def columns_of_time(is_wide: bool) -> tuple[str, ...]:
    """The phases that have a column."""
    return _PHASES if is_wide else ("data", "exchange")
