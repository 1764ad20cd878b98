"""`distrain feed`: processes that read samples for ranks on other hosts.

    distrain feed --connect tcp://gpu01:5555,tcp://gpu01:5556 -n 8 train:dataset

One process loads the dataset and forks the others, each of which serves one rank (see `remote_feeder`) and is replaced
when it dies. Feeders may be started before the ranks, and serve those that are started next at the same address. The
dataset is that of this program; it never comes over the network.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from distrain import mortal
from distrain.errors import ArgumentError, DistrainError, FeedError
from distrain.iterators.feed.keys import feeder_keys, key_folder, make_key
from distrain.iterators.feed.remote_feeder import Offer, Refused, work

_RESPAWN_S = 1.0  # between two starts of the same feeder, at least
_GRACE_S = 2.0
_USAGE_ERROR = 2
_REFUSED = 3  # exit code of a feeder whose dataset is not the rank's
_REASON_NBYTES = 4000  # written to a pipe as a whole


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 when a signal has ended it, 2 when it cannot work."""
    options = _parser().parse_args(argv)
    try:
        folder = key_folder(options.keys)
        if options.make_key is not None:
            made = make_key(folder, options.make_key)
            print(f"{made} is to become the key folder of the other machine: ~/.config/distrain/keys, with mode 0700")
            return 0
        return _feed(options, folder)
    except DistrainError as error:
        _say(str(error))
        return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="distrain feed",
        description="Reads samples for ranks on other hosts, whose MultiprocessIterator has feeders='tcp://…'.",
    )
    parser.add_argument("--connect", metavar="ADDRESS[,…]", help="the ranks: tcp://host:port, separated by commas")
    parser.add_argument("-n", type=int, metavar="N", help="how many processes (default: one a core)")
    parser.add_argument("--converter", metavar="MODULE:NAME", help="the converter, if the ranks' iterator has one")
    parser.add_argument(
        "--keys", metavar="DIR", help="the key folder (default: $DISTRAIN_KEYS, or ~/.config/distrain/keys)"
    )
    parser.add_argument(
        "--make-key", metavar="NAME", help="make a key for a machine that does not share this home, and end"
    )
    parser.add_argument(
        "dataset",
        nargs="?",
        metavar="MODULE:NAME",
        help="the dataset in a module or script.py; a function is called for it",
    )
    return parser


def _feed(options: argparse.Namespace, folder: Path) -> int:
    addresses = [address for address in (options.connect or "").split(",") if address]
    n = len(os.sched_getaffinity(0)) if options.n is None else options.n
    if not addresses or options.dataset is None:
        raise ArgumentError("say whom to feed with what: distrain feed --connect tcp://host:port module:dataset")
    if n < len(addresses):
        raise ArgumentError(f"-n {n}: there are {len(addresses)} addresses, and each process serves one of them")
    keys, server = feeder_keys(folder)
    offer = Offer(load_dataset(options.dataset), _load_converter(options.converter), keys, server, folder)

    def start(number: int) -> NoReturn:
        work(number, addresses[number % len(addresses)], offer, _say if number < len(addresses) else _say_nothing)

    return supervise(n, start)


def load_dataset(target: str) -> Any:
    """The dataset that a target such as `module:name` or `path/script.py:name` stands for.

    Raises:
        ArgumentError: there is no such thing, or it is no dataset.
    """
    found = _load(target)
    if callable(found) and (isinstance(found, type) or not _is_dataset(found)):
        found = found()
    if not _is_dataset(found):
        raise ArgumentError(f"{target} is a {type(found).__name__}, which has no __len__ and __getitem__")
    return found


def _is_dataset(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _load_converter(target: str | None) -> Callable[..., Any] | None:
    if target is None:
        return None
    found = _load(target)
    if not callable(found):
        raise ArgumentError(f"--converter {target} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _load(target: str) -> Any:
    source, colon, name = target.rpartition(":")
    if not colon or not source or not name:
        raise ArgumentError(f"{target!r} is neither module:name nor path/script.py:name")
    module = _script(Path(source)) if source.endswith(".py") else _module(source)
    if not hasattr(module, name):
        names = ", ".join(sorted(each for each in vars(module) if not each.startswith("_")))
        raise ArgumentError(f"{source} has no {name}; it has {names}")
    return getattr(module, name)


def _script(path: Path) -> Any:
    if path.stem in sys.modules and getattr(sys.modules[path.stem], "__file__", None) == str(path.resolve()):
        return sys.modules[path.stem]
    if not path.is_file():
        raise ArgumentError(f"there is no file {path} (looked in {os.getcwd()})")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # as it has when it is run
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ArgumentError(
            f"module {name} cannot be imported: {error} (looked in {os.getcwd()} and sys.path)"
        ) from error


def supervise(n: int, start: Callable[[int], NoReturn]) -> int:
    """Keeps n feeders alive until a signal says that it is enough.

    Args:
        n: how many.
        start: a feeder's life, given its number.

    Returns:
        The exit code.

    Raises:
        FeedError: a rank has refused them.
    """
    ends = {number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if _is_heard(number)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*ends, signal.SIGCHLD})
    reasons, reason = os.pipe()
    feeders: dict[int, tuple[int, float]] = {}  # number and birth, by pid
    missing = dict.fromkeys(range(n), 0.0)  # when to start them, by number
    try:
        while True:
            for number in [number for number, due in missing.items() if due <= time.monotonic()]:
                del missing[number]
                feeders[_fork(number, start, reason, mask)] = number, time.monotonic()
            received = signal.sigtimedwait({*ends, signal.SIGCHLD}, _RESPAWN_S)
            if received is not None and received.si_signo in ends:
                return 0
            for pid in list(feeders):
                gone, status = os.waitpid(pid, os.WNOHANG)
                if not gone:
                    continue
                number, born = feeders.pop(pid)
                if os.waitstatus_to_exitcode(status) == _REFUSED:
                    raise FeedError(os.read(reasons, _REASON_NBYTES).decode(errors="replace"))
                _say(f"feeder {number} (pid {pid}) has died: {_cause(status)}; another one takes its place")
                missing[number] = born + _RESPAWN_S
    finally:
        _end(list(feeders))
        os.close(reasons)
        os.close(reason)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _is_heard(number: signal.Signals) -> bool:
    return signal.getsignal(number) != signal.SIG_IGN  # as it is under nohup


def _fork(number: int, start: Callable[[int], NoReturn], reason: int, mask: set[int | signal.Signals]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    supervisor = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if not mortal.die_with(supervisor):
            os._exit(0)
        for ignored in (signal.SIGINT, signal.SIGHUP):  # the supervisor decides
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        start(number)
    except Refused as error:
        os.write(reason, str(error).encode()[:_REASON_NBYTES])
        code = _REFUSED
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else signal.strsignal(-code) or f"signal {-code}"


def _end(pids: Sequence[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # one that is stopped hears it only then
    deadline = time.monotonic() + _GRACE_S
    for pid in pids:
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                break
            time.sleep(0.01)


def _say(text: str) -> None:
    print(f"distrain feed: {text}", file=sys.stderr, flush=True)


def _say_nothing(text: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
