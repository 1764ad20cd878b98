"""The page of the monitor in a real browser, while trainings go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

LAST = "page.charts.get('main/loss').series[0].xs.at(-1)"
TEXT = "(id => document.getElementById(id).innerText)"


@pytest.fixture
def opened(browser: Any, monitor: Any) -> Any:
    """`opened(folder, …) -> (browser, server)`."""

    def open_them(*folders: Path) -> Any:
        browser.leave()  # the page of an earlier test may still ask its server
        server = monitor(*folders)
        browser.look(1000)
        browser.events.clear()
        browser.open(server.url)
        browser.wait(f"{TEXT}('live').startsWith('Live')")
        return browser, server

    return open_them


def test_curves_move_and_the_readers_choices_stay(opened: Any, growing: Any) -> None:
    one, other = growing("one"), growing("other")
    page, server = opened(one.log(3), other.log(2))
    assert page.run("page.charts.get('main/loss').series.map(one => one.name)") == ["one", "other"]
    before = page.run("page.charts.get('main/loss').canvas.toDataURL()")
    page.run("document.querySelectorAll('#legend button')[1].click()")
    page.run("document.getElementById('log').click()")
    page.run("getSelection().selectAllChildren(document.querySelector('#settings th[scope=row]'))")
    one.log(9, start=3)
    page.wait(f"{LAST} === 9")
    page.frame()
    assert page.run("page.charts.get('main/loss').canvas.toDataURL()") != before
    assert page.run("page.charts.get('main/loss').series.map(one => one.name)") == ["one"]
    assert page.run("document.getElementById('log').checked")
    assert page.run("getSelection().toString()").strip() == "folder of results ≠"  # what stays is not replaced
    assert page.problems(server.url) == []


REAL = """
import sys, time
import distrain.links as L
from distrain import datasets, optimizers, training
from distrain.iterators import SerialIterator
from distrain.training import extensions

iterator = SerialIterator(datasets.get_digits()[0], 50)
updater = training.StandardUpdater(iterator, optimizers.Adam().setup(L.Classifier(L.Linear(None, 10))))
trainer = training.Trainer(updater, None, out=sys.argv[1])
trainer.extend(extensions.LogReport(trigger=(5, "iteration")))
trainer.extend(extensions.RunRecord())
trainer.extend(extensions.snapshot(), trigger=(100, "iteration"))
trainer.extend(lambda trainer: time.sleep(0.01), name="slowly")
trainer.run()
"""


def test_a_training_that_runs(opened: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    process = subprocess.Popen([sys.executable, "-c", REAL, str(tmp_path / "real")], env=dict(os.environ))
    try:
        page, server = opened(tmp_path / "real")
        page.wait("page.charts.has('main/loss')")
        reached = page.run(LAST)
        page.wait(f"{LAST} > {reached} + 50")
        page.wait(f"{TEXT}('events').includes('snapshot_iter_')")
        assert "started on 1 rank" in page.run(f"{TEXT}('events')")
        assert page.problems(server.url) == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10.0)


def test_ranks_that_wait_lag_and_die(opened: Any, growing: Any) -> None:
    run = growing("run")
    run.ranks(*(run.rank(i) for i in range(4)))
    page, server = opened(run.log(3))
    assert "4 ranks: 4 running" in page.run(f"{TEXT}('ranks')")
    row = "(i => [...document.querySelectorAll('#ranks tbody tr')[i].cells].map(one => one.innerText))"
    assert page.run(f"{row}(2)")[:7] == ["2", "running", os.uname().nodename, "7", "forward", "80 ms", "13 %"]
    slow = {"data": 0.2, "forward": 0.02, "backward": 0.03, "exchange": 0.0, "update": 0.01}
    dead = run.rank(3, "failed", failure="MemoryError: <b>no</b> memory")
    run.ranks(run.rank(0), run.rank(1), run.rank(2, time=slow), dead)
    page.wait(f"{TEXT}('ranks').includes('4 ranks: 1 failed, 3 running')")
    assert page.run(f"{row}(2)")[1] == "straggler"
    assert page.run(f"{row}(2)")[6] == "77 %"
    assert page.run(f"{row}(3)")[1] == "failed"
    assert page.run(f"{row}(3)")[-1] == "MemoryError: <b>no</b> memory"
    assert f"rank 3 on {os.uname().nodename} has failed: MemoryError" in page.run(f"{TEXT}('events')")
    assert page.run("document.title") == "(1 of the ranks!) Training monitor: run"
    run.ranks(*(run.rank(i, "silent") for i in range(300)))
    page.wait(f"{TEXT}('problems').includes('run: … and 295 more ranks')")
    assert page.run("document.querySelectorAll('#ranks tbody tr').length") == 200
    run.ranks(run.rank(0), run.rank(1, "silent"), run.rank(2), dead)
    page.wait(f"{row}(1)[1] === 'silent'")
    assert "cores" in page.run(f"{TEXT}('machine')")
    assert page.problems(server.url) == []


def test_processes_that_cannot_tell_themselves(opened: Any, growing: Any) -> None:
    run = growing("run")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        page, _ = opened(run.log(3))
        run.ranks(run.rank(0), run.rank(1, pid=process.pid), run.rank(2, "done", pid=2**30))
        page.wait(f"{TEXT}('ranks').includes('3 ranks: 2 running, 1 done')")
        process.send_signal(signal.SIGSTOP)
        page.wait(f"{TEXT}('ranks').includes('3 ranks: 1 stopped, 1 running, 1 done')")
        assert f"Its process {process.pid} is stopped." in page.run(f"{TEXT}('problems')")
        process.kill()
        page.wait(f"{TEXT}('ranks').includes('3 ranks: 1 gone, 1 running, 1 done')")
        assert f"rank 1 on {os.uname().nodename} is gone: Its process" in page.run(f"{TEXT}('events')")


def test_downloads(opened: Any, growing: Any, tmp_path: Path) -> None:
    page, server = opened(growing("run").log(3))
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
    for selector in ("[aria-label='main/loss as CSV']", "[aria-label='main/loss as PNG']"):
        page.run(f'document.querySelector("{selector}").click()')
    paths = [tmp_path / "down" / name for name in ("main_loss.csv", "main_loss.png")]
    while not all(path.exists() for path in paths):
        page.frame()  # pytest's own limit ends this
    assert paths[0].read_text().splitlines()[-1] == "run,3,0,2,0.333333333"
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert page.problems(server.url) == []


def test_a_monitor_that_ends_is_noticed(opened: Any, growing: Any) -> None:
    page, server = opened(growing("run").log(3))
    server.end()
    page.wait(f"{TEXT}('live').includes('the monitor does not answer')")
    assert page.run(LAST) == 3


def test_with_a_token(browser: Any, monitor: Any, growing: Any) -> None:
    server = monitor("--token", growing("run").log(3))
    browser.open(server.url)
    browser.wait(f"{TEXT}('live').startsWith('Live')")
    assert browser.run("location.search") == ""
    assert browser.run("document.cookie") == ""  # no script sees it


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_and_can_be_read(opened: Any, growing: Any, dark: bool, width: int, tmp_path: Path) -> None:
    run = growing("run")
    slow = {"data": 0.2, "forward": 0.02, "backward": 0.03, "exchange": 0.0, "update": 0.01}
    run.ranks(run.rank(0), run.rank(1, time=slow), run.rank(2, "silent"), run.rank(3, "failed", failure="x" * 200))
    page, _ = opened(run.log(30))
    page.look(width, dark)
    page.wait("document.querySelectorAll('#ranks tbody tr').length === 4")
    assert page.run("document.documentElement.scrollWidth") <= width
    worst, where = page.contrast()
    assert worst >= 4.5, where
    unnamed = """[...document.querySelectorAll('button, input, canvas, [role=region], [role=img]')].filter((one) =>
      !(one.innerText || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.labels?.length)
    ).length"""
    assert page.run(unnamed) == 0
