import os
import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import distrain.functions as F
from distrain.autograd import Variable
from distrain.functions import parallel

MUCH = 2**30


def blas_threads():
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.parametrize(("threads", "total", "count"), [(1, 10, 1), (2, 10, 2), (3, 10, 3), (3, 2, 2), (2, 1, 1)])
def test_parts_cover_everything_in_order(threads, total, count):
    with threadpool_limits(threads, user_api="blas"):
        parts = parallel.each(lambda part: part, total, MUCH)
    assert len(parts) == count
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(total))


def test_no_samples():
    with threadpool_limits(2, user_api="blas"):
        assert parallel.each(lambda part: part, 0, MUCH) == [slice(0, 0)]


def test_parts_run_at_the_same_time_with_blas_of_one_thread():
    meeting = threading.Barrier(2, timeout=20)

    def run(part):
        meeting.wait()  # breaks if the other part does not run meanwhile
        return blas_threads()

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        seen = parallel.each(run, 2, MUCH)
        assert seen == [[1] * len(before)] * 2
        assert blas_threads() == before


def test_a_small_task_stays_in_its_thread():
    with threadpool_limits(2, user_api="blas"):
        assert parallel.each(lambda part: threading.current_thread(), 8, 100) == [threading.current_thread()]


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_comes_through_after_all_parts_ended(bad):
    ended = []

    def run(part):
        if part.start // 4 == bad:
            raise KeyError(part.start)
        time.sleep(0.05)
        ended.append(part.start)

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(KeyError):
            parallel.each(run, 8, MUCH)
        assert ended == [4 - 4 * bad]
        assert blas_threads() == before


def test_threads_do_not_change_a_convolution():
    generator = np.random.default_rng(0)
    x, W, b = [generator.normal(size=s).astype(np.float32) for s in ((33, 8, 16, 16), (16, 8, 3, 3), (16,))]

    def run(threads):
        variables = [Variable(v) for v in (x, W, b)]
        with threadpool_limits(threads, user_api="blas"):
            y = F.convolution_2d(*variables, pad=1)
            y.grad = np.sin(y.array)
            y.backward()
        return [y.array, *[v.grad for v in variables]]

    one, two, again = run(1), run(2), run(2)
    for a, b, c in zip(one, two, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(b, c)  # the same bits each time


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_works_in_a_forked_child():
    with threadpool_limits(2, user_api="blas"):
        parallel.each(lambda part: part, 2, MUCH)
        child = os.fork()
        if child == 0:
            os._exit(0 if len(parallel.each(lambda part: part, 2, MUCH)) == 2 else 1)
        end = time.monotonic() + 20
        while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.01)
        if done == (0, 0):
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert done == (child, 0)
