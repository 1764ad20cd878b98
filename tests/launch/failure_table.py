"""Shows the cells that test_failures.py has run as a table: `failure_table.py FILE`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

TARGET_S = 2.0  # from the moment at which a failure is noticed to the end of the last process
NOTICED_LATER = ("OOM (ulimit)", "OOM (cgroup)", "SIGSTOP")  # in their seconds memory fills, or a limit runs

cells = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
columns = sorted({(way, victim) for way, _, victim, *_ in cells})
rows = list(dict.fromkeys((fault, moment) for _, fault, _, moment, *_ in sorted(cells)))
counted = [cell for cell in cells if cell[1] not in NOTICED_LATER]
late = Counter(way for way, *_, seconds in counted if seconds > TARGET_S)


def text(fault: str, code: int, seconds: float) -> str:
    """One cell."""
    is_late = seconds > TARGET_S and fault not in NOTICED_LATER
    return f"{code} ({seconds:.1f} s)" + " **late**" * is_late


found = {(cell[1], cell[3], cell[0], cell[2]): text(cell[1], *cell[4:]) for cell in cells}
print("exit code (seconds from the fault to the end of the last process)\n")
print("| fault | moment | " + " | ".join(f"{way}, {victim}" for way, victim in columns) + " |")
print("|---" * (len(columns) + 2) + "|")
for row in rows:
    print(f"| {row[0]} | {row[1]} | " + " | ".join(found.get((*row, *column), "") for column in columns) + " |")
print(f"\n{late.total()} of {len(counted)} cells took more than {TARGET_S:g} s:", dict(late) or "none")
print(f"Not counted, since the time until they are noticed is in their seconds: {', '.join(NOTICED_LATER)}.")
