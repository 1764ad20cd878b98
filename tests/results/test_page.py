"""The page in a real browser; each test uses it as a reader does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from distrain.results import write_report

# How many pixels of a chart have about the colour of a run.
COLOURED = """(title, number) => {
  const canvas = page.charts.get(title).canvas;
  const wanted = getComputedStyle(document.documentElement).getPropertyValue('--c' + number).trim();
  const colour = [1, 3, 5].map((i) => parseInt(wanted.slice(i, i + 2), 16));
  const copy = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  Object.assign(copy.canvas, { width: canvas.width, height: canvas.height });
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0;
  for (let i = 0; i < data.length; i += 4) n += colour.every((c, k) => Math.abs(data[i + k] - c) < 12);
  return n;
}"""
READOUT = "title => [...page.charts.get(title).readout.rows].map(row => [...row.cells].map(c => c.textContent.trim()))"


@pytest.fixture(scope="module")
def written(trained: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "a #1 report.html"
    write_report(trained, path)
    return path


@pytest.fixture
def opened(browser: Any, written: Path) -> Any:
    browser.look(1000)
    browser.events.clear()
    browser.open(written)
    return browser


def test_curves_of_two_runs_and_a_legend_that_hides_one(opened: Any) -> None:
    assert opened.run("[...page.charts.keys()]") == ["main/loss", "main/accuracy"]
    assert opened.run("page.charts.get('main/loss').keys") == ["main/loss", "validation/main/loss"]
    counts = [opened.run(f"({COLOURED})('main/loss', {i})") for i in (0, 1)]
    assert min(counts) > 100
    opened.run("document.querySelector('#legend button').focus()")
    opened.press(" ")
    assert opened.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
    assert opened.run(f"({COLOURED})('main/loss', 0)") == 0
    assert opened.run(f"({COLOURED})('main/loss', 1)") > 100
    assert opened.problems() == []


def test_axes_smoothing_and_log_scale_change_the_picture(opened: Any) -> None:
    image = "page.charts.get('main/loss').canvas.toDataURL()"
    seen = {opened.run(image)}
    for action in (
        "document.querySelector('[name=axis][value=epoch]').click()",
        "document.querySelector('[name=axis][value=time]').click()",
        "document.getElementById('log').click()",
        "{ const s = document.getElementById('smoothing'); s.value = 0.9; s.dispatchEvent(new Event('input')); }",
    ):
        opened.run(action)
        opened.frame()
        seen.add(opened.run(image))
    assert len(seen) == 5
    assert opened.run("document.getElementById('smoothing-value').textContent") == "0.9"
    assert opened.problems() == []


def test_values_by_pointer_and_by_keys(opened: Any, trained: list[Path]) -> None:
    log = [json.loads(line) for line in (trained[0] / "log.jsonl").read_text().splitlines()]
    rows = opened.run(f"({READOUT})('main/loss')")
    assert rows[0][0] == "units 8: main/loss"
    assert float(rows[0][1]) == pytest.approx(log[-1]["main/loss"], rel=1e-4)
    box = opened.run("(r => [r.left, r.top, r.height])(page.charts.get('main/loss').canvas.getBoundingClientRect())")
    opened.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 60, y=box[1] + box[2] / 2)
    opened.frame()
    rows = opened.run(f"({READOUT})('main/loss')")
    assert rows[0][2] == "iteration 3"
    assert float(rows[0][1]) == pytest.approx(log[0]["main/loss"], rel=1e-4)
    opened.run("page.charts.get('main/loss').canvas.focus()")
    for key, iteration in (("End", 15), ("ArrowLeft", 12), ("Home", 3), ("ArrowRight", 6)):
        opened.press(key)
        assert opened.run(f"({READOUT})('main/loss')")[0][2] == f"iteration {iteration}"
    said = opened.run("document.activeElement.getAttribute('aria-valuetext')")
    assert said.startswith("iteration 6: units 8: main/loss ")


def test_starts_are_counted_by_what_they_came_after(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"loss": 1, "iteration": 1}\n')
    afters = [None, "time limit", "failure", "time limit", {"odd": 1}]
    starts = [{"time": f"2026-01-0{n}", "iteration": n, "after": after} for n, after in enumerate(afters, 1)]
    (tmp_path / "run" / "run.json").write_text(json.dumps({"starts": starts}))
    write_report([tmp_path / "run"], tmp_path / "r.html")
    browser.look(1000)
    browser.open(tmp_path / "r.html")
    settings = browser.run("document.getElementById('settings').innerText")
    assert "5, 2 after a time limit, 1 after a failure, " in settings
    events = browser.run("document.getElementById('events').innerText")
    assert events.count("resumed after a time limit") == 2
    assert events.count("resumed after a failure") == 1


def test_settings_events_and_graph(opened: Any) -> None:
    assert (
        opened.run("document.querySelector('#settings thead').innerText").split() == "setting units 8 units 4".split()
    )
    events = opened.run("document.getElementById('events').innerText")
    for word in ("started on 1 rank", "resumed on 1 rank", "snapshot_iter_12", "kB"):
        assert word in events
    rows = "document.querySelectorAll('#settings tbody tr').length"
    before = opened.run(rows)
    opened.run("document.getElementById('only-different').click()")
    assert 0 < opened.run(rows) < before
    assert "digraph" in opened.run("document.querySelector('#graphs pre').textContent")
    opened.run("document.querySelectorAll('details').forEach((one) => one.setAttribute('open', ''))")
    opened.wait("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert opened.problems() == []


def test_downloads(opened: Any, tmp_path: Path, trained: list[Path]) -> None:
    opened.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
    names = ("main_loss.csv", "main_loss.png", "report.csv")
    for selector in ("[aria-label='main/loss as CSV']", "[aria-label='main/loss as PNG']", "#csv"):
        opened.run(f'document.querySelector("{selector}").click()')
    paths = [tmp_path / "down" / name for name in names]
    while not all(path.exists() for path in paths):
        opened.frame()  # pytest's own limit ends this
    lines = paths[0].read_text().splitlines()
    assert lines[0] == "run,iteration,epoch,elapsed_time,main/loss,validation/main/loss"
    assert len(lines) == 1 + 5 + 4
    first = json.loads((trained[0] / "log.jsonl").read_text().splitlines()[0])
    assert lines[1].startswith("units 8,3,1,")
    assert float(lines[1].split(",")[4]) == pytest.approx(first["main/loss"], rel=1e-8)
    assert "main/accuracy" in paths[2].read_text().splitlines()[0]
    assert paths[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_and_is_readable(opened: Any, width: int, dark: bool) -> None:
    opened.look(width, dark)
    assert opened.run("document.documentElement.scrollWidth <= innerWidth")
    ratio, where = opened.contrast()
    assert ratio >= 4.5, where
    assert opened.run(f"({COLOURED})('main/loss', 0)") > 100
    unnamed = (
        "[...document.querySelectorAll('input,button')].filter(e => !(e.labels?.length || e.innerText.trim())).length"
    )
    assert opened.run(unnamed) == 0


def test_new_data_leaves_the_readers_choices(opened: Any) -> None:
    opened.run("document.querySelector('[name=axis][value=time]').click()")
    opened.run("document.querySelectorAll('#legend button')[1].click()")
    opened.run(
        "{ const data = JSON.parse(document.getElementById('data').textContent);"
        "for (const column of Object.values(data.runs[0].columns)) column.push(column[0]);"
        "data.runs[0].columns.iteration[5] = 99; data.runs[0].columns.elapsed_time[5] = 7000;"
        "data.runs[0].columns['new'] = [1, 2, 3, 4, 5, 6]; show(data); }"
    )
    opened.frame()
    assert opened.run("[...page.charts.keys()]") == ["main/loss", "main/accuracy", "new"]
    assert opened.run(f"({READOUT})('new')") == [["units 8", "6", "time 116.67 min"]]
    assert opened.run("document.querySelectorAll('#legend button')[1].getAttribute('aria-pressed')") == "false"
    assert opened.problems() == []


def test_odd_logs_are_shown(browser: Any, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>\u2028"
    entries = [{hostile: 0.5**i, "epoch": i // 4, "iteration": 10 * (i + 1), "__proto__": i} for i in range(12)]
    entries[5][hostile] = math.nan
    for name, text in (
        ("odd", "".join(json.dumps(one) + "\n" for one in entries) + '{"cut'),
        ("empty", ""),
        ("bare", '{"loss": 1}\n{"loss": 0}\n{"loss": -1e300}\n'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text(text)
    (tmp_path / "bare" / "run.json").write_text(
        '{"starts": [{"world": 3, "git": 1, "command": "x"}, {"iteration": "a"}]}'
    )
    write_report([tmp_path / name for name in ("odd", "empty", "bare")], tmp_path / "r.html")
    browser.events.clear()
    browser.look(1000)
    browser.open(tmp_path / "r.html")
    for axis in ("epoch", "time", "iteration"):
        browser.run(f"document.querySelector('[name=axis][value={axis}]').click()")
        browser.run("document.getElementById('log').click()")
        browser.frame()
    titles = browser.run("[...document.querySelectorAll('h3')].map((one) => one.textContent)")
    assert titles == [hostile, "__proto__", "loss"]
    problems = browser.run("document.getElementById('problems').innerText")
    assert "odd: log.jsonl ends within an entry, in line 13" in problems
    assert "empty: log.jsonl has no entry yet" in problems
    epochs = browser.run("positions(page.runs[0], 'epoch')")
    assert epochs == sorted(set(epochs))  # entries of one epoch do not stand above each other
    counted = "positions({ columns: { a: [1, 2, 3] }, stride: 4, total: 6 }, 'iteration')"
    assert browser.run(counted) == [1, 5, 6]  # a thinned log that has no iterations
    assert browser.run("document.images.length") == 0
    assert browser.problems() == []
