from __future__ import annotations

from distrain.training import extensions


def test_observe_value(make_trainer):
    trainer = make_trainer((4, "iteration"), samples=2)
    seen = []
    trainer.extend(extensions.observe_value("twice", lambda trainer: 2 * trainer.updater.iteration))
    trainer.extend(lambda trainer: seen.append(trainer.observation.get("twice")), name="look")
    trainer.run()
    assert seen == [None, 4, None, 8]


def test_observe_lr_is_of_the_same_iteration_and_in_the_log(make_trainer):
    trainer = make_trainer((2, "iteration"))
    trainer.extend(extensions.observe_lr(), trigger=(1, "iteration"))
    trainer.extend(extensions.observe_lr("main", "again"), trigger=(1, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(1, "iteration")))
    optimizer = trainer.updater.get_optimizer("main")
    optimizer.lr = 0.5
    trainer.extend(lambda trainer: setattr(optimizer, "lr", optimizer.lr / 2), name="halve")
    trainer.run()
    log = trainer.get_extension("LogReport").log
    assert [(entry["lr"], entry["again"]) for entry in log] == [(0.5, 0.5), (0.25, 0.25)]
