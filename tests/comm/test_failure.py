from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.mpi

# Rank 1 fails as told while the others wait for it in a collective, for longer than a run may last.
SCRIPT = """
import os, signal, sys, threading, time
import numpy as np
from distrain import comm

world = comm.world()
world.barrier()

def act(how):
    if how == "exception":
        raise ValueError("the cause")
    if how == "thread":
        def fail():
            raise ValueError("the cause")
        threading.Thread(target=fail, name="reader").start()
        time.sleep(60)
    if how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    if how == "sys.exit":
        sys.exit(3)
    if how == "text":
        sys.exit("the cause")
    if how == "finally":
        try:
            sys.exit(3)
        finally:
            print("tidy")
    if how == "raise SystemExit":
        raise SystemExit(3)
    if how == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hook replaced":
        sys.excepthook = sys.__excepthook__
        raise ValueError("the cause")

if world.rank == world.size - 1:
    act(sys.argv[1])
else:
    world.allreduce(np.ones(3))
    if sys.argv[1] != "return":
        time.sleep(60)
    world.allreduce(np.ones(3))
"""

FAILED = "rank 1 of 2 on "


@pytest.mark.parametrize(
    ("how", "code", "printed_once"),
    [
        ("exception", 1, [FAILED, "ValueError: the cause"]),
        ("thread", 1, [FAILED, "failed in thread reader", "ValueError: the cause"]),
        ("interrupt", 130, [FAILED, "KeyboardInterrupt\n"]),
        ("sys.exit", 3, [FAILED, "sys.exit with code 3"]),
        ("finally", 3, [FAILED, "sys.exit with code 3"]),
        ("text", 1, [FAILED, "the cause"]),
        ("raise SystemExit", 3, [FAILED, "left with exit code 3 while other ranks waited for it"]),
        ("return", 1, ["rank 0 of 2 on ", "WorldError: ", "has come to the end of its script"]),
        ("hook replaced", 1, ["ValueError: the cause", "left with exit code 1"]),
        ("sigkill", None, []),
    ],
)
def test_the_failure_of_one_rank_ends_the_job(
    run_ranks: Callable[..., Any], mpi_python: str, how: str, code: int | None, printed_once: list[str]
) -> None:
    result = run_ranks(SCRIPT, 2, how, python=mpi_python, timeout=20)
    assert result.returncode != 0
    if code is not None:
        assert result.returncode == code
    for text in printed_once:
        assert result.stderr.count(text) == 1, result.stderr
    assert result.seconds < 12


def test_a_failure_before_the_world_ends_the_job(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    script = """
    import os
    from distrain import comm, env
    if env.rank_info().rank == 1:
        import module_that_does_not_exist
    comm.world().barrier()
    """
    result = run_ranks(script, 2, python=mpi_python, timeout=20)
    assert result.returncode != 0
    assert "module_that_does_not_exist" in result.stderr
    assert "rank 1 of 2 on " in result.stderr


def test_what_fails_alike_on_all_ranks_is_printed_once(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    script = """
    from distrain import comm
    comm.world().barrier()
    raise ValueError("on all")
    """
    result = run_ranks(script, 3, python=mpi_python, timeout=20)
    assert result.returncode == 1
    assert result.stderr.count("ValueError: on all") == 1
    assert "rank 0 of 3 on " in result.stderr


@pytest.mark.parametrize("end", ["pass", "sys.exit()", "sys.exit(0)", "raise SystemExit", "raise SystemExit(main())"])
def test_a_clean_end_stays_clean(run_ranks: Callable[..., Any], mpi_python: str, end: str) -> None:
    script = f"""
    import os, sys, threading, time
    from distrain import comm

    def main():
        try:
            sys.exit(7)
        except SystemExit:
            return 0

    world = comm.world()
    main()
    threading.Thread(target=sys.exit, args=(5,)).start()    # ends the thread only
    time.sleep(0.3 * world.rank)    # ranks may end at different times
    print("end")
    {end}
    """
    result = run_ranks(script, 2, python=mpi_python, timeout=20).check()
    assert result.stdout.count("end") == 2
