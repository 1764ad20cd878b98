"""Everything that needs a GPU; `make gpu-check` runs it. NumPy on the CPU is the reference throughout."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distrain
import distrain.functions as F
import distrain.links as L
from distrain import Variable, cuda, datasets, minibatch, optimizers, rng, training
from distrain.errors import DeviceError
from distrain.iterators import SerialIterator
from distrain.minibatch import Share
from distrain.optimizer_hooks import GradientClipping, WeightDecay
from distrain.serializers import load_npz
from distrain.training import extensions
from tests.functions.cases import draw
from tests.gpu.function_cases import CASES

DEVICE = 0


def why_not() -> str:
    try:
        cuda.require_cupy()
    except DeviceError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda.available, reason=why_not()),
    pytest.mark.filterwarnings("ignore:CUDA path could not be detected"),  # CuPy from wheels has its own
]


@pytest.fixture
def device() -> Any:
    found = distrain.get_device(DEVICE)
    found.use()
    return found


def close(gpu: Any, cpu: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    assert (gpu.shape, gpu.dtype) == (cpu.shape, cpu.dtype)
    np.testing.assert_allclose(cuda.to_cpu(gpu), cpu, rtol=rtol, atol=atol)


# Arrays


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.bool_])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_go_there_and_back(device: Any, shape: tuple[int, ...], dtype: Any) -> None:
    x = np.ones(shape, dtype)
    there = cuda.to_gpu(x, DEVICE)
    assert cuda.is_gpu_array(there)
    assert there.device.id == DEVICE
    assert cuda.to_gpu(there) is there
    assert cuda.get_array_module(there) is cuda.get_array_module(Variable(there)) is cuda.cupy is device.xp
    back = cuda.to_cpu(there)
    assert isinstance(back, np.ndarray)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, x)


def test_a_strided_array_arrives_whole(device: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(cuda.to_cpu(cuda.to_gpu(x.T[::2])), x.T[::2])
    np.testing.assert_array_equal(cuda.to_cpu(cuda.to_gpu(x).T[::2]), x.T[::2])


def test_devices_are_found_by_every_name(device: Any) -> None:
    there = cuda.to_gpu(np.zeros(2), DEVICE)
    for spec in (DEVICE, f"@cupy:{DEVICE}", f"cuda:{DEVICE}", cuda.get_device(there)):
        assert distrain.get_device(spec) == device
    assert distrain.backend.get_device_from_array(there) == device
    assert device.send({"a": [np.zeros(2), None]})["a"][0].device.id == DEVICE
    assert cuda.available is True
    count = cuda.cupy.cuda.runtime.getDeviceCount()
    with pytest.raises(DeviceError, match=rf"GPU {count} was asked for, but this process sees {count} "):
        cuda.get_device(count)


@pytest.mark.parametrize("shape", [(0, 3), (4, 3)])
def test_pinned_memory_is_an_ordinary_array(device: Any, shape: tuple[int, ...]) -> None:
    x = cuda.pinned_empty(shape, np.float32)
    assert (x.shape, x.dtype) == (shape, np.float32)
    x[...] = 3
    there = cuda.to_gpu(x)
    np.testing.assert_array_equal(cuda.to_cpu(there), np.full(shape, 3, np.float32))


def test_arrays_move_between_gpus(device: Any) -> None:
    if cuda.cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("this machine has one GPU only")
    other = distrain.get_device(DEVICE + 1)
    x = other.send(device.send(np.arange(3)))
    assert x.device.id == DEVICE + 1
    assert cuda.to_gpu(device.send(np.arange(3)), DEVICE + 1).device.id == DEVICE + 1
    np.testing.assert_array_equal(cuda.to_cpu(x), np.arange(3))


# Functions


def test_the_table_has_every_function() -> None:
    assert set(CASES) == set(F.__all__)


def results(function: Callable[..., Any], arrays: list[Any]) -> dict[str, Any]:
    """Outputs, gradients of the plain and of the recorded pass, and gradients of the squared gradients."""
    found: dict[str, Any] = {}
    for recorded in (False, True):
        xs = [Variable(x) if x.dtype.kind == "f" else x for x in arrays]
        leaves = [x for x in xs if isinstance(x, Variable)]
        ys = function(*xs)
        ys = ys if isinstance(ys, tuple) else (ys,)
        found |= {f"output {i}": y.array for i, y in enumerate(ys)}
        if not any(y.requires_grad for y in ys):
            break
        for y, weight in zip(ys, draw(*[y.shape for y in ys], seed=1), strict=True):
            F.sum(y * y.xp.asarray(weight.astype(y.dtype))).backward(enable_double_backprop=recorded)
        found |= {f"gradient {i}, {recorded=}": x.grad for i, x in enumerate(leaves) if x.grad is not None}
    else:
        grads = [x.grad_var for x in leaves]
        for x in leaves:
            x.cleargrad()
        for g in grads:
            if g is not None and g.creator is not None:
                F.sum(g * g).backward()
        found |= {f"second gradient {i}": x.grad for i, x in enumerate(leaves) if x.grad is not None}
    return found


@pytest.mark.parametrize(
    ("function", "arrays"),
    [case for cases in CASES.values() for case in cases],
    ids=[f"{name}-{i}" for name, cases in CASES.items() for i in range(len(cases))],
)
def test_a_function_is_the_same_on_both(device: Any, function: Callable[..., Any], arrays: list[Any]) -> None:
    expected = results(function, arrays)
    found = results(function, device.send(arrays))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert isinstance(found[name], device.xp.ndarray), name
        half = value.dtype == np.float16
        close(found[name], np.asarray(value), rtol=1e-3 if half else 1e-4)


def test_a_rank_draws_its_part_of_the_dropout_mask(device: Any) -> None:
    rng.set_seed(4)
    ones = np.ones((6, 5), np.float32)

    def mask(x: Any, share: Share) -> Any:
        minibatch.announce(share)
        return cuda.to_cpu(F.dropout(x, 0.4).array)

    whole = mask(ones, Share(2, 0, 6, 6))
    assert 0 < np.count_nonzero(whole) < whole.size
    np.testing.assert_array_equal(mask(device.send(ones), Share(2, 0, 6, 6)), whole)
    np.testing.assert_array_equal(mask(device.send(ones[:2]), Share(2, 3, 2, 6)), whole[3:5])


# Links and optimizers


class LastStep(L.Chain):
    """A recurrent link over three steps."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        with self.init_scope():
            self.inner = inner

    def forward(self, x: Any) -> Any:
        self.inner.reset_state()
        return [self.inner(x[:, i]) for i in range(3)][-1]


class Stateless(L.StatelessLSTM):
    def forward(self, x: Any) -> Any:  # type: ignore[override]
        return F.concat(super().forward(None, *super().forward(None, None, x)[1:], x))


IDS = np.array([[0, 3], [2, 2]], np.int32)
LINKS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "Linear": (lambda: L.Linear(4, 3), draw((5, 4))),
    "LinearLate": (lambda: L.Linear(None, 3), draw((5, 2, 2))),
    "Convolution2D": (lambda: L.Convolution2D(2, 3, 3, pad=1), draw((2, 2, 5, 4))),
    "BatchNormalization": (lambda: L.BatchNormalization(4), draw((5, 4))),
    "LayerNormalization": (lambda: L.LayerNormalization(4), draw((5, 4))),
    "EmbedID": (lambda: L.EmbedID(4, 3), [IDS]),
    "LSTM": (lambda: LastStep(L.LSTM(4, 3)), draw((5, 3, 4))),
    "StatelessLSTM": (lambda: Stateless(4, 3), draw((5, 4))),
    "Sequential": (lambda: L.Sequential(L.Linear(4, 3), F.relu, L.Linear(3, 2)), draw((5, 4))),
    "ChainList": (lambda: Listed(L.Linear(4, 3), L.Linear(4, 2)), draw((5, 4))),
    "Classifier": (lambda: L.Classifier(L.Linear(4, 3)), [*draw((3, 4)), np.array([0, 2, 1], np.int32)]),
}


class Listed(distrain.ChainList):
    def forward(self, x: Any) -> Any:
        return F.concat([link(x) for link in self])


def twins(make: Callable[[], Any]) -> tuple[Any, Any]:
    """Two links with the same numbers."""
    made = []
    for _ in range(2):
        rng.set_seed(7)
        made.append(make())
    return made[0], made[1]


def same_numbers(gpu: Any, cpu: Any, **tolerance: float) -> None:
    for (path, a), (other, b) in zip(gpu.namedparams(), cpu.namedparams(), strict=True):
        assert path == other
        close(a.array, b.array, **tolerance)
        if b.grad is not None:
            close(a.grad, b.grad, **tolerance)
    for (_, a), (_, b) in zip(gpu.namedpersistents(), cpu.namedpersistents(), strict=True):
        np.testing.assert_allclose(cuda.to_cpu(a), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "arrays"), LINKS.values(), ids=LINKS)
def test_a_link_is_the_same_on_both(device: Any, make: Callable[[], Any], arrays: list[Any]) -> None:
    arrays = [x.astype(np.float32) if x.dtype.kind == "f" else x for x in arrays]
    cpu, gpu = twins(make)
    assert gpu.to_device(device) is gpu
    assert gpu.xp is device.xp
    outputs = []
    for link, where in ((cpu, distrain.get_device(-1)), (gpu, device)):
        y = link(*where.send(arrays))
        F.sum(y * y).backward()
        outputs.append(y.array)
    close(outputs[1], outputs[0])
    same_numbers(gpu, cpu)
    gpu.to_cpu()
    assert all(isinstance(param.array, np.ndarray) for param in gpu.params())
    same_numbers(gpu, cpu)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: optimizers.SGD(0.1),
    "MomentumSGD": lambda: optimizers.MomentumSGD(0.1),
    "AdaGrad": lambda: optimizers.AdaGrad(0.1),
    "RMSprop": lambda: optimizers.RMSprop(0.01),
    "Adam": lambda: optimizers.Adam(0.01),
    "AMSGrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "AdamW": lambda: optimizers.AdamW(0.01),
}


@pytest.mark.parametrize("hooks", [False, True], ids=["plain", "hooks"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_an_optimizer_takes_the_same_steps(device: Any, make: Callable[[], Any], hooks: bool) -> None:
    models = twins(lambda: L.Sequential(L.Linear(4, 3), F.tanh, L.Linear(3, 2)))
    x = draw((6, 4))[0].astype(np.float32)
    for model, where in zip(models, (distrain.get_device(-1), device), strict=True):
        optimizer = make().setup(model.to_device(where))
        if hooks:
            optimizer.add_hook(WeightDecay(0.01))
            optimizer.add_hook(GradientClipping(0.5))
        for _ in range(5):
            optimizer.update(lambda model=model, where=where: F.sum(model(where.send(x)) ** 2))
        assert optimizer.t == 5
    same_numbers(models[1], models[0])


def test_huge_gradients_are_clipped_and_not_lost(device: Any) -> None:
    model = L.Linear(2, 1, nobias=True, initialW=0).to_device(device)
    optimizer = optimizers.SGD(lr=1).setup(model)
    optimizer.add_hook(GradientClipping(5))
    model.W.grad = device.send(np.array([[3e30, 4e30]], np.float32))
    with np.errstate(over="ignore"):
        optimizer.update()
    np.testing.assert_allclose(cuda.to_cpu(model.W.array), [[-3, -4]], rtol=1e-5)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_float16_trains_with_float32_masters(device: Any, make: Callable[[], Any]) -> None:
    models = twins(lambda: L.Linear(4, 2, initialW=distrain.initializers.Normal(0.5, dtype=np.float16)))
    x = draw((6, 4))[0].astype(np.float16)
    for model, where in zip(models, (distrain.get_device(-1), device), strict=True):
        optimizer = make()
        optimizer.use_fp32_update()
        optimizer.loss_scaling(scale=8.0)
        optimizer.setup(model.to_device(where))
        for _ in range(5):
            model.cleargrads()
            optimizer.update(lambda model=model, where=where: F.sum(model(where.send(x)) ** 2))
    assert models[1].W.dtype == np.float16
    close(models[1].W.array, models[0].W.array, rtol=1e-2, atol=1e-2)


# Training


class MLP(L.Chain):
    def __init__(self, units: int, out: int = 10) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(None, units)
            self.l2 = L.Linear(None, units)
            self.l3 = L.Linear(None, out)

    def forward(self, x: Any) -> Any:
        return self.l3(F.relu(self.l2(F.relu(self.l1(x)))))


def train(out: Path, steps: int, where: Any, resume: Path | None = None, parallel: bool = False) -> tuple[Any, Any]:
    """A training on digits: its trainer, and the losses of its steps."""
    rng.set_seed(11)
    model = L.Classifier(MLP(32))
    optimizer = optimizers.Adam(0.005).setup(model)
    train_set, test_set = datasets.get_digits()
    iterator = SerialIterator(train_set, 100, seed=2)
    updater: Any
    if parallel:
        model(np.zeros((1, 64), np.float32), np.zeros(1, np.int32))
        updater = training.ParallelUpdater(iterator, optimizer, devices={"main": where, "second": where})
    else:
        updater = training.StandardUpdater(iterator, optimizer, device=where)
    trainer = training.Trainer(updater, (steps, "iteration"), out=str(out))
    held_out = SerialIterator(test_set, 100, repeat=False, shuffle=False)
    trainer.extend(extensions.Evaluator(held_out, model, device=where), trigger=(25, "iteration"))
    trainer.extend(extensions.LogReport(trigger=(10, "iteration")))
    trainer.extend(extensions.snapshot(filename="state_{.updater.iteration}"), trigger=(25, "iteration"))
    losses: list[float] = []
    trainer.extend(lambda t: losses.append(float(cuda.to_cpu(as_number(t.observation["main/loss"])))), name="losses")
    if resume is not None:
        load_npz(resume, trainer)
    trainer.run()
    return trainer, losses


def as_number(value: Any) -> Any:
    return getattr(value, "array", value)


def test_a_training_on_the_gpu_follows_that_on_the_cpu(device: Any, tmp_path: Path) -> None:
    _, on_cpu = train(tmp_path / "cpu", 50, -1)
    trainer, on_gpu = train(tmp_path / "gpu", 50, DEVICE)
    model = trainer.updater.get_optimizer("main").target
    assert all(isinstance(param.array, device.xp.ndarray) for param in model.params())
    assert len(on_gpu) == 50
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3)
    assert on_gpu[-1] < on_gpu[0] / 2
    ours, theirs = (json.loads((tmp_path / name / "log").read_text())[-1] for name in ("gpu", "cpu"))
    for key in ("main/loss", "validation/main/loss"):
        assert ours[key] == pytest.approx(theirs[key], abs=1e-3)

    for where in (DEVICE, -1):  # the file continues the run, on either device
        _, rest = train(tmp_path / f"resumed{where}", 50, where, tmp_path / "gpu" / "state_25")
        assert len(rest) == 25
        np.testing.assert_allclose(rest, on_gpu[25:], atol=1e-3)


def test_two_copies_on_one_gpu_train_as_one(device: Any, tmp_path: Path) -> None:
    _, one = train(tmp_path / "one", 20, -1)
    trainer, two = train(tmp_path / "two", 20, DEVICE, parallel=True)
    assert all(isinstance(p.array, device.xp.ndarray) for p in trainer.updater.get_optimizer("main").target.params())
    np.testing.assert_allclose(two, one, atol=1e-3)


# Speed


def cnn() -> Any:
    return L.Sequential(
        L.Convolution2D(1, 32, 3, pad=1),
        F.relu,
        lambda x: F.max_pooling_2d(x, 2),
        L.Convolution2D(32, 64, 3, pad=1),
        F.relu,
        lambda x: F.max_pooling_2d(x, 2),
        L.Linear(None, 128),
        F.relu,
        L.Linear(None, 10),
    )


@pytest.mark.parametrize(
    ("name", "make", "shape"),
    [("MLP 784-1000-1000-10", lambda: MLP(1000), (784,)), ("CNN 32-64-128-10", cnn, (1, 28, 28))],
    ids=["mlp", "cnn"],
)
def test_timings(device: Any, capsys: Any, name: str, make: Callable[[], Any], shape: tuple[int, ...]) -> None:
    model = L.Classifier(make()).to_device(device)
    optimizer = optimizers.Adam().setup(model)
    for batch in (100, 1000):
        generator = np.random.default_rng(0)
        x = device.send(generator.random((batch, *shape), np.float32))
        t = device.send(generator.integers(0, 10, batch, np.int32))
        for _ in range(10):
            optimizer.update(model, x, t)
        steps, start = 0, wait(device)
        while (seconds := time.perf_counter() - start) < 1.0:
            for _ in range(10):
                optimizer.update(model, x, t)
            steps += 10
            wait(device)
        with capsys.disabled():
            print(
                f"\n{name}, Adam, batch {batch}: {1e3 * seconds / steps:.3f} ms a step, "
                f"{batch * steps / seconds:,.0f} samples/s",
                end="",
            )
        assert np.isfinite(float(cuda.to_cpu(model.loss.array)))


def wait(device: Any) -> float:
    """The time when the GPU has done all that it was told."""
    device.device.synchronize()
    return time.perf_counter()
