"""The monitor as a reader meets it: a real process, spoken to over HTTP."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from distrain.results.monitor import main

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

LIMIT_S = 60.0


def test_one_page_and_its_news(monitor: Any, trained: list[Path]) -> None:
    server = monitor(*trained)
    answer, body = server.ask("/")
    assert answer.status == 200
    text = body.decode()
    assert "<h1>Training monitor</h1>" in text
    policy = answer.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "script-src 'sha256-"):
        assert part in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers
    data = server.data()
    assert [run["name"] for run in data["runs"]] == ["units 8", "units 4"]
    assert data["ranks"] == [None, None]
    assert data["machine"]["host"] == socket.gethostname()
    answer, body = server.ask("/", "HEAD")
    assert (answer.status, body) == (200, b"")
    answer, body = server.ask("/data", Accept_Encoding="gzip")
    assert json.loads(gzip.decompress(body))["runs"] == data["runs"]
    assert server.end() == (0, "")


def test_a_run_that_grows_is_sent_when_there_is_more(monitor: Any, growing: Any) -> None:
    one, other = growing("a"), growing("b")
    server = monitor(one.log(3), other.log(2))
    first = server.data()
    assert server.data(first["have"])["runs"] == [None, None]
    one.log(5, start=3, cut='{"main/loss": 0.1')
    other.ranks(other.rank(0), other.rank(1, "silent"))
    end = time.monotonic() + LIMIT_S
    while (news := server.data(first["have"]))["runs"][0] is None:
        assert time.monotonic() < end
    assert news["runs"][0]["from"] == 3
    assert news["runs"][0]["columns"]["iteration"] == [4, 5]
    assert news["runs"][0]["problems"][0].startswith("There is no run.json")  # and nothing about the line that grows
    assert news["runs"][1] is None
    assert [rank["state"] for rank in news["ranks"][1]["ranks"]] == ["running", "silent"]
    assert str(os.getpid()) in news["machine"]["processes"]
    assert server.data("another.1.1")["runs"][0] is not None  # another server's numbers mean nothing


def test_a_folder_that_has_no_log_yet_and_one_that_goes(monitor: Any, growing: Any) -> None:
    soon = growing("soon")
    server = monitor(soon.folder)
    assert server.data()["runs"][0]["problems"] == ["There is no log yet; the extension LogReport writes it."]
    soon.log(2)
    end = time.monotonic() + LIMIT_S
    while server.data()["runs"][0]["total"] != 2:
        assert time.monotonic() < end
    shutil.rmtree(soon.folder)
    while "is not there" not in str(server.data()["runs"][0]["problems"]):
        assert time.monotonic() < end


@pytest.mark.parametrize(
    "path",
    [
        "/../secret", "/..%2fsecret", "/%2e%2e/secret", "//etc/passwd", "/data/../../secret", "/log.jsonl", "/run.json",
        "/static/..\\secret", "/data/", "/?token=", "http://elsewhere/data/x", "/%00",
    ],
)  # fmt: skip
def test_there_is_no_path_to_a_file(served: Any, path: str) -> None:
    answer, body = served.ask(path)
    assert answer.status == 200 if path == "/?token=" else answer.status in (307, 400, 404)
    assert b"secret!" not in body
    assert b"root:" not in body


def test_links_out_of_the_folder_are_not_followed(monitor: Any, growing: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret!")
    run = growing("run").log(1)
    (run / "cg.dot").symlink_to(tmp_path / "secret")
    data = monitor(run).data()["runs"][0]
    assert data["graph"] is None
    assert data["problems"] == ["It is not shown: cg.dot is a link to a place outside of the folder."]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "", "127.0.0.1.evil.example", "localhost|evil.example", "192.168.1.1"]
)
def test_a_foreign_host_is_refused(served: Any, host: str) -> None:
    answer, body = served.ask("/data", host=host)
    assert answer.status in (400, 403)
    assert b"columns" not in body


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8642", "127.0.0.1"])
def test_names_of_this_machine_are_known(served: Any, host: str) -> None:
    assert served.ask("/data", host=host)[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_it_only_reads(served: Any, method: str) -> None:
    answer, _ = served.ask("/data", method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_other_machines_need_the_token(monitor: Any, growing: Any) -> None:
    server = monitor("--host", "0.0.0.0", growing("run").log(1))
    token = urlsplit(server.url).query.removeprefix("token=")
    assert len(token) >= 32
    for path in ("/", "/data", "/?token=", "/?token=" + token[:-1], "/data?token=" + token):
        answer, body = server.ask(path)
        assert answer.status == 401, path
        assert b"main/loss" not in body
    assert server.ask("/", host="evil.example")[0].status == 403
    answer, _ = server.ask("/?token=" + token)
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert "HttpOnly" in attributes
    assert server.ask("/data", Cookie=cookie)[0].status == 200
    assert server.ask("/data", Cookie=cookie[:-1])[0].status == 401
    assert server.ask("/data", Authorization="Bearer " + token)[0].status == 200
    assert server.ask("/data", Authorization="Bearer ü".encode().decode("latin-1"))[0].status == 401


def test_a_token_against_other_users_of_this_machine(monitor: Any, growing: Any) -> None:
    server = monitor("--token", growing("run").log(1))
    assert "?token=" in server.url
    assert server.ask("/data")[0].status == 401


def test_what_cannot_work_is_said(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path / ".")]) == 2
    assert "is given 2 times" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use. Give another --port" in capsys.readouterr().err
    assert main([str(tmp_path), "--port", "70000"]) == 2
    assert "--port 70000 is none" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([str(tmp_path)]) == 2
    assert "this needs starlette and uvicorn: pip install 'distrain[monitor]'" in capsys.readouterr().err
