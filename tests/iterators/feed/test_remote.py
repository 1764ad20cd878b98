from __future__ import annotations

import hashlib
import importlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from distrain import wire
from distrain.errors import ArgumentError, FeedError, SampleError
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.iterators.feed import keys, protocol, remote
from distrain.iterators.feed.protocol import Cancelled, Done, Knock
from distrain.iterators.feed.remote_crew import endpoint_of

HERE = Path(__file__).parent
LIMIT_S = 60.0
ANYWHERE = "tcp://127.0.0.1:0"


class Feeders:
    """A running `distrain feed`."""

    def __init__(self, address: str, dataset: str, *more: str, n: int = 1, **environ: str) -> None:
        command = [sys.executable, "-m", "distrain.iterators.feed.remote", "--connect", address, "-n", str(n), *more]
        self.process = subprocess.Popen(
            [*command, f"remote_data:{dataset}"],
            cwd=HERE,
            env={**os.environ, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def workers(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def stop(self) -> str:
        """Ends it; returns what it said."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=LIMIT_S)[1]
        finally:
            self.process.kill()
            self.process.wait()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The keys of a test."""
    monkeypatch.setenv("DISTRAIN_KEYS", str(tmp_path / "keys"))
    monkeypatch.syspath_prepend(str(HERE))
    return tmp_path / "keys"


@pytest.fixture
def data() -> Any:
    return importlib.import_module("remote_data")


@pytest.fixture
def feeders() -> Iterator[Callable[..., Feeders]]:
    running: list[Feeders] = []

    def start(*args: Any, **kwargs: Any) -> Feeders:
        running.append(Feeders(*args, **kwargs))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.stop()
        elif one.process.stderr is not None:
            one.process.stderr.close()


@pytest.fixture
def iterate() -> Iterator[Callable[..., MultiprocessIterator]]:
    made: list[MultiprocessIterator] = []

    def iterator(dataset: Any, *args: Any, **kwargs: Any) -> MultiprocessIterator:
        made.append(MultiprocessIterator(dataset, *args, **{"seed": 5, "feeders": ANYWHERE, **kwargs}))
        return made[-1]

    yield iterator
    for one in made:
        one.finalize()


def flat(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, dict):
        return b"".join(flat(key) + flat(part) for key, part in value.items())
    if isinstance(value, (tuple, list)):
        return b"".join(map(flat, value))
    return flat(np.asarray(value)) if isinstance(value, (int, float, np.generic)) else repr(value).encode()


def examples(iterator: Any, n: int, between: Callable[[int], None] = lambda k: None) -> list[str]:
    """A digest of each minibatch."""
    digests = []
    for k in range(n):
        between(k)
        digests.append(hashlib.sha256(b"".join(flat(example) for example in next(iterator))).hexdigest())
    return digests


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def wait_for(iterator: MultiprocessIterator, name: str, least: int) -> None:
    """Lets the iterator read its mail until a number is large enough."""
    feed: Any = iterator._feed

    def is_there() -> bool:
        feed._read_mail()
        feed._remote.look(time.monotonic())
        return bool(iterator.stats()[name] >= least)

    wait_until(is_there)


# The stream


@pytest.mark.parametrize("local", [0, 1])
@pytest.mark.parametrize("name", ["noisy", "table", "ragged"])
def test_the_stream_is_that_of_serial(data: Any, feeders: Any, iterate: Any, name: str, local: int) -> None:
    dataset = getattr(data, name)
    iterator = iterate(dataset, 32, n_processes=local)
    feeders(iterator.feeders_address, name, n=2)
    wait_for(iterator, "joined", 2)
    assert examples(iterator, 12) == examples(SerialIterator(dataset, 32, seed=5), 12)
    assert iterator.stats()["refused"] == iterator.stats()["spilled"] == 0


def test_columns_arrive_as_columns(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.noisy, 32, n_processes=0)
    feeders(iterator.feeders_address, "noisy")
    assert next(iterator).columns is not None
    x, t, r = next(iterator).columns
    assert (x.dtype, t.dtype, r.dtype) == (np.float32, np.int32, np.float64)
    assert x.flags.writeable


def test_the_converter_runs_over_there(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.ragged, 16, n_processes=0, converter=data.pad)
    feeders(iterator.feeders_address, "ragged", "--converter", "remote_data:pad")
    serial = SerialIterator(data.ragged, 16, seed=5)
    for _ in range(4):
        assert flat(next(iterator).columns) == flat(data.pad(next(serial)))


def test_feeders_come_and_go(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.slow, 25, n_processes=0, dataset_timeout=None)
    first = feeders(iterator.feeders_address, "slow", n=3)
    second: list[Feeders] = []

    def between(k: int) -> None:
        if k == 2:
            second.append(feeders(iterator.feeders_address, "slow", n=2))
        elif k == 4:
            wait_for(iterator, "joined", 5)
            os.kill(first.workers[0], signal.SIGKILL)
        elif k == 6:
            os.kill(second[0].workers[0], signal.SIGSTOP)
        elif k == 10:
            first.stop()

    assert examples(iterator, 24, between) == examples(SerialIterator(data.slow, 25, seed=5), 24)
    stats = iterator.stats()
    assert stats["joined"] >= 6  # five, and the one that took the place of the killed one
    wait_for(iterator, "lost", 5)  # the killed, the stopped, the three of the first lot


def test_feeders_serve_the_rank_that_is_started_next(data: Any, feeders: Any, iterate: Any) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    lot = feeders(address, "noisy", n=2)  # before there is a rank
    for _ in range(2):
        iterator = iterate(data.noisy, 32, n_processes=0, feeders=address)
        assert iterator.feeders_address == address
        wait_for(iterator, "joined", 2)
        assert examples(iterator, 4) == examples(SerialIterator(data.noisy, 32, seed=5), 4)
        iterator.finalize()
    assert lot.process.poll() is None
    said = lot.stop()
    assert lot.process.returncode == 0
    assert said.count(f"serving {address}") == 2
    assert "Traceback" not in said


def test_exceptions_of_the_dataset_arrive_in_their_place(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.broken, 30, n_processes=0, shuffle=False)
    feeders(iterator.feeders_address, "broken", n=2)
    next(iterator)
    with pytest.raises(ValueError, match="sample 40 is broken") as caught:
        next(iterator)
    assert any("in a feeder" in note and "remote_data.py" in note for note in caught.value.__notes__)


def test_samples_are_skipped_over_there(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.broken, 50, n_processes=0, shuffle=False, on_error="skip")
    feeders(iterator.feeders_address, "broken", n=2)
    with pytest.warns(UserWarning, match="sample 40 .* is replaced by sample 41"):
        batch = next(iterator)
    assert [int(t) for _, t, _ in batch][38:43] == [38, 39, 41, 41, 42]


# Feeders that do not do what they should


def test_a_hung_feeder_is_fenced_and_may_come_back(data: Any, feeders: Any, iterate: Any, tmp_path: Path) -> None:
    (tmp_path / "hang").touch()
    dataset = data.Hanging()
    iterator = iterate(dataset, 25, n_processes=0, sample_timeout=1, dataset_timeout=None)
    feeders(iterator.feeders_address, "Hanging", n=2, HANG=str(tmp_path / "hang"))
    assert examples(iterator, 6) == examples(SerialIterator(dataset, 25, seed=5), 6)
    assert not (tmp_path / "hang").exists()
    assert any("no end after 1 s" in death for death in iterator.stats()["deaths"])
    wait_for(iterator, "refused", 1)
    wait_for(iterator, "joined", 3)
    assert any("not any more" in text for text in iterator.stats()["refusals"])


def test_a_sample_that_ends_its_feeders_is_named(data: Any, feeders: Any, iterate: Any) -> None:
    iterator = iterate(data.Deadly(), 50, n_processes=0, shuffle=False, dataset_timeout=None)
    lot = feeders(iterator.feeders_address, "Deadly", n=4, DEADLY="1")
    with pytest.raises(SampleError, match="sample 40 .* ended 5 feeders in a row"):
        next(iterator)
    assert "exit code 7" in lot.stop()


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("shorter", [], ["Noisy of 149 samples", "a Noisy of 150"]),
        ("table", [], ["a Table of 150", "a Noisy of 150"]),
        ("noisy", ["--converter", "remote_data:pad"], ["its converter is pad", "that of this rank none"]),
    ],
)
def test_another_dataset_is_refused(
    data: Any, feeders: Any, iterate: Any, dataset: str, options: list[str], words: list[str]
) -> None:
    iterator = iterate(data.noisy, 10, n_processes=1)
    lot = feeders(iterator.feeders_address, dataset, *options, n=2)
    wait_for(iterator, "refused", 1)
    _, said = lot.process.communicate(timeout=LIMIT_S)
    assert lot.process.returncode == 2
    for word in words:
        assert word in said
        assert word in iterator.stats()["refusals"][0]
    assert iterator.stats()["joined"] == 0


@pytest.fixture
def peer(folder: Path) -> Iterator[Callable[[MultiprocessIterator], Any]]:
    lines = []

    def connect(iterator: MultiprocessIterator) -> Any:
        pair, server = keys.feeder_keys(folder)
        line = wire.spoke(wire.new_context(), secrets.token_bytes(12))
        lines.append(line)
        wire.connect_by_tcp(line, str(iterator.feeders_address), pair.secret, pair.public, server)

        def connected() -> bool:
            iterator._feed._read_mail()  # type: ignore[union-attr]
            return bool(line.getsockopt(zmq.EVENTS) & zmq.POLLOUT)

        wait_until(connected)
        return line

    yield connect
    for line in lines:
        line.context.destroy(linger=0)


def knock(dataset: Any) -> bytes:
    return protocol.pack_reply(Knock(protocol.VERSION, 0, 1, "h", type(dataset).__name__, len(dataset), ""))[0]


NONSENSE = {
    "garbage": [b"\xc1 nonsense"],
    "empty": [b""],
    "hello of a local feeder": [wire.pack(["hello", 1, b"token", 0, 1, "host", 150])],
    "ticket that there is not": protocol.pack_reply(Done(999, "examples", 0.1, 0.1, 0, b"", 0, [], [b"", b""])),
    "rows in shared memory": protocol.pack_reply(Done(1, "columns", 0.1, 0.1, 0, b"", 0, [])),
    "lengths that do not fit": protocol.pack_reply(Done(1, "examples", 0.1, 0.1, 0, b"", 0, [], [b"\x08" * 8, b"xx"])),
    "cancelled": protocol.pack_reply(Cancelled(999)),
    "too many frames": [*protocol.pack_reply(Cancelled(1)), b"more"],
}


@pytest.mark.parametrize("has_knocked", [False, True])
def test_nonsense_from_a_peer_with_a_key_ends_its_stay(data: Any, iterate: Any, peer: Any, has_knocked: bool) -> None:
    iterator = iterate(data.noisy, 10, n_processes=1)
    for k, frames in enumerate(NONSENSE.values()):
        line = peer(iterator)
        if has_knocked:
            line.send(knock(data.noisy))
            wait_for(iterator, "joined", k + 1)
        line.send_multipart(frames)
        wait_for(iterator, "refused", k + 1)
        assert iterator.stats()["lost"] == (k + 1) * has_knocked
        said: list[str] = []
        while "stop" not in said:
            assert line.poll(1000 * LIMIT_S)
            said.append(wire.unpack(line.recv())[0])
        assert said[0] == ("welcome" if has_knocked else "stop")
    assert examples(iterator, 5) == examples(SerialIterator(data.noisy, 10, seed=5), 5)


# Strangers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def two_free_ports() -> int:
    """The first one of two in a row."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            with socket.create_server(("127.0.0.1", port + 1)):
                return port


def tcp(iterator: MultiprocessIterator) -> socket.socket:
    host, _, port = str(iterator.feeders_address).removeprefix("tcp://").partition(":")
    return socket.create_connection((host, int(port)), timeout=LIMIT_S)


@pytest.mark.parametrize("what", ["key", "server key", "no curve"])
def test_strangers_stay_outside(data: Any, iterate: Any, folder: Path, what: str) -> None:
    iterator = iterate(data.noisy, 10, n_processes=1)
    pair, server = keys.feeder_keys(folder)
    context = wire.new_context()
    try:
        line = wire.spoke(context, b"stranger")
        if what == "key":
            pair = wire.new_keys()
        elif what == "server key":
            server = wire.new_keys().public
        if what == "no curve":
            line.connect(str(iterator.feeders_address))
        else:
            wire.connect_by_tcp(line, str(iterator.feeders_address), pair.secret, pair.public, server)
        with suppress(zmq.Again):
            line.send(knock(data.noisy), zmq.NOBLOCK)
        wait_for(iterator, "refused", 1)
    finally:
        context.destroy(linger=0)
    reason = {
        "key": "its key is not on the list",
        "server key": "it has another key of the server",
        "no curve": "it does not use CURVE|left at once",  # whichever side finds out first
    }
    assert re.search(reason[what], iterator.stats()["refusals"][0])
    assert iterator.stats()["joined"] == 0
    assert examples(iterator, 3) == examples(SerialIterator(data.noisy, 10, seed=5), 3)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_port_scan_and_garbage_are_counted_and_take_no_memory(data: Any, iterate: Any, feeders: Any) -> None:
    iterator = iterate(data.noisy, 10, n_processes=0)
    feeders(iterator.feeders_address, "noisy", n=1)
    next(iterator)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    for i in range(400):  # while the rank looks elsewhere
        with tcp(iterator) as connection:
            if i % 2:
                with suppress(OSError):  # it may hang up in between
                    connection.sendall(secrets.token_bytes(10_000))
    with tcp(iterator) as endless, suppress(OSError):
        for _ in range(500):
            endless.sendall(bytes(100_000))
    wait_for(iterator, "refused", 401)
    assert resident() - before < 20 << 20
    assert iterator.stats()["refused"] == 401
    assert len(iterator.stats()["refusals"]) <= 20
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files)
    next(SerialIterator(data.noisy, 10, seed=5))
    assert len(examples(iterator, 20)) == 20


def test_a_key_that_is_taken_off_the_list_stays_outside(data: Any, iterate: Any, feeders: Any, folder: Path) -> None:
    iterator = iterate(data.noisy, 10, n_processes=1)
    made = keys.make_key(folder, "cpu7")  # while the job runs
    lot = feeders(iterator.feeders_address, "noisy", "--keys", str(made))
    wait_for(iterator, "joined", 1)
    lot.stop()
    (folder / "allowed" / "cpu7.pub").unlink()
    lot = feeders(iterator.feeders_address, "noisy", "--keys", str(made))
    wait_for(iterator, "refused", 1)
    time.sleep(0.3)
    assert f"the keys in {made} are not those" in lot.stop()
    assert iterator.stats()["joined"] == 1


# Keys


def test_keys_are_made_once_and_for_their_owner_alone(folder: Path) -> None:
    (pair, server), own = keys.feeder_keys(folder), keys.server_keys(folder)
    assert server == own.public
    assert keys.feeder_keys(folder)[0] == pair
    assert wire.raw_key(pair.public) in keys.AllowList(folder)
    assert wire.raw_key(own.public) not in keys.AllowList(folder)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


def test_many_processes_make_the_same_keys(folder: Path) -> None:
    code = "from distrain.iterators.feed import keys; print(keys.server_keys(keys.key_folder()).public.decode())"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)]
    assert len({one.communicate(timeout=LIMIT_S)[0] for one in running}) == 1
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


@pytest.mark.parametrize("mode", [0o755, 0o740, 0o701])
def test_a_folder_that_others_can_read_is_refused(data: Any, iterate: Any, folder: Path, mode: int) -> None:
    keys.server_keys(folder)
    folder.chmod(mode)
    with pytest.raises(FeedError, match=f"mode {mode:04o}.*chmod 700"):
        iterate(data.noisy, 10, n_processes=1)
    with pytest.raises(FeedError, match="chmod 700"):
        keys.feeder_keys(folder)


def test_what_is_missing_or_damaged_is_named(folder: Path) -> None:
    made = keys.make_key(folder, "cpu7")
    with pytest.raises(FeedError, match="there is no .*server.key"):
        keys.server_keys(made)
    (made / "feeder.key").write_text("0" * 39)
    with pytest.raises(FeedError, match=r"feeder.key cannot be read: .*40 characters"):
        keys.feeder_keys(made)
    with pytest.raises(FeedError, match="a key cpu7 already"):
        keys.make_key(folder, "cpu7")
    for name in ("", "../x", ".x", "allowed", "a b"):
        with pytest.raises(FeedError, match="a name is made of"):
            keys.make_key(folder, name)


# Arguments


def test_arguments_that_cannot_work(data: Any, iterate: Any) -> None:
    with pytest.raises(ArgumentError, match="n_processes must be a positive integer, not 0"):
        iterate(data.noisy, 10, n_processes=0, feeders=None)
    for endpoint in ("gpu01:5555", "tcp://gpu01", "tcp://*:70000", "tcp:// :1", "ipc:///x"):
        with pytest.raises(ArgumentError, match="tcp://host:port"):
            iterate(data.noisy, 10, n_processes=0, feeders=endpoint)
    with pytest.raises(ArgumentError, match="does not know no-such-host.invalid"):
        iterate(data.noisy, 10, n_processes=0, feeders="tcp://no-such-host.invalid:5555")
    taken = iterate(data.noisy, 10, n_processes=0).feeders_address
    with pytest.raises(ArgumentError, match="Choose another port"):
        iterate(data.noisy, 10, n_processes=0, feeders=taken)


def test_each_rank_of_a_host_has_a_port_of_its_own() -> None:
    assert endpoint_of("tcp://gpu01:5555", 0) == "tcp://gpu01:5555"
    assert endpoint_of("tcp://*:5555", 3) == "tcp://*:5558"
    assert endpoint_of("tcp://*:0", 3) == "tcp://*:0"


def test_without_feeders_the_warning_says_how_to_start_some(data: Any, iterate: Any) -> None:
    iterator = iterate(data.noisy, 10, n_processes=0, dataset_timeout=0.2)
    with pytest.raises(RuntimeWarning, match=f"no remote feeder .*distrain feed --connect {iterator.feeders_address}"):
        next(iterator)


def test_targets(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    assert remote.load_dataset("remote_data:noisy") is data.noisy
    assert len(remote.load_dataset("remote_data:made")) == len(remote.load_dataset("remote_data:Noisy")) == 150
    assert type(remote.load_dataset("remote_data.py:Table")).__name__ == "Table"
    for target, words in {
        "remote_data": "neither module:name",
        "remote_data:nothing": "has no nothing; it has .*noisy",
        "remote_data:NOT_ONE": "is a int, which has no __len__",
        "no_such_module:x": "no_such_module cannot be imported",
        "no_such.py:x": "there is no file no_such.py",
    }.items():
        with pytest.raises(ArgumentError, match=words):
            remote.load_dataset(target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["remote_data:noisy"], ["--connect tcp://host:port"]),
        (["--connect", "tcp://a:1,tcp://b:2", "-n", "1", "remote_data:noisy"], ["-n 1", "2 addresses"]),
        (["--connect", "tcp://a:1", "nowhere.py:load"], ["no file nowhere.py", "looked in"]),
        (["--connect", "tcp://a:1", "--converter", "remote_data:NOT_ONE", "remote_data:noisy"], ["is a int"]),
        (["--keys", "/dev/null", "--connect", "tcp://a:1", "remote_data:noisy"], ["/dev/null", "chmod 700"]),
        (["--make-key", "../x"], ["'../x'", "letters"]),
    ],
)
def test_bad_requests_are_refused_at_once(capsys: Any, arguments: list[str], words: list[str]) -> None:
    assert remote.main(arguments) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


RANKS = """
import hashlib, subprocess, sys
import numpy as np
from distrain import comm
from distrain.iterators import MultiprocessIterator, SerialIterator
sys.path.insert(0, sys.argv[1])
import remote_data

def digest(iterator):
    content = hashlib.sha256()
    for _ in range(8):
        for example in next(iterator):
            for part in example:
                content.update(np.asarray(part).tobytes())
    return content.hexdigest()

world = comm.world()
port = int(sys.argv[2])
iterator = MultiprocessIterator(remote_data.noisy, 30, seed=5, n_processes=0, feeders=f"tcp://127.0.0.1:{port}")
assert iterator.feeders_address == f"tcp://127.0.0.1:{port + world.rank}", iterator.feeders_address
addresses = world.gather_obj(iterator.feeders_address)
if addresses:
    command = [sys.executable, "-m", "distrain.iterators.feed.remote", "--connect", ",".join(addresses), "-n", "2"]
    feeders = subprocess.Popen([*command, "remote_data:noisy"], cwd=sys.argv[1])
try:
    assert digest(iterator) == digest(SerialIterator(remote_data.noisy, 30, seed=5))
    world.barrier()
finally:
    if addresses:
        feeders.terminate()
        assert feeders.wait(30) == 0
iterator.finalize()
"""


@pytest.mark.mpi
def test_ranks_of_one_host_are_fed_by_one_command(run_ranks: Any, mpi_python: str, tmp_path: Path) -> None:
    keys.server_keys(tmp_path / "keys")
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    run_ranks(script, 2, str(HERE), str(two_free_ports()), python=mpi_python).check()
