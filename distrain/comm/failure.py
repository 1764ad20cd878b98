"""A rank that fails ends the job: the others would wait for it in a collective for ever.

Guarantees, once `install` has run on every rank:

- An uncaught exception in the main thread, Ctrl-C included, or in any other thread is printed once, with rank, host
  and pid, and every process of the job ends with a code that is not zero.
- `sys.exit` with such a code ends the job with that code.
- A rank that leaves in any other way (`raise SystemExit(3)`, or simply the end of the script) while others wait for
  it in a collective of the world ends the job with an error on the ranks that wait. The job's code is that of the
  rank that left, if it is not zero.
- When all ranks come to the end, nothing is printed and MPI is finalized.

Before that, from the import of `distrain.comm` on, an uncaught exception in the main thread ends the job as well.
Processes forked by a rank are not ranks: in them the hooks stand aside.

Under the launcher a rank leaves its words in its black box and simply ends: the launcher prints them, and ends the
others. Without it the rank prints them itself, and MPI ends the job.
"""

from __future__ import annotations

import atexit
import contextlib
import dis
import os
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from distrain import black_box
from distrain.comm.mpi import FORWARD_S, MpiCommunicator
from distrain.comm.watch import Watch
from distrain.env import RankInfo, rank_info
from distrain.errors import WorldError

_INTERRUPTED = 130  # the shell's code for a process that ends at Ctrl-C
_LEAVE_POLL_S = 0.05
_TURN_S = 1.0  # longer than the lowest rank needs to speak and to end the others
_COPY_S = 2.0  # longer than the interpreter needs to end
_LAST_WORDS_S = _COPY_S + 4 * _TURN_S  # in which the ranks that wait speak and end the job


class _Exit:
    """A call of `sys.exit`, and the frames it has to pass to end the script."""

    def __init__(self, error: SystemExit, frames: Iterable[FrameType]) -> None:
        self.error = error
        self.path = [(frame, frame.f_lasti) for frame in frames]

    def ended_the_script(self) -> bool:
        """Whether it was not caught on its way: each frame ended where it was, or in a `finally` that passed it on."""
        return all(frame.f_lasti == at or _instruction(frame) == "RERAISE" for frame, at in self.path)

    @property
    def code(self) -> int:
        """The exit code as Python understands it: None is 0, text is printed and is 1."""
        code = self.error.code
        return 0 if code is None else code if isinstance(code, int) else 1


def _instruction(frame: FrameType) -> str:
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


class _Leaver:
    """Waits at the end of the script for the other ranks, but not for ever.

    A call of MPI cannot be interrupted. So a thread makes it, which is started early: at its end the interpreter should
    not start any more.
    """

    def __init__(self, comm: MpiCommunicator, watch: Watch | None) -> None:
        self._comm, self._watch = comm, watch
        self._begin, self._done = threading.Event(), threading.Event()
        self._error: WorldError | None = None
        if watch is not None:
            threading.Thread(target=self._run, name="distrain leaver", daemon=True).start()

    def _run(self) -> None:
        self._begin.wait()
        try:
            self._comm.leave()
        except WorldError as error:
            self._error = error
        self._done.set()

    def leave(self) -> None:
        """Returns when all ranks have come to the end of their scripts.

        Raises:
            WorldError: others wait in a collective that this rank will never join.
        """
        if self._watch is None:
            self._comm.leave()
            return
        self._begin.set()
        while not self._done.wait(_LEAVE_POLL_S):
            if self._watch.may_go.is_set():
                raise WorldError("other ranks wait for this one, which has come to the end of its script")
        if self._error is not None:
            raise self._error


class _Guard:
    """The hooks of one rank, and what they replaced."""

    def __init__(self, comm: MpiCommunicator, watch: Watch | None) -> None:
        self.comm, self.watch = comm, watch
        self.pid = os.getpid()
        self.exit: _Exit | None = None
        self.lock = threading.Lock()
        self.leaver = _Leaver(comm, watch)
        self.previous_excepthook = sys.excepthook
        self.previous_threading_excepthook = threading.excepthook

    def install(self) -> None:
        sys.excepthook = self.on_exception
        threading.excepthook = self.on_thread_exception
        sys.exit = self.on_sys_exit
        atexit.register(self.on_end)
        if self.watch is not None:
            self.watch.start(self.on_hang)
        black_box.enter(black_box.RUNNING)

    def on_exception(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() != self.pid:
            self.previous_excepthook(kind, error, trace)
            return
        self.take_turn()
        deserted = isinstance(error, WorldError) and error.deserted
        if deserted:
            black_box.enter(black_box.FORSAKEN)
            if not black_box.is_open():
                time.sleep(_COPY_S + _TURN_S)  # a rank that left with a code of its own speaks, and ends the job
        if self.previous_excepthook is sys.__excepthook__:
            self.say("failed:\n" + "".join(traceback.format_exception(kind, error, trace)))
        else:
            if not black_box.is_open():
                self.say("failed:\n")
            self.previous_excepthook(kind, error, trace)
        self.end_job(_INTERRUPTED if issubclass(kind, KeyboardInterrupt) else 1)

    def on_thread_exception(self, args: threading.ExceptHookArgs) -> None:
        if os.getpid() != self.pid or args.exc_type is SystemExit:  # which Python takes as the quiet end of a thread
            self.previous_threading_excepthook(args)
            return
        self.take_turn()
        name = "a thread" if args.thread is None else f"thread {args.thread.name}"
        text = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        self.say(f"failed in {name}:\n{text}")
        self.end_job(1)

    def on_hang(self, text: str) -> None:
        self.take_turn()
        self.say(text)
        self.end_job(1)

    def on_sys_exit(self, status: object = None, /) -> NoReturn:
        """Stands in for `sys.exit`: the interpreter does not tell its exit handlers with which code it ends."""
        error = SystemExit(status)
        if threading.current_thread() is threading.main_thread():
            self.exit = _Exit(error, _frames_below(sys._getframe(1)))
        raise error

    def on_end(self) -> None:
        import mpi4py
        from mpi4py import MPI

        if os.getpid() != self.pid or MPI.Is_finalized():
            return
        code = self.exit.code if self.exit is not None and self.exit.ended_the_script() else 0
        if code:
            self.take_turn()
            self.say(f"left by sys.exit with code {code}, which ends the job.\n")
            self.end_job(code)
        try:
            self.leaver.leave()
        except WorldError:
            self.desert()
            return
        except KeyboardInterrupt:  # which Python ignores here
            self.end_job(_INTERRUPTED)
        if self.watch is not None:
            self.watch.stop()
        black_box.enter(black_box.LEFT)
        if not mpi4py.rc.finalize:
            MPI.Finalize()

    def desert(self) -> None:
        """Ends this rank, for which others wait, with the code that its script wants.

        The interpreter tells nobody with which code it is about to end. The launcher sees it. Without the launcher a
        copy of this process goes first.
        """
        import mpi4py

        black_box.enter(black_box.DESERTED)
        if mpi4py.rc.finalize:  # the script has started MPI, whose end would wait for the others
            self.end_job(1)
        if black_box.is_open() or (code := _code_of_a_copy()) is None:
            return
        if code:
            self.say(f"left with exit code {code} while other ranks waited for it, which ends the job.\n")
        else:
            time.sleep(_LAST_WORDS_S)  # the ranks that wait have the better traceback, and end the job
        self.comm.abort(code or 1)

    def end_job(self, code: int) -> NoReturn:
        """Ends this process, and with it the job."""
        if not black_box.is_open():
            self.comm.abort(code)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def take_turn(self) -> None:
        """Lets one rank speak where all fail alike: the lowest aborts the job before the others' turn comes."""
        self.lock.acquire()  # for good: of several failing threads the first one speaks
        if not black_box.is_open():
            time.sleep(_TURN_S * min(self.comm.rank, 2))

    def say(self, text: str) -> None:
        _say(self.comm.rank, self.comm.size, text)


class _StartHook:
    """The hook of a process that knows from its environment that it is a rank, but has not asked for the world yet."""

    def __init__(self, info: RankInfo) -> None:
        self.info = info
        self.pid = os.getpid()
        self.previous = sys.excepthook

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() != self.pid:
            self.previous(kind, error, trace)
            return
        text = "failed:\n" + "".join(traceback.format_exception(kind, error, trace))
        if black_box.is_open():
            black_box.report(text)
            return
        time.sleep(_TURN_S * min(self.info.rank, 2))
        _say(self.info.rank, self.info.size, text)
        time.sleep(FORWARD_S)
        mpi = sys.modules.get("mpi4py.MPI")
        if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
            mpi.COMM_WORLD.Abort(1)
        elif {"PMI_FD", "MPI_LOCALRANKID"} <= os.environ.keys():
            # Hydra does not mind a rank that ends before MPI_Init, while the others wait for it in theirs. This is
            # the word with which MPI_Abort tells it (PMI 1 wire protocol). Other launchers see the exit code.
            with contextlib.suppress(OSError):  # closed: the job is ending already
                os.write(int(os.environ["PMI_FD"]), b"cmd=abort exitcode=1\n")


def _code_of_a_copy() -> int | None:
    """The exit code of a copy of this process that is ending; None in the copy, which is to go on ending."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads may hold locks: hence the limit
        copy = os.fork()
    if copy == 0:
        return None
    end = time.monotonic() + _COPY_S
    while (found := os.waitpid(copy, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.01)
    if found == (0, 0):
        os.kill(copy, signal.SIGKILL)
        return 1
    return abs(os.waitstatus_to_exitcode(found[1]))


def _say(rank: int, size: int, text: str) -> None:
    sys.stdout.flush()
    if black_box.is_open():
        black_box.report(text)
        return
    place = f"rank {rank} of {size} on {socket.gethostname()} (pid {os.getpid()})"
    sys.stderr.write(f"\n{place} {text}")  # one write, so that lines of several ranks do not mix
    sys.stderr.flush()


def watch_start() -> None:
    """Makes an exception before the first call of `world` the end of the job; for a rank, as the environment says."""
    try:
        info = rank_info()
    except WorldError:  # `world` will raise it where the user can act on it
        return
    if info.size > 1:
        sys.excepthook = _StartHook(info)


def install(comm: MpiCommunicator, watch: Watch | None) -> None:
    """Makes the failure of this rank the end of the job.

    Args:
        comm: the communicator of all ranks; all of them call this.
        watch: ends with the script.
    """
    if isinstance(sys.excepthook, _StartHook):
        sys.excepthook = sys.excepthook.previous
    _Guard(comm, watch).install()


def _frames_below(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
