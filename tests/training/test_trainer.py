from __future__ import annotations

import traceback

import numpy as np
import pytest

from distrain import serializers, training
from distrain.errors import ArgumentError
from distrain.training import extensions


class Recorder(training.Extension):
    """Notes what is called on it, and raises where it is told to."""

    def __init__(self, calls: list, name: str, fails: str = "") -> None:
        self.calls, self.label, self.fails = calls, name, fails

    def note(self, what: str) -> None:
        self.calls.append(f"{self.label}.{what}")
        if self.fails == what:
            raise RuntimeError(f"{what} of {self.label}")

    def initialize(self, trainer) -> None:
        self.note("initialize")

    def __call__(self, trainer) -> None:
        self.note("call")

    def on_error(self, trainer, exc, tb) -> None:
        self.note(f"on_error {type(exc).__name__}")

    def finalize(self) -> None:
        self.note("finalize")


# Extensions


def test_extensions_run_by_priority_and_then_in_order_of_registration(make_trainer):
    calls = []
    trainer = make_trainer((1, "iteration"))
    for name, priority in [("a", 100), ("b", 300), ("c", 100), ("d", -5), ("e", 300)]:
        trainer.extend(lambda trainer, name=name: calls.append(name), name=name, priority=priority)
    trainer.run()
    assert calls == ["b", "e", "a", "c", "d"]


def test_a_second_extension_of_a_name_gets_a_suffix(make_trainer):
    trainer = make_trainer()
    for _ in range(3):
        trainer.extend(extensions.LogReport())
    reports = [trainer.get_extension(name) for name in ("LogReport", "LogReport_1", "LogReport_2")]
    assert [report.name for report in reports] == ["LogReport", "LogReport_1", "LogReport_2"]
    assert len(set(map(id, reports))) == 3


def test_names_of_functions(make_trainer):
    def spam(trainer):
        pass

    trainer = make_trainer()
    trainer.extend(spam)
    trainer.extend(spam)
    assert trainer.get_extension("spam") is trainer.get_extension("spam_1") is spam


def test_an_unknown_extension_is_an_error_that_lists_the_others(make_trainer):
    trainer = make_trainer()
    trainer.extend(extensions.LogReport())
    with pytest.raises(ArgumentError, match="no extension 'Log'; registered are 'LogReport'"):
        trainer.get_extension("Log")


def test_what_cannot_be_an_extension_is_refused(make_trainer):
    trainer = make_trainer()
    with pytest.raises(ArgumentError, match="a function of the trainer, not 3"):
        trainer.extend(3)
    with pytest.raises(ArgumentError, match="'training' is no name"):
        trainer.extend(lambda trainer: None, name="training")
    with pytest.raises(ArgumentError, match="runs_on must be"):
        trainer.extend(lambda trainer: None, runs_on="rank 0")


def test_extensions_can_be_given_to_the_constructor(make_trainer):
    made = make_trainer()
    calls = []
    trainer = training.Trainer(made.updater, (2, "iteration"), made.out, [lambda t: calls.append(t.updater.iteration)])
    trainer.run()
    assert calls == [1, 2]


@pytest.mark.parametrize("word", ["call_before_training", "invoke_before_training"])
def test_call_before_training(make_trainer, word):
    calls = []
    trainer = make_trainer((2, "iteration"))
    trainer.extend(
        lambda t: calls.append((t.updater.iteration, t.is_before_training)), trigger=(2, "iteration"), **{word: True}
    )
    trainer.run()
    assert calls == [(0, True), (2, False)]


def test_observation_is_new_in_each_iteration(make_trainer):
    seen = []

    @training.make_extension(priority=training.PRIORITY_WRITER)
    def write(trainer):
        assert trainer.observation == {}
        trainer.observation["n"] = trainer.updater.iteration

    trainer = make_trainer()
    trainer.extend(write)
    trainer.extend(lambda trainer: seen.append(trainer.observation["n"]), name="read")
    trainer.run()
    assert seen == [1, 2, 3]


def test_reports_of_the_model_arrive(make_digits_trainer):
    trainer = make_digits_trainer((1, "iteration"))
    trainer.run()
    assert set(trainer.observation) == {"main/loss", "main/accuracy"}
    assert 1 < float(trainer.observation["main/loss"]) < 5


# Stopping


@pytest.mark.parametrize(("stop", "iterations"), [((4, "iteration"), 4), ((2, "epoch"), 8), ((0.5, "epoch"), 2)])
def test_stops(make_trainer, stop, iterations):
    trainer = make_trainer(stop, samples=12, batch_size=3)
    trainer.run()
    assert trainer.updater.iteration == iterations


def test_a_training_that_is_complete_does_not_start_again(make_trainer, tmp_path):
    first = make_trainer((3, "iteration"))
    first.run()
    serializers.save_npz(tmp_path / "complete", first)
    again = make_trainer((3, "iteration"))
    serializers.load_npz(tmp_path / "complete", again)
    again.run()
    assert again.updater.iteration == 3
    longer = make_trainer((5, "iteration"))
    serializers.load_npz(tmp_path / "complete", longer)
    longer.run()
    assert longer.updater.iteration == 5


def test_runs_once(make_trainer):
    trainer = make_trainer()
    trainer.run()
    with pytest.raises(ArgumentError, match="has run already"):
        trainer.run()


def test_elapsed_time_survives_a_resume(make_trainer, tmp_path):
    trainer = make_trainer()
    assert trainer.elapsed_time == 0
    trainer.run()
    first = trainer.elapsed_time
    assert 0 < first == trainer.elapsed_time
    serializers.save_npz(tmp_path / "snapshot", trainer)
    resumed = make_trainer((6, "iteration"))
    serializers.load_npz(tmp_path / "snapshot", resumed)
    assert resumed.elapsed_time == first
    resumed.run()
    assert resumed.elapsed_time > first


# Failures


def test_every_finalize_is_called_when_initialize_fails(make_trainer, capsys):
    calls = []
    trainer = make_trainer()
    trainer.extend(Recorder(calls, "a"), name="a")
    trainer.extend(Recorder(calls, "b", "initialize"), name="b")
    trainer.extend(Recorder(calls, "c"), name="c")
    trainer.updater.finalize = lambda: calls.append("updater.finalize")
    with pytest.raises(RuntimeError, match="initialize of b"):
        trainer.run()
    assert calls == [
        "a.initialize", "b.initialize", "a.on_error RuntimeError", "b.on_error RuntimeError", "c.on_error RuntimeError",
        "a.finalize", "b.finalize", "c.finalize", "updater.finalize",
    ]  # fmt: skip
    assert "iteration 0, in extension b: RuntimeError: initialize of b" in capsys.readouterr().err


def test_a_failing_finalize_neither_stops_the_others_nor_replaces_the_error(make_trainer):
    calls = []
    trainer = make_trainer()
    trainer.extend(Recorder(calls, "a", "finalize"), name="a")
    trainer.extend(Recorder(calls, "b", "call"), name="b")
    trainer.extend(Recorder(calls, "c", "finalize"), name="c")
    trainer.updater.finalize = lambda: calls.append("updater.finalize")
    with pytest.raises(RuntimeError, match="call of b") as caught:
        trainer.run(show_loop_exception_msg=False)
    assert calls[-4:] == ["a.finalize", "b.finalize", "c.finalize", "updater.finalize"]
    notes = "\n".join(caught.value.__notes__)
    assert "finalize of a raised:" in notes
    assert "RuntimeError: finalize of c" in notes


def test_a_failing_finalize_alone_is_raised_with_the_others_as_notes(make_trainer):
    trainer = make_trainer()
    trainer.extend(Recorder([], "a", "finalize"), name="a")
    trainer.extend(Recorder([], "b", "finalize"), name="b")
    with pytest.raises(RuntimeError, match="finalize of a") as caught:
        trainer.run()
    assert "raised in finalize of a" in caught.value.__notes__
    assert any("RuntimeError: finalize of b" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("show", [True, False])
def test_a_failing_on_error_does_not_replace_the_error(make_trainer, capsys, show):
    trainer = make_trainer()
    trainer.extend(Recorder([], "a", "on_error RuntimeError"), name="a")
    trainer.extend(Recorder([], "b", "call"), name="b")
    with pytest.raises(RuntimeError, match="call of b") as caught:
        trainer.run(show_loop_exception_msg=show)
    assert any("on_error of a raised:" in note for note in caught.value.__notes__)
    assert ("Exception in main training loop" in capsys.readouterr().err) == show


def test_ctrl_c_reaches_on_error(make_trainer):
    def interrupt(trainer):
        if trainer.updater.iteration == 2:
            raise KeyboardInterrupt

    calls = []
    trainer = make_trainer()
    trainer.extend(Recorder(calls, "a"), name="a")
    trainer.extend(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert calls == ["a.initialize", "a.call", "a.call", "a.on_error KeyboardInterrupt", "a.finalize"]


def test_the_error_is_shown_before_anything_is_finalized(make_trainer, capsys):
    shown = []
    trainer = make_trainer()
    trainer.extend(Recorder([], "a", "call"), name="a")
    trainer.updater.finalize = lambda: shown.append(capsys.readouterr().err)
    with pytest.raises(RuntimeError):
        trainer.run()
    assert "rank 0 of 1 on " in shown[0]
    assert "iteration 1, in extension a: RuntimeError: call of a" in shown[0]
    assert 'raise RuntimeError(f"{what} of {self.label}")' in shown[0]


def test_an_error_of_the_updater_is_not_blamed_on_an_extension(make_trainer, capsys):
    trainer = make_trainer()
    trainer.extend(lambda trainer: None, name="innocent")
    update = trainer.updater.update

    def fail_later():
        update()
        if trainer.updater.iteration == 2:
            raise ValueError("in the step")

    trainer.updater.update = fail_later
    with pytest.raises(ValueError, match="in the step") as caught:
        trainer.run()
    assert "iteration 2: ValueError: in the step" in capsys.readouterr().err
    assert "fail_later" in "".join(traceback.format_tb(caught.value.__traceback__))


# The output directory


def test_out_is_created(make_trainer, tmp_path):
    trainer = make_trainer(out=tmp_path / "a" / "b c")
    trainer.run()
    assert (tmp_path / "a" / "b c").is_dir()
    assert list((tmp_path / "a" / "b c").iterdir()) == []


def test_out_that_cannot_be_written_is_refused_before_training(make_trainer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    calls = []
    trainer = make_trainer(out=tmp_path / "file" / "result")
    trainer.extend(Recorder(calls, "a"), name="a")
    with pytest.raises(ArgumentError, match=r"file/result' cannot be written to: .*Nothing has been trained"):
        trainer.run()
    assert trainer.updater.iteration == 0
    assert "a.initialize" not in calls
    assert "a.finalize" in calls


# State


def test_state_goes_round_and_training_continues_bit_for_bit(make_digits_trainer, tmp_path):
    whole = make_digits_trainer((9, "iteration"), samples=250)
    whole.extend(extensions.snapshot(filename="snapshot"), trigger=lambda trainer: trainer.updater.iteration == 4)
    whole.run()
    second = make_digits_trainer((9, "iteration"), samples=250)
    serializers.load_npz(tmp_path / "result" / "snapshot", second)
    second.run()
    models = [trainer.updater.get_optimizer("main").target for trainer in (whole, second)]
    for (path, one), (_, other) in zip(*(model.namedparams() for model in models), strict=True):
        np.testing.assert_array_equal(one.array, other.array, err_msg=path)


def test_keys_in_the_file(make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.extend(extensions.LogReport())
    trainer.extend(extensions.snapshot())
    trainer.extend(extensions.dump_graph("main/loss"))
    serializers.save_npz(tmp_path / "snapshot", trainer)
    with np.load(tmp_path / "snapshot") as npz:
        keys = set(npz.files)
    assert keys >= {
        "updater/iteration", "updater/iterator:main/current_position", "updater/optimizer:main/t",
        "updater/model:main/W", "stop_trigger/previous_iteration", "stop_trigger/previous_epoch_detail",
        "extensions/LogReport/_log", "extensions/LogReport/_summary/_names",
        "extensions/LogReport/_trigger/previous_iteration", "extension_triggers/LogReport/previous_epoch_detail",
        "extension_triggers/_Snapshot/previous_iteration", "extensions/dump_graph/_flag_called",
        "_snapshot_elapsed_time",
    }  # fmt: skip


def test_an_extension_that_the_file_does_not_know_starts_afresh(make_trainer, tmp_path):
    first = make_trainer((3, "iteration"))
    first.extend(extensions.ProgressBar())
    first.run()
    serializers.save_npz(tmp_path / "snapshot", first)
    second = make_trainer((5, "iteration"))
    second.extend(extensions.LogReport(trigger=(2, "iteration")))
    with pytest.warns(UserWarning, match="missing in the file, left as it is") as caught:
        serializers.load_npz(tmp_path / "snapshot", second)
    assert len(caught) == 1
    assert "extensions/LogReport/_log" in str(caught[0].message)
    second.run()
    assert [entry["iteration"] for entry in second.get_extension("LogReport").log] == [4]


# Ranks


RANKS = """
import sys
import numpy as np
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

world = comm.world()
optimizer = optimizers.SGD().setup(L.Linear(2, 1))
updater = training.StandardUpdater(SerialIterator(np.zeros((10, 2), np.float32), 4), optimizer,
                                   loss_func=lambda x: optimizer.target(x).mean())
trainer = training.Trainer(updater, (3, "iteration"), out=sys.argv[1])
"""


@pytest.mark.mpi
def test_extensions_run_on_the_ranks_they_are_for(run_ranks, tmp_path):
    script = (
        RANKS
        + """
calls = []
trainer.extend(lambda t: calls.append("all"), name="a")
trainer.extend(lambda t: calls.append("rank0"), name="b", runs_on="rank0")
trainer.run()
assert calls == (["all", "rank0"] * 3 if world.rank == 0 else ["all"] * 3), calls
"""
    )
    run_ranks(script, 3, str(tmp_path / "out")).check()


@pytest.mark.mpi
def test_extensions_that_only_rank_0_registers_work_locally(run_ranks, tmp_path):
    script = (
        RANKS
        + """
if world.rank == 0:
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    trainer.extend(extensions.snapshot(), trigger=(3, "iteration"))
trainer.extend(lambda t: t.observation.update(rank=world.rank), name="write", priority=300)
trainer.run()
if world.rank == 0:
    assert [entry["rank"] for entry in trainer.get_extension("LogReport").log] == [0, 0, 0]
"""
    )
    run_ranks(script, 2, str(tmp_path / "out")).check()
    assert (tmp_path / "out" / "snapshot_iter_3").exists()


@pytest.mark.mpi
def test_collective_extensions_that_run_on_rank_0_alone_do_not_wait(run_ranks, tmp_path):
    script = (
        RANKS
        + """
trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
trainer.extend(extensions.LogReport(trigger=(1, "iteration"), filename=None), runs_on="rank0")
trainer.extend(extensions.PrintReport(["iteration"], extensions.LogReport(filename=None)), runs_on="rank0")
if world.rank == 0:
    trainer.extend(extensions.snapshot(), trigger=(1, "iteration"))
trainer.run()
"""
    )
    run_ranks(script, 2, str(tmp_path / "out")).check()
    assert (tmp_path / "out" / "snapshot_iter_3").exists()


@pytest.mark.mpi
def test_running_statistics_agree_in_the_end_and_in_snapshots(run_ranks, tmp_path):
    script = """
import sys
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

world = comm.world()
model = L.BatchNormalization(3)
optimizer = optimizers.SGD().setup(model)
x = np.random.RandomState(0).randn(12, 3).astype(np.float32)
updater = training.StandardUpdater(SerialIterator(x, 6), optimizer, loss_func=lambda x: F.mean(model(x) ** 2))
trainer = training.Trainer(updater, (3, "iteration"), out=sys.argv[1])
trainer.extend(extensions.snapshot(filename="snapshot"), trigger=(3, "iteration"))
trainer.run()
mine = model.avg_mean.tobytes()
assert set(world.allgather_obj(mine)) == {mine}
assert np.abs(model.avg_mean).max() > 1e-3
if world.rank == 0:
    with np.load(sys.argv[1] + "/snapshot") as npz:
        np.testing.assert_array_equal(npz["updater/model:main/avg_mean"], model.avg_mean)
"""
    run_ranks(script, 2, str(tmp_path / "out")).check()


@pytest.mark.mpi
def test_an_unwritable_out_is_an_error_on_every_rank(run_ranks, tmp_path):
    script = (
        RANKS
        + """
from distrain.errors import ArgumentError
try:
    trainer.run(show_loop_exception_msg=False)
except ArgumentError as error:
    assert "cannot be written to" in str(error)
else:
    raise AssertionError("no error")
"""
    )
    (tmp_path / "file").write_text("")
    run_ranks(script, 2, str(tmp_path / "file" / "out")).check()


@pytest.mark.mpi
@pytest.mark.parametrize(("rank", "runs_on"), [(0, "rank0"), (1, "all")])
def test_an_extension_that_fails_on_one_rank_ends_the_job(run_ranks, tmp_path, rank, runs_on):
    script = (
        RANKS
        + f"""
def fail(trainer):
    if world.rank == {rank} and trainer.updater.iteration == 2:
        raise ValueError("this rank cannot go on")

trainer.extend(fail, runs_on={runs_on!r})
trainer.run()
"""
    )
    result = run_ranks(script, 2, str(tmp_path / "out"), timeout=30)
    assert result.returncode != 0
    assert f"rank {rank} of 2 on " in result.stderr
    assert "iteration 2, in extension fail: ValueError: this rank cannot go on" in result.stderr


@pytest.mark.mpi
@pytest.mark.parametrize("waits", ["world.barrier()", "world.allreduce_obj(1)", "optimizer.update()"])
def test_an_extension_that_waits_for_the_others_in_finalize_does_not_hold_up_the_end(run_ranks, tmp_path, waits):
    script = (
        RANKS
        + f"""
class Waits(training.Extension):
    def __call__(self, trainer):
        if world.rank == 1 and trainer.updater.iteration == 2:
            raise ValueError("the cause")

    def finalize(self):
        if world.rank == 1:
            {waits}

trainer.extend(Waits(), trigger=(1, "iteration"))
trainer.run()
"""
    )
    result = run_ranks(script, 2, str(tmp_path / "out"), timeout=40)
    assert result.returncode == 1
    assert "ValueError: the cause" in result.stderr
    assert result.seconds < 20
