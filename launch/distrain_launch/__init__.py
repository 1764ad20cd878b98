"""The `distrain` command: starts the ranks of a job with the MPI of the environment."""

from __future__ import annotations

from distrain_launch.cli import main as main

__all__ = ["main"]
