"""`python -m distrain_launch` is the `distrain` command."""

from __future__ import annotations

import sys

from distrain_launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
