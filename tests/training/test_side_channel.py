"""What ranks tell rank 0 while they train, with real ranks that stop, fail, die and disagree."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest

from distrain import training
from distrain.training import extensions

HEAD = """
import json, os, signal, sys, threading, time, warnings
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm, datasets, optimizers, set_seed, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

out, world = sys.argv[1], comm.world()
rank, size = world.rank, world.size
set_seed(5)
train, _ = datasets.get_digits()
optimizer = optimizers.Adam().setup(L.Classifier(L.Linear(None, 10)))
updater = training.StandardUpdater(SerialIterator(datasets.SubDataset(train, 0, 203), 50), optimizer)
trainer = training.Trainer(updater, (12, "iteration"), out=out)

def at(iteration, priority=training.PRIORITY_WRITER):
    def decorate(function):
        def call(trainer):
            if trainer.updater.iteration == iteration:
                function(trainer)
        trainer.extend(call, name=function.__name__, priority=priority)
        return function
    return decorate

def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)

report = extensions.LogReport(trigger=(3, "iteration"))
trainer.extend(report)
"""

RUN = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trainer.run()
logs = world.allgather_obj(list(report.log))
said = world.allgather_obj([str(one.message) for one in caught])
if rank == 0:
    with open(out + "/found", "w") as stream:
        json.dump({"logs": logs, "said": said, "channel": vars(trainer.side_channel.states.counters)}, stream)
"""

TCP = {"DISTRAIN_SIDE_CHANNEL": "tcp://127.0.0.1:0"}
CARRIERS = pytest.mark.parametrize("carrier", [{}, TCP], ids=["local", "tcp"])


def read(path):
    return json.loads(path.read_text())


def timeless(log):
    return [{key: value for key, value in entry.items() if key != "elapsed_time"} for entry in log]


@pytest.mark.mpi
def test_the_log_has_the_bits_that_a_collective_gives(run_ranks, tmp_path):
    for n in (2, 3, 4):
        for name, env in [("off", {"DISTRAIN_SIDE_CHANNEL": "off"}), ("local", {}), ("tcp", TCP)]:
            run_ranks(HEAD + RUN, n, str(tmp_path / f"{name} {n}"), env=env).check()
        off, *others = [read(tmp_path / f"{name} {n}" / "found") for name in ("off", "local", "tcp")]
        assert len(off["logs"][0]) == 4
        for other in others:
            assert [timeless(log) for log in other["logs"]] == [timeless(log) for log in off["logs"]]
            assert all(log == other["logs"][0] for log in other["logs"])
            assert other["said"] == [[]] * n
            assert set(other["channel"].values()) == {0}


STOPPED = """
@at(4)
def rest(trainer):
    time.sleep(1.1)  # then the next iteration ends with a heartbeat, which takes back the patience with extensions

@at(6)
def stop(trainer):
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
"""


READING = """
trainer.extend(lambda trainer: len(report.log), name="read", priority=-1)
"""


@pytest.mark.mpi
@pytest.mark.parametrize(("carrier", "reads"), [({}, False), ({}, True), (TCP, True)], ids=["waits", "reads", "tcp"])
def test_a_rank_that_is_stopped_is_silent_and_missing_where_the_log_is_read(run_ranks, tmp_path, carrier, reads):
    results, seen = [], Counter()
    path = tmp_path / "out" / "ranks.json"
    script = HEAD + STOPPED + READING * reads + RUN
    run = threading.Thread(target=lambda: results.append(run_ranks(script, 3, str(tmp_path / "out"), env=carrier)))
    run.start()
    end = time.monotonic() + 50
    while run.is_alive() and not seen["silent"] and time.monotonic() < end:
        time.sleep(0.05)
        if path.exists():
            states = read(path)["ranks"]
            seen[states[1]["state"]] += 1
            if seen["silent"]:
                os.kill(states[1]["pid"], signal.SIGCONT)
    run.join(60)
    results[0].check()
    assert seen["running"]
    assert seen["silent"], "rank 0 tells of it although it waits in the same collective"
    found = read(tmp_path / "out" / "found")
    log = found["logs"][0]
    if not reads:  # rank 0 had something else to wait for, and got the sums meanwhile
        assert [entry.get("missing_ranks") for entry in log] == [None] * 4
        assert (found["channel"]["late"], found["said"]) == (0, [[], [], []])
        assert all(other == log for other in found["logs"])
        return
    assert [entry.get("missing_ranks") for entry in log][:2] == [None, [1]]
    assert len(found["said"][0]) == 1
    assert "the entry of iteration 6 in the log is without the sums of rank 1" in found["said"][0][0]
    if carrier:  # the connection was lost meanwhile, and comes back at leisure
        return
    assert [entry.get("missing_ranks") for entry in log][2:] == [None, None]
    assert found["channel"]["late"] == 1
    assert all(other == log for other in found["logs"])
    assert [state["state"] for state in read(path)["ranks"]] == ["done"] * 3


OTHER_KEYS = """
@at(5)
def observe(trainer):
    if rank == 1:
        trainer.observation["other"] = 7.0

trainer.extend(extensions.observe_value("mine", lambda trainer: 3.0), runs_on="rank0", trigger=(1, "iteration"))
"""


@pytest.mark.mpi
def test_keys_that_not_all_ranks_have_are_named(run_ranks, tmp_path):
    run_ranks(HEAD + OTHER_KEYS + RUN, 3, str(tmp_path)).check()
    found = read(tmp_path / "found")
    log = found["logs"][0]
    assert [entry.get("missing_keys") for entry in log] == [None, {"other": [0, 2]}, None, None]
    assert (log[1]["other"], log[1]["mine"]) == (pytest.approx(7.0), pytest.approx(3.0))
    assert len(found["said"][0]) == 1
    assert "iteration 6 in the log is without 'other' of rank 0, 2" in found["said"][0][0]
    assert all(other == log for other in found["logs"])


LOST = """
report._patience = 3.0

@at(4)
def lose(trainer):
    assert len(report.log) == 1  # what has not been read when the connection is lost is lost with it
    world.barrier()
    if rank == 0:
        trainer.side_channel.hub.close()
"""


@pytest.mark.mpi
@CARRIERS
def test_without_the_hub_training_goes_on_and_says_so_once(run_ranks, tmp_path, carrier):
    run_ranks(HEAD + LOST + RUN, 3, str(tmp_path), env=carrier).check()
    found = read(tmp_path / "found")
    for rank, log in enumerate(found["logs"]):
        others = [other for other in range(3) if other != rank]
        assert [entry["iteration"] for entry in log] == [3, 6, 9, 12]
        assert [entry.get("missing_ranks") for entry in log] == [None, others, others, others]
        assert len(found["said"][rank]) == 1
    assert "without the sums of rank 1, 2" in found["said"][0][0]
    assert "rank 0 has not sent the entry of iteration 6" in found["said"][1][0]


CUT_OFF = """
import ctypes, os, sys

NEW_NETWORK = 0x40000000
is_cut_off = os.environ.get("PMI_RANK") == "1" and ctypes.CDLL(None).unshare(NEW_NETWORK) == 0
"""


@pytest.mark.mpi
def test_a_rank_that_is_cut_off_from_the_network_trains_on(run_ranks, tmp_path):
    report = "report._patience = 0.2\n"
    run_ranks(CUT_OFF + HEAD + report + RUN, 2, str(tmp_path)).check()
    found = read(tmp_path / "found")
    if not any("missing_ranks" in entry for entry in found["logs"][0]):
        pytest.skip("no network namespaces here")
    for rank, other in [(0, 1), (1, 0)]:
        assert [entry["missing_ranks"] for entry in found["logs"][rank]] == [[other]] * 4
        assert len(found["said"][rank]) == 1
    assert read(tmp_path / "ranks.json")["ranks"][1]["state"] in ("running", "silent")


MOVE = """
import ctypes, os, sys

if os.environ["PMI_RANK"] == "1":
    assert ctypes.CDLL(None).setns(os.open(f"/run/netns/{sys.argv[2]}", os.O_RDONLY), 0) == 0
"""

CUT_LATER = """
report._patience = 1.0

@at(4)
def cut(trainer):
    assert len(report.log) == 1 and "missing_ranks" not in report.log[0]
    world.barrier()
    if rank == 0:
        os.system(f"ip link set {sys.argv[3]} down")
    world.barrier()
"""


@pytest.fixture
def link():
    """A network namespace, the end of its cable on this side, and the address of that."""
    name, subnet = f"dt{os.getpid() % 100_000}", f"10.123.{os.getpid() % 250}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b",
        f"ip link set {name}b netns {name}",
        f"ip addr add {subnet}.1/24 dev {name}a",
        f"ip link set {name}a up",
        f"ip -n {name} addr add {subnet}.2/24 dev {name}b",
        f"ip -n {name} link set {name}b up",
    ]
    try:
        for command in commands:
            if subprocess.run(command.split(), stderr=subprocess.DEVNULL, check=False).returncode:
                pytest.skip(f"here one cannot {command}")
        yield name, f"{name}a", f"{subnet}.1"
    except FileNotFoundError:
        pytest.skip("there is no ip")
    finally:
        if shutil.which("ip"):
            for command in (f"ip netns del {name}", f"ip link del {name}a"):
                subprocess.run(command.split(), stderr=subprocess.DEVNULL, check=False)


@pytest.mark.mpi
def test_a_cable_that_is_pulled_stops_no_training(run_ranks, tmp_path, link):
    """The gradients go through shared memory here, so the side channel alone is cut."""
    name, cable, host = link
    script = MOVE + HEAD + CUT_LATER + RUN
    run_ranks(script, 2, str(tmp_path), name, cable, env={"DISTRAIN_SIDE_CHANNEL": f"tcp://{host}:0"}).check()
    found = read(tmp_path / "found")
    for rank, other in [(0, 1), (1, 0)]:
        missing = [entry.get("missing_ranks") for entry in found["logs"][rank]]
        assert missing == [None, [other], [other], [other]]
        assert len(found["said"][rank]) == 1


FAILED = """
@at(5)
def fail(trainer):
    if rank == 1:
        raise ValueError("no more\\nsecond line")

trainer.run()
"""


@pytest.mark.mpi
@CARRIERS
def test_a_failure_stands_in_the_file(run_ranks, mpi_python, tmp_path, carrier):
    result = run_ranks(HEAD + FAILED, 3, str(tmp_path), env=carrier, python=mpi_python)
    assert result.returncode != 0
    state = read(tmp_path / "ranks.json")["ranks"][1]
    assert (state["state"], state["iteration"], state["failure"]) == ("failed", 5, "ValueError: no more")


KILLED = """
@at(5)
def kill(trainer):
    if rank == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

trainer.run()
"""


@pytest.mark.mpi
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_leaves_a_whole_file_and_nobody_waits(run_ranks, tmp_path, victim):
    result = run_ranks(HEAD + KILLED, 3, str(tmp_path), str(victim), timeout=40)
    assert result.returncode != 0
    states = read(tmp_path / "ranks.json")["ranks"]
    assert [state["rank"] for state in states] == [0, 1, 2]
    assert {state["state"] for state in states} <= {"running", "silent", "failed"}


PHASES = """
@training.make_extension(trigger=training.triggers.ManualScheduleTrigger(4, "iteration"), default_name="_slow")
def slow(trainer):
    if rank == 0:
        wait_until(lambda: [state.phase for state in trainer.rank_states] == ["slow"] * size)
        wait_until(lambda: all(s["phase"] == "slow" for s in json.load(open(out + "/ranks.json"))["ranks"]))
    else:
        assert trainer.rank_states == []
    world.barrier()

trainer.extend(slow)

@at(8)
def beat(trainer):
    world.barrier()
    if rank == 0:  # who did not speak for a second speaks at the end of the next iteration
        time.sleep(1.1)
    world.barrier()

@at(10)
def look(trainer):
    if rank == 0:
        wait_until(lambda: all(state.iteration >= 9 for state in trainer.rank_states))
        for state in trainer.rank_states:
            assert state.state == "running" and set(state.time) == {"data", "forward", "backward", "exchange", "update"}
            assert all(0 < seconds < 60 for seconds in state.time.values()), state
    world.barrier()

trainer.run()
if rank == 0:
    assert [(s.state, s.iteration) for s in trainer.rank_states] == [("done", 12)] * size, trainer.rank_states
    assert len({s.pid for s in trainer.rank_states}) == size
assert not [thread for thread in threading.enumerate() if thread.name == "distrain side channel"]
"""


@pytest.mark.mpi
@CARRIERS
def test_heartbeats_tell_iteration_phase_and_times(run_ranks, tmp_path, carrier):
    run_ranks(HEAD + PHASES, 4, str(tmp_path), env=carrier).check()


TWO_LOGS = """
printed = extensions.LogReport(trigger=(2, "iteration"), filename="printed")
trainer.extend(extensions.PrintReport(["iteration", "main/loss"], printed))
trainer.extend(extensions.LogReport(["main/loss"], trigger=(1, "iteration"), filename="third"))
trainer.extend(lambda trainer: None if rank else 0, name="own", runs_on="rank0")
trainer.extend(extensions.LogReport(filename="alone"), name="alone", runs_on="rank0")
trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
trainer.run()
first, third = [list(trainer.get_extension(name).log) for name in ("LogReport", "LogReport_1")]
second = list(printed.log)
for log in world.allgather_obj((first, second, third)):
    assert log == (first, second, third)
assert [entry["iteration"] for entry in third] == list(range(1, 13))
for log, interval in [(first, 3), (second, 2)]:
    for i, entry in enumerate(log):
        part = [one["main/loss"] for one in third[i * interval : (i + 1) * interval]]
        assert abs(entry["main/loss"] - sum(part) / interval) < 1e-9
"""


@pytest.mark.mpi
def test_several_logs_and_snapshots_within_their_intervals(run_ranks, tmp_path):
    run_ranks(HEAD + TWO_LOGS, 3, str(tmp_path)).check()


READ_AT_ONCE = """
means = []

@training.make_extension(trigger=(3, "iteration"), priority=-1)
def look(trainer):
    means.append(report.log[-1]["main/loss"])

trainer.extend(look)
trainer.run()
assert len(means) == 4
assert all(other == means for other in world.allgather_obj(means))
"""


@pytest.mark.mpi
def test_an_entry_is_there_on_every_rank_when_it_is_asked_for(run_ranks, tmp_path):
    run_ranks(HEAD + READ_AT_ONCE, 4, str(tmp_path)).check()


BAD_ADDRESS = """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    trainer.run()
said = [str(one.message) for one in caught]
assert len(report.log) == 4 and trainer.side_channel.hub is trainer.side_channel.member is None
assert len(said) == (rank == 0), said
if rank == 0:
    assert "rank 0 has no side channel, and goes on without: cannot listen on tcp://256.0.0.1:0" in said[0], said
"""


@pytest.mark.mpi
def test_where_there_can_be_no_channel_the_sums_go_through_a_collective(run_ranks, tmp_path):
    run_ranks(HEAD + BAD_ADDRESS, 2, str(tmp_path), env={"DISTRAIN_SIDE_CHANNEL": "tcp://256.0.0.1:0"}).check()


# One rank


def test_one_rank_has_a_state_and_no_thread(make_trainer, tmp_path):
    trainer = make_trainer(lambda trainer: (tmp_path / "result" / "ranks.json").exists())
    assert trainer.rank_states == []
    threads = threading.active_count()
    seen = []
    trainer.extend(lambda trainer: seen.append((threading.active_count(), trainer.rank_states[0].state)), name="look")
    trainer.run()
    assert set(seen) == {(threads, "running")}
    (state,) = trainer.rank_states
    assert (state.rank, state.pid, state.state, state.iteration) == (0, os.getpid(), "done", trainer.updater.iteration)
    found = read(tmp_path / "result" / "ranks.json")
    assert (found["world"], found["ranks"][0]["state"], found["ranks"][0]["phase"]) == (1, "done", "data")
    assert found["ranks"][0]["time"]["data"] > 0


def test_one_rank_that_fails_says_so_where_an_earlier_file_is(make_trainer, tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "ranks.json").write_text("{}")

    def fail(trainer):
        raise ValueError("no more")

    trainer = make_trainer()
    trainer.extend(fail)
    with pytest.raises(ValueError, match="no more"):
        trainer.run(show_loop_exception_msg=False)
    assert trainer.rank_states[0].state == "failed"
    assert read(tmp_path / "result" / "ranks.json")["ranks"][0]["failure"] == "ValueError: no more"


def test_a_file_that_cannot_be_written_is_one_warning(make_trainer, tmp_path):
    (tmp_path / "result" / "ranks.json").mkdir(parents=True)
    start = time.monotonic()
    trainer = make_trainer(lambda trainer: time.monotonic() > start + 2.5)
    with pytest.warns(UserWarning, match=r"ranks.json cannot be written: Is a directory") as caught:
        trainer.run()
    assert len(caught) == 1
    assert sorted(os.listdir(tmp_path / "result")) == ["ranks.json"]


def test_slow_extensions_are_announced_and_quick_ones_once(make_trainer):
    trainer = make_trainer((3, "iteration"))
    trainer.extend(lambda trainer: time.sleep(0.2), name="slow")
    trainer.extend(lambda trainer: None, name="quick")
    trainer.run()
    assert trainer.side_channel.quick == {"quick"}


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "2", None, True])
def test_patience_is_seconds(bad):
    with pytest.raises(ValueError, match="must be a number of seconds"):
        extensions.LogReport(patience=bad)


def test_a_trainer_that_never_ran_has_nothing_to_close(make_trainer, tmp_path):
    (tmp_path / "result").write_text("in the way")
    trainer = make_trainer()
    with pytest.raises(training.trainer.ArgumentError):
        trainer.run(show_loop_exception_msg=False)
    assert trainer.rank_states == []
