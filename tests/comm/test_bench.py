from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from distrain.comm.bench import SIZES, main, parser, size, sizes

MODULE = [sys.executable, "-m", "distrain.comm.bench"]
TINY = ["--sizes", "1K,4K", "--rounds", "1"]


@pytest.mark.parametrize(
    ("text", "expected"), [("4", 4), ("1000", 1000), ("1K", 1024), (" 2KiB", 2048), ("3M", 3 * 2**20), ("1GiB", 2**30)]
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "6", "-4", "1.5K", "1KB", "x", "K"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"number of bytes|multiple of 4"):
        size(text)


def test_lists_of_sizes() -> None:
    assert sizes("1M,1K,1024") == [1024, 2**20]
    assert parser().parse_args([]).sizes == list(SIZES)
    assert (SIZES[0], SIZES[-1], len(SIZES)) == (2**10, 2**26, 9)
    with pytest.raises(argparse.ArgumentTypeError, match="two different sizes"):
        sizes("1K,1024")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sizes", "1K"], "two different sizes"),
        (["--rounds", "0"], "1 or more"),
        (["--gradient-bytes", "1M"], "give both or neither"),
        (["--step-seconds", "1"], "give both or neither"),
        (["--step-seconds", "0"], "more than 0"),
        (["--ranks-per-node", "4"], "--gradient-bytes and --step-seconds too"),
        (["--gradient-bytes", "1M", "--step-seconds", "1", "--between", "none.json"], "--between none.json cannot be"),
        (["--json", "no such folder/x.json"], "there is no folder"),
        (["--size", "1K,2K"], "unrecognized"),
    ],
)
def test_bad_options_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--check"])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_one_rank_has_nothing_to_measure(mpi: Any) -> None:
    done = mpi.run([*MODULE, *TINY])
    assert done.returncode == 2
    assert "one rank has nobody to send to" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.mpi
def test_ranks_of_a_plain_mpiexec(run_ranks: Any, tmp_path: Path) -> None:
    between = tmp_path / "between.json"
    between.write_text('{"nodes": 2, "link": {"alpha_s": 5e-6, "beta_s": 2e-9}}')
    script = "\nimport runpy\nrunpy.run_module('distrain.comm.bench', run_name='__main__')\n"
    model = ["--gradient-bytes", "8000", "--step-seconds", "1", "--ranks-per-node", "6", "--between", str(between)]
    done = run_ranks(script, 3, *TINY, *model).check()
    assert done.stdout.count("3 ranks on 1 node") == 1  # rank 0 alone speaks
    assert "exchange = " in done.stdout
    assert "6 ranks a node; between nodes α = 5.00 µs, β = 2.00 ns a byte" in done.stdout
