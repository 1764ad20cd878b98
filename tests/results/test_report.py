from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from distrain.errors import ArgumentError
from distrain.results import as_page, read_run, write_report
from distrain.results.__main__ import main
from distrain.results.report import embedded

HOSTILE = "a</script><script>alert(1)</script>\u2028\u2029 \"'<!--<b>&amp;{{script}}"


class Page(HTMLParser):
    """Tags, and the contents of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.tags[-1][0] if self.tags else ""
        if tag in self.texts and data.strip():
            self.texts[tag].append(data)

    @property
    def data(self) -> Any:
        return json.loads(self.texts["script"][0])


def write_log(folder: Path, *entries: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(one) + "\n" for one in entries))
    return folder


def test_all_that_is_on_disk_is_in_the_page(trained: list[Path], tmp_path: Path) -> None:
    runs = write_report(trained, tmp_path / "r.html")
    data = Page(tmp_path / "r.html").data
    assert [run["name"] for run in data["runs"]] == [run.name for run in runs] == ["units 8", "units 4"]
    for run, path in zip(data["runs"], trained, strict=True):
        log = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
        for key in log[0]:
            assert run["columns"][key] == pytest.approx([entry[key] for entry in log], rel=1e-8)
        assert run["starts"] == json.loads((path / "run.json").read_text())["starts"]
        assert run["graph"] == (path / "cg.dot").read_text()
        assert len(run["snapshots"]) == run["total"]


def test_numbers_that_json_does_not_have(tmp_path: Path) -> None:
    entries = [{"loss": value} for value in (math.nan, math.inf, -math.inf, 1 / 3, 10**15)]
    write_report([write_log(tmp_path / "run", *entries, {})], tmp_path / "r.html")
    (run,) = Page(tmp_path / "r.html").data["runs"]
    assert run["columns"]["loss"] == ["NaN", "Infinity", "-Infinity", 0.333333333, 10**15, None]


def test_nothing_in_a_result_becomes_markup(tmp_path: Path) -> None:
    folder = write_log(tmp_path / "run", {HOSTILE: 1.0})
    start = {HOSTILE: HOSTILE, "seed": math.nan, "command": [HOSTILE]}
    (folder / "run.json").write_text(json.dumps({"starts": [start]}))
    (folder / "cg.dot").write_text(HOSTILE)
    (folder / f"snapshot{HOSTILE.replace('/', '')}").write_bytes(b"")
    (tmp_path / "r.html").write_bytes(as_page([read_run(folder, HOSTILE + "</title>")]))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    page = Page(tmp_path / "r.html")
    assert sum(tag == "script" for tag, _ in page.tags) == text.count("</script>") == 2
    assert not {"b", "img", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert page.texts["script"][0].isascii()
    (run,) = page.data["runs"]
    assert list(run["columns"]) == [HOSTILE]
    assert run["starts"] == [{**start, "seed": "NaN"}]
    assert run["graph"] == HOSTILE
    assert not set(embedded(HOSTILE)) & set("<>&\u2028\u2029")
    assert "".join(page.texts["title"]) == f"Training report: {HOSTILE}</title>"


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"run \xff")
    write_log(Path(os.fsdecode(folder)), {"loss": 1.0})
    write_report([os.fsdecode(folder)], tmp_path / "r.html")
    assert Page(tmp_path / "r.html").data["runs"][0]["name"] == "run \udcff"


def test_the_policy_allows_these_scripts_and_nothing_else(trained: list[Path], tmp_path: Path) -> None:
    write_report(trained, tmp_path / "r.html")
    page = Page(tmp_path / "r.html")
    (policy,) = [one["content"] for tag, one in page.tags if tag == "meta" and "http-equiv" in one]
    assert policy is not None
    digests = [
        "'sha256-" + base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() + "'"
        for one in (page.texts["script"][1], page.texts["style"][0])
    ]
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src {digests[0]}",
        f"style-src {digests[1]}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert not re.search(r"https?://", (tmp_path / "r.html").read_text().replace("http-equiv", ""))
    assert not any(name == "style" or name.startswith("on") for _, one in page.tags for name in one)


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_log(tmp_path / one / "result", {"loss": 1.0}) for one in ("a", "b")]
    other = write_log(tmp_path / "c", {"loss": 1.0})
    names = [run.name for run in write_report([*folders, other], tmp_path / "r.html")]
    assert names == [*map(str, folders), "c"]
    with pytest.raises(ArgumentError, match="given 2 times"):
        write_report([other, tmp_path / "a" / ".." / "c"], tmp_path / "r.html")
    with pytest.raises(ArgumentError, match="at least one"):
        write_report([], tmp_path / "r.html")


def test_the_command_writes_a_report_and_says_so(trained: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "distrain_launch", "report", *map(str, trained), "-o", "a report.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"a report\.html: 2 runs, 9 entries, \d+ kB\n", done.stdout)
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a report.html"]
    command[4:] = ["nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == f"distrain report: there is no folder nowhere (looked in {tmp_path}).\n"


def test_what_was_wrong_with_the_files_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write_log(tmp_path, {"loss": 1.0}))
    assert main(["."]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("report.html: 1 run, 1 entry, ")
    assert "no run.json" in shown.err
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["empty"], ["empty has no log", "LogReport"]),
        (["newer"], ["newer/log.jsonl has format 7", "newer distrain"]),
        (["good", "-o", "good/log.jsonl"], ["good/log.jsonl", ".html"]),
        (["good", "-o", "nowhere/r.html"], ["nowhere/r.html cannot be written", "-o"]),
        (["good", "-o", "folder.html"], ["folder.html cannot be written"]),
        (["good", "-o", "good/log.jsonl/r.html"], ["cannot be written"]),
    ],
)
def test_the_command_refuses_what_cannot_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "folder.html"):
        (tmp_path / name).mkdir()
    write_log(tmp_path / "good", {"loss": 1.0})
    write_log(tmp_path / "newer", {"format": 7})
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert sorted(tmp_path.rglob("*")) == before
