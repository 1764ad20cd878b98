from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from distrain.results.follow import Followed
from distrain.results.news import News


class Reader:
    """Puts news together as the page does."""

    def __init__(self, news: News) -> None:
        self.news = news
        self.have = ""
        self.runs: list[Any] = []
        self.partial = 0

    def look(self) -> list[Any]:
        told = json.loads(self.news.since(self.have))
        self.have = told["have"]
        self.runs = [self.joined(i, run) for i, run in enumerate(told["runs"])]
        return self.runs

    def joined(self, i: int, run: Any) -> Any:
        if run is None:
            return self.runs[i]
        if "from" not in run:
            return run
        self.partial += 1
        columns = {key: self.runs[i]["columns"][key][: run["from"]] + rows for key, rows in run["columns"].items()}
        return {key: value for key, value in {**self.runs[i], **run, "columns": columns}.items() if key != "from"}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distrain.results.news._SHORTEST_S", 0.0)


def test_readers_of_any_version_come_to_the_same(at_once: None, tmp_path: Path) -> None:
    draw = random.Random(1)
    log = tmp_path / "log.jsonl"
    log.touch()
    news = News([Followed(tmp_path, "run", limit=20)])
    readers = [Reader(news) for _ in range(4)]
    lines = 0
    for step in range(150):
        with open(log, "a") as stream:
            for _ in range(draw.randrange(4)):
                lines += 1
                extra = {"rare": step} if draw.random() < 0.1 else {}
                stream.write(json.dumps({"loss": draw.random(), "iteration": lines, **extra}) + "\n")
        if step == 60:
            log.rename(tmp_path / "away")  # a resumed training writes its log anew
            log.write_text("".join((tmp_path / "away").read_text().splitlines(True)[:7]))
        if step == 90:
            (tmp_path / "cg.dot").write_text("digraph {}")
        reader = draw.choice(readers)
        assert reader.look() == Reader(news).look()
    assert sum(reader.partial for reader in readers) > 30


def test_what_is_sent_of_a_long_log_is_what_was_added(at_once: None, growing: Any) -> None:
    run = growing("run")
    news = News([Followed(run.log(3000), "run")])
    have = json.loads(news.since(""))["have"]
    run.log(3001, start=3000)
    assert len(news.since(have)) < 2000
    assert len(news.since("")) > 50_000


def test_several_looks_within_a_moment_are_one(growing: Any) -> None:
    run = growing("run")
    news = News([Followed(run.log(1), "run")])
    first = json.loads(news.since(""))
    run.log(2, start=1)
    assert json.loads(news.since(first["have"]))["time"] == first["time"]
