from __future__ import annotations

from pathlib import Path

import pytest

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.hosts import Host, check_names, from_file, in_use, listed, ranks_of, ranks_without

AB = [Host("a", 4), Host("b", 2)]


def test_a_list() -> None:
    assert listed("a:4, b:2") == AB
    assert listed("gpu-01.site:1,10.0.0.2:16") == [Host("gpu-01.site", 1), Host("10.0.0.2", 16)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no host; expected a list such as a:4,b:4"),
        ("a:4,,b:4", "'' is no host"),
        ("a:x", "'a:x' is no host"),
        ("a:-1", "'a:-1' is no host"),
        ("a b:1", "'a b:1' is no host"),
        ("-oProxyCommand=x:1", "'-oProxyCommand=x:1' is no host"),
        ("a:4,b", r"host b has no number of slots. Say how many ranks it takes, as b:4"),
        ("a:0", "host a has 0 slots"),
        ("a:4,b:1,a:2", "host a stands there twice. Name it once, as a:6"),
    ],
)
def test_a_list_that_cannot_be(text: str, words: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        listed(text)
    assert f"--hosts {text}: " in str(caught.value)
    assert words in str(caught.value)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# the lab\n\na:4\nb slots=2 # the old one\nc  slots = 3\nd 1\n")
    assert from_file(str(path)) == [*AB, Host("c", 3), Host("d", 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# nobody\n", "there is no host in it"),
        ("a:4\nb\n", "line 2: host b has no number of slots"),
        ("a:4\nb max_slots=3\n", "line 2: 'b max_slots=3' is no host; expected a:4 or a slots=4"),
        ("a slots=0\n", "line 1: host a has 0 slots"),
        ("-x slots=1\n", "line 1: '-x slots=1' is no host"),
        ("a:1\na:1\n", "host a stands there twice. Name it once, as a:2"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(ArgumentError) as caught:
        from_file(str(path))
    assert f"--hostfile {path}" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"--hostfile .*nothing: .*No such file.*Name a text file"):
        from_file(str(tmp_path / "nothing"))


def test_ranks() -> None:
    assert ranks_of(AB, None, False) == 6
    assert ranks_of(AB, 3, False) == 3
    assert ranks_of(AB, 7, True) == 7
    with pytest.raises(ArgumentError, match=r"-n 7: the hosts have room for 6 ranks \(a:4, b:2\).*--oversubscribe"):
        ranks_of(AB, 7, False)
    assert in_use(AB, 4) == AB[:1]
    assert in_use(AB, 5) == in_use(AB, 7) == AB


def test_names() -> None:
    check_names([Host("localhost", 1)])
    with pytest.raises(LaunchError, match="host no.such.host.invalid is not known on .*Correct the name"):
        check_names([Host("no.such.host.invalid", 1)])


def test_ranks_when_hosts_are_absent() -> None:
    everybody = [Host("a", 2), Host("b", 2), Host("c", 1)]
    assert ranks_without(everybody, everybody, 9, 9) == 9  # oversubscribed
    assert ranks_without(everybody, [everybody[0], everybody[2]], 3, 3) == 3
    assert ranks_without(everybody, [everybody[0]], 5, 1) == 2
    words = r"^b, c: no answer\. The other hosts \(a:2\) have room for 2 ranks, but --min-n 3 asks for more\. Bring "
    with pytest.raises(LaunchError, match=words):
        ranks_without(everybody, [everybody[0]], 5, 3)
    with pytest.raises(LaunchError, match="but the job has 5"):
        ranks_without(everybody, [everybody[0]], 5, 5)
    with pytest.raises(LaunchError, match=r"\(none are left\) have room for 0 ranks"):
        ranks_without(everybody, [], 5, 1)
