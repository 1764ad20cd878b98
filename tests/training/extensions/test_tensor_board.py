from __future__ import annotations

import struct

import pytest

from distrain import serializers
from distrain.errors import ArgumentError
from distrain.training import extensions
from distrain.training.extensions import tensor_board


def events(folder) -> list:
    """What TensorBoard would read, oldest file first."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + length]))
            at += 12 + length + 4
    return found


def scalars(folder, tag) -> list:
    return [
        (event.step, value.simple_value)
        for event in events(folder)
        for value in event.summary.value
        if value.tag == tag
    ]  # fmt: skip


def make(make_digits_trainer, last):
    trainer = make_digits_trainer((last, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(2, "iteration")))
    trainer.extend(extensions.TensorBoard())
    trainer.extend(extensions.snapshot(), trigger=(4, "iteration"))
    return trainer


def test_writes_the_log_and_goes_on_after_a_resume(make_digits_trainer, tmp_path):
    folder = tmp_path / "result" / "tensorboard"
    trainer = make(make_digits_trainer, 6)
    trainer.run()
    log = trainer.get_extension("LogReport").log
    assert scalars(folder, "main/loss") == [(e["iteration"], pytest.approx(e["main/loss"])) for e in log]
    assert scalars(folder, "epoch") == [(2, 0), (4, 1), (6, 2)]

    resumed = make(make_digits_trainer, 8)
    serializers.load_npz(tmp_path / "result" / "snapshot_iter_4", resumed)
    resumed.run()
    assert [step for step, _ in scalars(folder, "epoch")] == [2, 4, 6, 6, 8]
    starts = [event.step for event in events(folder) if event.session_log.status == 1]
    assert starts == [5]  # TensorBoard forgets what has this step or a later one


def test_says_how_to_get_the_package(monkeypatch):
    monkeypatch.setattr(tensor_board.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ArgumentError, match=r"TensorBoard needs tensorboardX: pip install 'distrain\[tensorboard\]'"):
        extensions.TensorBoard()
