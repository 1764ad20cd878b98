import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distrain.dataset import (
    cache_or_load_file,
    cached_download,
    get_dataset_directory,
    get_dataset_root,
    set_dataset_root,
)
from distrain.dataset.download import fetch
from distrain.errors import DownloadError

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ROOT = Path(__file__).resolve().parents[2]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        if self.path.endswith("/missing"):
            self.send_error(404)
            return
        if self.path.endswith("/slow"):
            time.sleep(0.5)
        self.send_response(200)
        if not self.path.endswith("/nolength"):
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:1000] if self.path.endswith("/short") else CONTENT)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTRAIN_DATASET_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("DISTRAIN_MIRROR", raising=False)
    return tmp_path / "root"


def kept(root):
    """Every file under the root but locks."""
    return [path for path in root.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


class TestRoot:
    def test_from_the_environment(self, root):
        assert get_dataset_root() == str(root)

    def test_default_is_the_users_cache(self, monkeypatch, tmp_path):
        monkeypatch.delenv("DISTRAIN_DATASET_ROOT")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert get_dataset_root().endswith("distrain")

    def test_set(self, tmp_path):
        set_dataset_root(tmp_path / "other")
        try:
            assert get_dataset_root() == str(tmp_path / "other")
        finally:
            set_dataset_root(None)
        assert get_dataset_root() != str(tmp_path / "other")

    def test_directory(self, root):
        assert get_dataset_directory("mnist", create_directory=False) == str(root / "mnist")
        assert not root.exists()
        get_dataset_directory("mnist")
        assert (root / "mnist").is_dir()

    def test_directory_that_cannot_be(self, root):
        root.write_text("a file")
        with pytest.raises(DownloadError, match="DISTRAIN_DATASET_ROOT"):
            get_dataset_directory("mnist")


class TestDownload:
    def test_once(self, server, root):
        path = cached_download(f"{server.url}/a/good", sha256=SHA256)
        assert Path(path).read_bytes() == CONTENT
        assert Path(path).is_relative_to(root)
        assert cached_download(f"{server.url}/a/good", sha256=SHA256) == path
        assert server.paths == ["/a/good"]

    def test_other_urls_are_other_files(self, server):
        assert cached_download(f"{server.url}/a") != cached_download(f"{server.url}/b")

    def test_without_content_length(self, server):
        assert Path(cached_download(f"{server.url}/nolength")).read_bytes() == CONTENT

    def test_truncated(self, server, root):
        with pytest.raises(DownloadError, match=f"1000 of {len(CONTENT)} bytes"):
            cached_download(f"{server.url}/short")
        assert kept(root) == []

    def test_corrupt(self, server, root):
        with pytest.raises(DownloadError, match=f"(?s){SHA256}.*expected {'0' * 64}"):
            cached_download(f"{server.url}/good", sha256="0" * 64)
        assert kept(root) == []
        cached_download(f"{server.url}/good", sha256=SHA256.upper())  # and the next try works

    def test_missing(self, server, root):
        with pytest.raises(DownloadError, match="HTTP 404") as info:
            fetch(f"{server.url}/missing", root / "set" / "file")
        assert isinstance(info.value, OSError)
        assert kept(root) == []

    def test_no_network_names_the_way_out(self, root):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            url = f"http://127.0.0.1:{server.server_port}/x.gz"
        with pytest.raises(DownloadError) as info:  # the port is closed again
            fetch(url, root / "set" / "x.gz")
        for word in (url, str(root / "set" / "x.gz"), "get_digits", "DISTRAIN_MIRROR"):
            assert word in str(info.value)
        assert kept(root) == []

    def test_not_a_url(self, root):
        with pytest.raises(DownloadError, match="is not a URL"):
            cached_download("nonsense")
        assert kept(root) == []

    def test_a_file_that_is_there_needs_no_writable_directory(self, root):
        root.mkdir()
        (root / "file").write_bytes(b"mine")
        root.chmod(0o500)
        try:
            assert fetch("http://nowhere.invalid/file", root / "file").read_bytes() == b"mine"
        finally:
            root.chmod(0o700)

    def test_two_processes_download_once(self, server, root):
        program = f"from distrain.dataset import cached_download; print(cached_download({server.url + '/slow'!r}))"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        processes = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) for _ in range(2)
        ]
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert outputs[0] == outputs[1] != b""
        assert server.paths == ["/slow"]
        assert len(kept(root)) == 1


class TestMirror:
    def test_takes_the_place_of_the_host(self, server, monkeypatch):
        monkeypatch.setenv("DISTRAIN_MIRROR", f"{server.url}/below/")
        cached_download("https://nowhere.invalid/a/good?v=1")
        assert server.paths == ["/below/a/good?v=1"]

    def test_known_files_have_the_layout_of_the_root(self, server, monkeypatch, root):
        monkeypatch.setenv("DISTRAIN_MIRROR", server.url)
        fetch("https://nowhere.invalid/deep/x.gz", root / "set" / "x.gz", mirrored_as="set/x.gz")
        assert server.paths == ["/set/x.gz"]


class TestProgress:
    def test_a_bar_on_a_terminal(self, server, root):
        program = f"from distrain.dataset import cached_download; cached_download({server.url + '/good'!r})"
        master, slave = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stderr=slave,
            stdout=slave,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(slave)
        shown = b""
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        os.close(master)
        assert process.wait(60) == 0
        assert b"256.0/256.0 kB" in shown

    def test_nothing_elsewhere(self, server, capfd):
        cached_download(f"{server.url}/good")
        assert capfd.readouterr() == ("", "")


class TestCacheOrLoadFile:
    @staticmethod
    def create(path):
        with gzip.open(path, "wb") as file:
            file.write(CONTENT)
        return "created"

    @staticmethod
    def load(path):
        with gzip.open(path) as file:
            return file.read()

    def test_creates_then_loads(self, root):
        path = root / "made" / "file.gz"
        assert cache_or_load_file(path, self.create, self.load) == "created"
        assert cache_or_load_file(str(path), self.create, self.load) == CONTENT
        assert kept(root) == [path]

    def test_a_creator_that_fails_leaves_nothing(self, root):
        def fail(path):
            self.create(path)
            raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            cache_or_load_file(root / "file.gz", fail, self.load)
        assert kept(root) == []
