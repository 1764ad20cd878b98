from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
import distrain.links as L
from distrain import datasets, optimizers, serializers, training
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator


def data(samples: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((samples, 3)).astype(np.float32), rng.standard_normal((samples, 1)).astype(np.float32)


class Regression(L.Chain):
    def __init__(self) -> None:
        super().__init__(linear=L.Linear(3, 1))

    def forward(self, x, t):
        return F.mean_squared_error(self.linear(x), t)


def make(dataset, batch_size: int = 4, **kwargs):
    model = Regression()
    model.linear.W.array[...] = [[1, 2, 3]]
    optimizer = optimizers.SGD(0.1).setup(model)
    iterator = SerialIterator(dataset, batch_size, shuffle=False)
    return training.StandardUpdater(iterator, optimizer, **kwargs)


def test_one_step_is_gradient_descent():
    x, t = data(4)
    updater = make(datasets.TupleDataset(x, t))
    W = updater.get_optimizer("main").target.linear.W
    before = W.array.copy()
    updater.update()
    gradient = 2 * ((x @ before.T) - t).T @ x / 4
    np.testing.assert_allclose(W.array, before - 0.1 * gradient, rtol=1e-5)
    assert updater.iteration == 1


def test_examples_that_are_dicts_become_keywords():
    x, t = data(4)
    by_name = make(datasets.DictDataset(t=t, x=x))
    by_place = make(datasets.TupleDataset(x, t))
    by_name.update()
    by_place.update()
    np.testing.assert_array_equal(*(u.get_optimizer("main").target.linear.W.array for u in (by_name, by_place)))


def test_loss_func_and_examples_of_one_array():
    x, _ = data(4)
    shapes = []
    updater = make(x)
    model = updater.get_optimizer("main").target

    def loss(batch):
        shapes.append(batch.shape)
        return F.sum(model.linear(batch))

    updater.loss_func = loss
    before = model.linear.W.array.copy()
    updater.update()
    np.testing.assert_allclose(model.linear.W.array, before - 0.1 * x.sum(0, keepdims=True), rtol=1e-5)
    assert shapes == [(4, 3)]


def test_converter_gets_the_device_as_it_was_given():
    x, t = data(4)
    devices = []

    def converter(batch, device):
        devices.append(device)
        return training.updaters.standard.concat_examples(batch, device)

    make(datasets.TupleDataset(x, t), converter=converter, device=-1).update()
    make(datasets.TupleDataset(x, t), converter=converter).update()
    make(datasets.TupleDataset(x, t), converter=converter, device="cpu:1", input_device=-1).update()
    assert devices == [-1, None, -1]


def test_device_moves_the_model():
    x, t = data(4)
    updater = make(datasets.TupleDataset(x, t), device="cpu:1")
    assert updater.get_optimizer("main").target.device.name == "cpu:1"


def test_epochs():
    x, t = data(6)
    updater = make(datasets.TupleDataset(x, t))
    seen = []
    for _ in range(3):
        updater.update()
        seen.append((updater.epoch, updater.epoch_detail, updater.previous_epoch_detail, updater.is_new_epoch))
    assert seen == [(0, 4 / 6, 0.0, False), (1, 1 + 2 / 6, 4 / 6, True), (2, 2.0, 1 + 2 / 6, True)]
    assert updater.get_optimizer("main").epoch == 2


def test_auto_new_epoch_can_be_left_to_the_user():
    x, t = data(4)
    updater = make(datasets.TupleDataset(x, t), auto_new_epoch=False)
    updater.update()
    assert updater.is_new_epoch
    assert updater.get_optimizer("main").epoch == 0


def test_loss_scale_changes_nothing_in_float32():
    x, t = data(4)
    plain, scaled = make(datasets.TupleDataset(x, t)), make(datasets.TupleDataset(x, t), loss_scale=128.0)
    plain.update()
    scaled.update()
    np.testing.assert_allclose(*(u.get_optimizer("main").target.linear.W.array for u in (plain, scaled)), rtol=1e-6)


class TwoPlayers(training.StandardUpdater):
    """Two models that learn from two iterators, as adversarial trainings do."""

    def update_core(self) -> None:
        for name, iterator in (("main", "main"), ("other", "second")):
            optimizer = self.get_optimizer(name)
            optimizer.update(optimizer.target, *self.converter(self.get_iterator(iterator).next(), self.device))


def two_players() -> TwoPlayers:
    x, t = data(8)
    dataset = datasets.TupleDataset(x, t)
    return TwoPlayers(
        {"main": SerialIterator(dataset, 4, seed=1), "second": SerialIterator(dataset, 3, seed=2)},
        {"main": optimizers.SGD().setup(Regression()), "other": optimizers.Adam().setup(Regression())},
    )


def test_several_iterators_and_optimizers_and_their_state(tmp_path):
    updater = two_players()
    for _ in range(3):
        updater.update()
    serializers.save_npz(tmp_path / "updater", updater)
    with np.load(tmp_path / "updater") as npz:
        assert {key.split("/")[0] for key in npz.files} == {
            "iterator:main", "iterator:second", "optimizer:main", "optimizer:other", "model:main", "model:other",
            "iteration",
        }  # fmt: skip
    loaded = two_players()
    serializers.load_npz(tmp_path / "updater", loaded)
    assert loaded.iteration == 3
    updater.update()
    loaded.update()
    for name in ("main", "other"):
        np.testing.assert_array_equal(*(u.get_optimizer(name).target.linear.W.array for u in (updater, loaded)))
    assert set(updater.get_all_optimizers()) == {"main", "other"}


def test_models_report_under_the_names_of_their_optimizers(tmp_path):
    class Reporting(Regression):
        def forward(self, x, t):
            loss = super().forward(x, t)
            training_report({"loss": loss}, self)
            return loss

    from distrain.reporting import report as training_report

    updater = two_players()
    for optimizer in updater.get_all_optimizers().values():
        optimizer.setup(Reporting())
    trainer = training.Trainer(updater, (1, "iteration"), out=tmp_path)
    trainer.run()
    assert set(trainer.observation) == {"main/loss", "other/loss"}


def test_iterators_are_finalized():
    calls = []
    x, t = data(4)
    updater = make(datasets.TupleDataset(x, t))
    updater.get_iterator("main").finalize = lambda: calls.append("iterator")
    updater.finalize()
    assert calls == ["iterator"]


def test_main_is_required():
    x, t = data(4)
    iterator = SerialIterator(datasets.TupleDataset(x, t), 4)
    optimizer = optimizers.SGD().setup(Regression())
    with pytest.raises(ArgumentError, match="one iterator must be called 'main'; the names are 'a'"):
        training.StandardUpdater({"a": iterator}, optimizer)
    with pytest.raises(ArgumentError, match="one optimizer must be called 'main'"):
        training.StandardUpdater(iterator, {"gen": optimizer})


def test_an_optimizer_without_a_model_is_refused():
    x, t = data(4)
    with pytest.raises(ArgumentError, match=r"'main' has no model; call optimizer.setup\(model\) first"):
        training.StandardUpdater(SerialIterator(datasets.TupleDataset(x, t), 4), optimizers.SGD())


def test_an_iterator_that_ends_is_an_error_that_says_so():
    x, t = data(4)
    optimizer = optimizers.SGD().setup(Regression())
    iterator = SerialIterator(datasets.TupleDataset(x, t), 2, repeat=False)
    updater = training.StandardUpdater(iterator, optimizer)
    updater.update()
    updater.update()
    with pytest.raises(ArgumentError, match="no more minibatches after iteration 2, .* repeat=True"):
        updater.update()
    assert updater.iteration == 2
