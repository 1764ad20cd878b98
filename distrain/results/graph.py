"""Graphviz' picture of a graph, if Graphviz is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

_DOT_S = 20.0  # a graph that takes longer would not be readable either


@functools.lru_cache(maxsize=8)  # who follows a training asks again and again
def to_svg(text: str) -> tuple[bytes | None, str]:
    """Draws a graph in the dot language.

    Returns:
        The SVG file, or None and a sentence that says why there is none.
    """
    dot = shutil.which("dot")
    if dot is None:
        return None, "Install Graphviz to see the graph as a picture here."
    try:
        done = subprocess.run(
            [dot, "-Tsvg"],
            input=text.encode("utf-8", "replace"),
            capture_output=True,
            timeout=_DOT_S,
            env={**os.environ, "SERVER_NAME": "none"},  # so dot opens no file that the text names
        )
    except subprocess.TimeoutExpired:
        return None, f"There is no picture: dot took more than {_DOT_S:.0f} s."
    except OSError as error:
        return None, f"There is no picture: {dot} cannot be run: {error.strerror or error}."
    if done.returncode or b"<svg" not in done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        return None, f"There is no picture: dot says: {said[0][:200]}"
    return done.stdout, ""
