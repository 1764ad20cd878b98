from __future__ import annotations

import distrain
from distrain import config, using_config
from distrain.training import extensions


def kept_graphs(trainer, values):
    """Collects what a training reports, and tells for each whether its graph is still there."""
    trainer.extend(lambda trainer: values.append(trainer.observation["main/loss"]), name="keep", priority=50)
    trainer.run()
    return [isinstance(value, distrain.Variable) and value.creator is not None for value in values]


def test_graphs_do_not_stay(make_digits_trainer):
    with using_config("keep_graph_on_report", True):
        assert kept_graphs(make_digits_trainer((3, "iteration")), []) == [True, True, True]
        trainer = make_digits_trainer((3, "iteration"))
        trainer.extend(extensions.unchain_variables())
        assert kept_graphs(trainer, []) == [False, False, False]


def test_works_beside_an_extension_that_looks_at_the_graph(make_digits_trainer, tmp_path):
    trainer = make_digits_trainer((3, "iteration"))
    trainer.extend(extensions.dump_graph("main/loss"))
    trainer.extend(extensions.unchain_variables())
    assert kept_graphs(trainer, []) == [False, False, False]
    assert (tmp_path / "result" / "cg.dot").read_text().startswith("digraph")
    assert not config.keep_graph_on_report
