from __future__ import annotations

import os

import pytest

from distrain_launch.ask import Answer, ask

LIMIT_S = 30.0


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("tell('a', [1, None]); tell('b', 'x')", Answer({"a": [1, None], "b": "x"})),
        ("print('noise'); os.write(1, b'more'); tell('a', 1)", Answer({"a": 1})),
        ("tell('a', 1); sys.exit('so it goes')", Answer({"a": 1}, "it ended with exit code 1\nso it goes")),
        ("raise ValueError('so\\nit goes')", Answer({}, "it ended with exit code 1\nValueError: so\nit goes")),
        ("tell('a', 1); os.kill(os.getpid(), 11)", Answer({"a": 1}, "it was ended by SIGSEGV")),
    ],
)
def test_ask(code: str, expected: Answer) -> None:
    assert ask(code, LIMIT_S) == expected


def test_what_was_told_before_the_limit_is_kept() -> None:
    answer = ask("tell('a', 1)\nimport time\nwhile True: time.sleep(1)", 1.0)
    assert answer.failure == "it was not over after 1 s"
    assert answer.values in ({"a": 1}, {})  # the latter on a machine that is too busy to start it


def test_the_one_that_is_asked_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    assert ask("tell('rank', os.environ.get('PMI_RANK'))", LIMIT_S).values == {"rank": None}
    assert os.environ["PMI_RANK"] == "1"
