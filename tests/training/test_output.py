from __future__ import annotations

import fcntl
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import pytest

from distrain import comm, training
from distrain.errors import ArgumentError
from distrain.training import extensions, output

TRAINING = """
import os, signal, sys
import numpy as np
import distrain.links as L
from distrain import optimizers, training
from distrain.iterators import SerialIterator

class Counting(training.StandardUpdater):
    def update_core(self):
        next(self.get_iterator("main"))

updater = Counting(SerialIterator(np.zeros((4, 2), np.float32), 2), optimizers.SGD().setup(L.Linear(2, 1)))
trainer = training.Trainer(updater, (2, "iteration"), out=sys.argv[1])
"""

WAIT = """
def wait(trainer):
    print("training", flush=True)
    sys.stdin.read()

trainer.extend(wait, trigger=(1, "iteration"))
trainer.run()
"""

FORK_AND_WAIT = """
def wait(trainer):
    if os.fork():
        print("training", flush=True)
    sys.stdin.read()
    os._exit(0)

trainer.extend(wait)
trainer.run()
"""


@contextmanager
def other_job(out, script=WAIT):
    """A process that is in the midst of training in `out`; it goes on when its stdin is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING + script, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        limit = threading.Timer(60, process.kill)
        limit.start()
        try:
            assert process.stdout.readline() == b"training\n"
            yield process
        finally:
            limit.cancel()
            process.kill()


def test_a_second_job_in_a_directory_is_refused_before_training(make_trainer, tmp_path):
    trainer = make_trainer()
    calls = []
    trainer.extend(extensions.snapshot(snapshot_on_error=True))
    trainer.extend(training.make_extension(initializer=calls.append)(lambda trainer: None), name="a")
    with other_job(trainer.out) as process:
        with pytest.raises(ArgumentError) as caught:
            trainer.run()
        assert os.listdir(trainer.out) == [".lock"]  # no snapshot
        process.stdin.close()
        assert process.wait(60) == 0
    text = str(caught.value)
    assert f"output directory {trainer.out!r} is in use: process {process.pid} on {socket.gethostname()}" in text
    assert "trains there since 20" in text
    assert text.endswith("Nothing has been trained; end that job, or give Trainer another out=…")
    assert trainer.updater.iteration == 0
    assert calls == []
    assert os.listdir(trainer.out) == []
    make_trainer().run()


def test_the_lock_dies_with_its_owner(make_trainer):
    trainer = make_trainer()
    with other_job(trainer.out) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert os.listdir(trainer.out) == [".lock"]
        trainer.run()
    assert os.listdir(trainer.out) == []


def test_a_forked_child_that_outlives_the_owner_does_not_hold_the_lock(make_trainer):
    trainer = make_trainer()
    with other_job(trainer.out, FORK_AND_WAIT) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        trainer.run()
        process.stdin.close()
        assert process.stdout.read() == b""  # the child has ended


def test_a_stopped_owner_holds_the_lock(make_trainer):
    trainer = make_trainer()
    with other_job(trainer.out) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ArgumentError, match="is in use"):
            trainer.run()


def test_trainers_of_one_process_may_share_a_directory(make_trainer):
    first, second = make_trainer(), make_trainer()
    first.run()
    second.run()
    outer = make_trainer()
    outer.extend(lambda trainer: make_trainer().run(), name="nested")
    outer.extend(lambda trainer: files.append(os.listdir(trainer.out)), name="after")
    files = []
    outer.run()
    assert files == [[".lock"]] * 3
    assert os.listdir(outer.out) == []


def test_an_exception_gives_the_directory_back(make_trainer):
    def fail(trainer):
        raise RuntimeError("no")

    trainer = make_trainer()
    trainer.extend(fail)
    with pytest.raises(RuntimeError, match="no"):
        trainer.run(show_loop_exception_msg=False)
    assert os.listdir(trainer.out) == []
    with other_job(trainer.out):
        pass


def test_a_lock_without_a_word_of_its_holder(make_trainer, tmp_path):
    trainer = make_trainer()
    os.mkdir(trainer.out)
    with open(os.path.join(trainer.out, ".lock"), "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(ArgumentError, match="another process has locked .lock, and the file does not say which"):
            trainer.run()


def test_the_lock_of_a_job_that_came_to_a_new_directory_of_that_name_stays(make_trainer, tmp_path):
    out = tmp_path / "result"
    mine = output.claim(str(out), comm.local())
    out.rename(tmp_path / "moved")
    with other_job(out):
        mine.release()
        with pytest.raises(ArgumentError, match="is in use"):
            make_trainer().run()


def test_what_is_no_lock_file_is_an_error_that_names_it(make_trainer, tmp_path):
    trainer = make_trainer()
    os.makedirs(os.path.join(trainer.out, ".lock"))
    with pytest.raises(ArgumentError, match=r"cannot be written to: Is a directory \(.*/\.lock\)"):
        trainer.run()


READ_ONLY = """
if os.geteuid() == 0:
    os.chown(sys.argv[1], 65534, -1)
    os.seteuid(65534)  # permissions mean nothing to root
trainer.run()
"""


@pytest.mark.parametrize("is_held", [False, True])
def test_a_lock_file_that_cannot_be_written(is_held):
    with tempfile.TemporaryDirectory(dir="/tmp") as out:  # pytest's folder is closed to other users
        os.chmod(out, 0o755)
        mine = output.claim(out, comm.local())
        path = os.path.join(out, ".lock")
        os.chmod(path, 0o444)
        if not is_held:
            kept = os.path.join(out, "kept")
            os.link(path, kept)
            mine.release()
            os.rename(kept, path)
        done = subprocess.run(
            [sys.executable, "-c", TRAINING + READ_ONLY, out], capture_output=True, text=True, timeout=60
        )
        mine.release()
        if is_held:
            assert f"is in use: process {os.getpid()} on" in done.stderr
        else:
            assert done.returncode == 0, done.stderr
        assert os.listdir(out) == []


NO_LOCKS = """
import ctypes, errno, struct, warnings

FLOCK, LOAD, JUMP_IF_EQUAL, RETURN, ALLOW = 73, 0x20, 0x15, 0x06, 0x7FFF0000
rules = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, FLOCK), (RETURN, 0, 0, 0x50000 | errno.ENOLCK), (RETURN, 0, 0, ALLOW)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
filters = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(program)))
if libc.prctl(22, 2, filters, 0, 0):  # seccomp
    print("no filter")
    raise SystemExit(0)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trainer.run()
assert len(caught) == 1 and caught[0].filename == "<string>", caught
print(caught[0].message, os.listdir(sys.argv[1]))
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call is another one")
def test_where_the_kernel_refuses_locks_training_goes_on_with_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", TRAINING + NO_LOCKS, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    if done.stdout == "no filter\n":
        pytest.skip("this kernel or container allows no seccomp filter")
    assert f"{str(tmp_path)!r} cannot be locked (No locks available): nothing keeps another job from" in done.stdout
    assert done.stdout.endswith(" []\n")


@pytest.mark.mpi
def test_all_ranks_are_refused_with_the_same_error(run_ranks, tmp_path):
    script = """
from distrain import comm
from distrain.errors import ArgumentError

world = comm.world()
try:
    trainer.run(show_loop_exception_msg=False)
except ArgumentError as error:
    texts = set(world.allgather_obj(str(error)))
    assert len(texts) == 1, texts
    assert "is in use: process " + sys.argv[2] in texts.pop()
else:
    raise AssertionError("no error")
"""
    with output.claim(str(tmp_path), comm.local()):
        run_ranks(TRAINING + script, 2, str(tmp_path), str(os.getpid())).check()


@pytest.mark.mpi
def test_ranks_train_where_a_killed_job_has_trained(run_ranks, tmp_path):
    with other_job(tmp_path) as process:
        process.kill()
        process.wait(10)
    run_ranks(TRAINING + "trainer.run()\n", 2, str(tmp_path)).check()
    assert os.listdir(tmp_path) == ["ranks.json"]
