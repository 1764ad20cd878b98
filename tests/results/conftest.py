"""A headless Chromium that is spoken to through a pair of pipes; it needs no package and opens no port."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
# The contrast of the text of every element with what is behind it, the worst one.
CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = (c) => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  let worst = [99, ''];
  for (const e of document.body.querySelectorAll('*')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 80)];
  }
  return worst;
}"""


class Browser:
    """One page of a Chromium, by its DevTools protocol."""

    def __init__(self, program: str, folder: Path) -> None:
        to_read, self._write = _pipe()
        self._read, to_write = _pipe()
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        command = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write} {to_read}<&- {to_write}>&-'
        options = ["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        options += [
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
        ]
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command, program, *options, "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": str(folder)},
        )
        os.close(to_read)
        os.close(to_write)
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + LIMIT_S
        while True:
            answer = self._receive(end)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0], "Chromium says nothing"
            part = os.read(self._read, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def open(self, path: Path | str) -> None:
        self.call("Page.navigate", url=path if isinstance(path, str) else path.as_uri())
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.frame()

    def leave(self) -> None:
        """Ends the page that is open, with all that it does."""
        self.call("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank' && document.readyState === 'complete'")
        self.frame()

    def run(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def frame(self) -> None:
        """Waits until what has changed is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))))")

    def look(self, width: int, dark: bool = False, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.frame()

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=KEYS[key])
        self.frame()

    def contrast(self) -> tuple[float, str]:
        """The worst contrast between a text and what is behind it, and where."""
        ratio, where = self.run(f"({CONTRAST})()")
        return ratio, where

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=False)["data"])

    def problems(self, home: str = "file:") -> list[str]:
        """What the page, or its policy, has complained about; and what it wanted from elsewhere than `home`."""
        self.frame()
        said = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                said.append(str(params["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                said.append(params["entry"]["text"])
            elif event.get("method") == "Network.requestWillBeSent":
                address = params["request"]["url"]
                if not address.startswith((home, "data:", "blob:")):
                    said.append(address)
        return said

    def close(self) -> None:
        for fd in (self._write, self._read):
            os.close(fd)  # it ends when its pipe does
        try:
            self.process.wait(10.0)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait(10.0)


def _pipe() -> tuple[int, int]:
    """A pipe with numbers above 9, so that 3 and 4, where Chromium looks, are free."""
    low = os.pipe()
    high = (fcntl.fcntl(low[0], fcntl.F_DUPFD_CLOEXEC, 10), fcntl.fcntl(low[1], fcntl.F_DUPFD_CLOEXEC, 10))
    for fd in low:
        os.close(fd)
    return high


KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Escape": 27, "Tab": 9, " ": 32}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium on PATH: apt-get install chromium")
    found = Browser(program, tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Result folders of two real trainings; the second was resumed."""
    import distrain.functions as F
    import distrain.links as L
    from distrain import datasets, optimizers, serializers, training
    from distrain.iterators import SerialIterator
    from distrain.training import extensions

    def train(units: int, epochs: int, resume: str = "") -> Path:
        out = folder / f"units {units}"
        model = L.Classifier(L.Sequential(L.Linear(64, units), F.relu, L.Linear(units, 10)))
        iterator = SerialIterator(datasets.SubDataset(digits, 0, 300), 100, seed=1)
        updater = training.StandardUpdater(iterator, optimizers.Adam().setup(model))
        trainer = training.Trainer(updater, (epochs, "epoch"), out=out)
        test = SerialIterator(datasets.SubDataset(digits, 300, 400), 100, repeat=False, shuffle=False)
        trainer.extend(extensions.Evaluator(test, model))
        trainer.extend(extensions.LogReport())
        trainer.extend(extensions.RunRecord())
        trainer.extend(extensions.dump_graph("main/loss"))
        trainer.extend(extensions.snapshot(), trigger=(1, "epoch"))
        if resume:
            serializers.load_npz(out / resume, trainer)
        trainer.run()
        return out

    folder = tmp_path_factory.mktemp("runs")
    digits, _ = datasets.get_digits()
    folders = [train(8, 5), train(4, 2)]
    train(4, 4, resume="snapshot_iter_6")
    return folders


class Monitor:
    """A running `distrain monitor`, and a client of it."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "distrain_launch", "monitor", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "launch")])},
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), self.process.stderr and self.process.stderr.read()
        self.port = urlsplit(self.url).port or 0
        self.host = f"127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", host: str | None = None, **headers: str) -> tuple[Any, bytes]:
        """One request; what is in the path goes out as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for one in [self.host] if host is None else host.split("|"):
            connection.putheader("Host", one)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer, body

    def data(self, have: str = "") -> Any:
        answer, body = self.ask(f"/data?have={have}")
        assert answer.status == 200
        return json.loads(body)

    def end(self) -> tuple[int, str]:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=LIMIT_S)
        return self.process.returncode, said


@pytest.fixture
def monitor() -> Iterator[Callable[..., Monitor]]:
    started: list[Monitor] = []

    def start(*arguments: Any) -> Monitor:
        started.append(Monitor(*map(str, arguments)))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


class Growing:
    """A result folder that a test fills as a training would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def log(self, n: int, start: int = 0, cut: str = "") -> Path:
        """Lets the log have n entries, of which `start` are there."""
        entries = [
            {"main/loss": 1 / (i + 1), "iteration": i + 1, "epoch": 0, "elapsed_time": i} for i in range(start, n)
        ]
        with open(self.folder / "log.jsonl", "a" if start else "w") as stream:
            stream.write("".join(json.dumps(one) + "\n" for one in entries) + cut)
        return self.folder

    def rank(self, number: int, state: str = "running", **more: Any) -> dict[str, Any]:
        """An entry for `ranks`."""
        split = {"data": 0.01, "forward": 0.02, "backward": 0.03, "exchange": 0.01, "update": 0.01}
        return {
            "rank": number, "host": socket.gethostname(), "pid": os.getpid(), "iteration": 7, "phase": "forward",
            "seen": time.time(), "state": state, "time": split, "failure": None, **more,
        }  # fmt: skip

    def ranks(self, *ranks: dict[str, Any]) -> None:
        """Writes ranks.json as rank 0 does: at once."""
        told = {"time": time.time(), "world": len(ranks), "ranks": ranks}
        (self.folder / "new").write_text(json.dumps(told))
        os.replace(self.folder / "new", self.folder / "ranks.json")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:
    """A monitor of one run, for tests that only ask."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret").write_text("secret!")
    server = Monitor(str(Growing(folder / "run").log(1)))
    yield server
    server.end()


@pytest.fixture
def growing(tmp_path: Path) -> Callable[[str], Growing]:
    """`growing(name) -> Growing`: a new folder in `tmp_path`."""
    return lambda name: Growing(tmp_path / name)
