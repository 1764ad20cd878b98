from __future__ import annotations

import pytest

from distrain import config, serializers
from distrain.errors import ArgumentError
from distrain.training import extensions


def test_writes_the_graph_of_the_first_iteration(make_digits_trainer, tmp_path):
    flags = []
    trainer = make_digits_trainer((3, "iteration"))
    trainer.extend(extensions.dump_graph("main/loss", function_style={"shape": "octagon"}))
    trainer.extend(lambda trainer: flags.append(config.keep_graph_on_report), name="flag", priority=-1)
    trainer.run()
    text = (tmp_path / "result" / "cg.dot").read_text()
    assert text.startswith("digraph")
    assert text.count('label="Linear", shape="octagon"') == 2
    assert text.count("SoftmaxCrossEntropy") == 1
    assert flags == [False] * 3  # given back within the first iteration


def test_file_name_and_one_graph_a_training(make_digits_trainer, tmp_path):
    trainer = make_digits_trainer((1, "iteration"))
    trainer.extend(extensions.dump_graph("main/loss", "graph"))
    trainer.run()
    (tmp_path / "result" / "graph").unlink()
    serializers.save_npz(tmp_path / "snapshot", trainer)
    resumed = make_digits_trainer((2, "iteration"))
    resumed.extend(extensions.dump_graph("main/loss", "graph"))
    serializers.load_npz(tmp_path / "snapshot", resumed)
    resumed.run()
    assert not (tmp_path / "result" / "graph").exists()


def test_a_name_that_nobody_reports(make_digits_trainer):
    trainer = make_digits_trainer()
    trainer.extend(extensions.dump_graph("main/los"))
    expected = r"dump_graph\('main/los'\): nothing of that name was reported; reported Variables are 'main/loss'"
    with pytest.raises(ArgumentError, match=expected):
        trainer.run()
    assert not config.keep_graph_on_report


def test_a_value_that_is_no_variable(make_digits_trainer):
    trainer = make_digits_trainer()
    trainer.extend(lambda trainer: trainer.observation.update(x=1.0), name="x", priority=300)
    trainer.extend(extensions.dump_graph("x"))
    with pytest.raises(ArgumentError, match="that is a float"):
        trainer.run()


def test_the_switch_is_given_back_when_the_first_iteration_fails(make_digits_trainer):
    trainer = make_digits_trainer()

    def fail():
        raise ValueError("at once")

    trainer.updater.update = fail
    trainer.extend(extensions.dump_graph("main/loss"))
    with pytest.raises(ValueError, match="at once"):
        trainer.run()
    assert not config.keep_graph_on_report
