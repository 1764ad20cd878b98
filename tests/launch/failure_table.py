"""Shows the cells that test_failures.py has run as a table: `failure_table.py FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

cells = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
columns = sorted({(way, victim) for way, _, victim, _, _ in cells})
rows = list(dict.fromkeys((fault, moment) for _, fault, _, moment, _ in sorted(cells)))
found = {(fault, moment, way, victim): text for way, fault, victim, moment, text in cells}
print("exit code (seconds from the fault to the end of the last process)\n")
print("| fault | moment | " + " | ".join(f"{way}, {victim}" for way, victim in columns) + " |")
print("|---" * (len(columns) + 2) + "|")
for row in rows:
    print(f"| {row[0]} | {row[1]} | " + " | ".join(found.get((*row, *column), "") for column in columns) + " |")
