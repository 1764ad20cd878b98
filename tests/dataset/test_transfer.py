import http.client

import pytest

from distrain.dataset import transfer
from distrain.errors import DownloadError

URL = "https://host.invalid/deep/x.gz"


@pytest.mark.parametrize(
    ("mirror", "url", "mirrored_as", "expected"),
    [
        (None, URL, "set/x.gz", URL),
        ("", URL, None, URL),
        ("http://m", URL, None, "http://m/deep/x.gz"),
        ("http://m/below/", URL, None, "http://m/below/deep/x.gz"),
        ("http://m", URL + "?v=1&w=2", None, "http://m/deep/x.gz?v=1&w=2"),
        ("http://m/", URL, "set/x.gz", "http://m/set/x.gz"),
    ],
)
def test_source(monkeypatch, mirror, url, mirrored_as, expected):
    monkeypatch.delenv("DISTRAIN_MIRROR", raising=False)
    if mirror is not None:
        monkeypatch.setenv("DISTRAIN_MIRROR", mirror)
    assert transfer.source(url, mirrored_as) == expected


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (DownloadError("cut off"), "^cut off"),
        (TimeoutError("timed out"), "could not fetch .*x.gz: timed out"),
        (ConnectionResetError(), "could not fetch .*x.gz: ConnectionResetError"),
        (http.client.RemoteDisconnected("gone"), "could not fetch .*x.gz: gone"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
def test_explained(tmp_path, error, fact):
    with pytest.raises(DownloadError, match=f"(?s){fact}.*{tmp_path}.*get_digits"), transfer.explained(URL, tmp_path):
        raise error


def test_other_errors_pass(tmp_path):
    with pytest.raises(KeyboardInterrupt), transfer.explained(URL, tmp_path):
        raise KeyboardInterrupt
