from __future__ import annotations

import pyte
import pytest

from distrain_launch.screen import Lines, Screen

ERASE_3 = b"\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K"  # as rich takes three lines away


def test_lines() -> None:
    lines = Lines()
    assert [lines.take(data) for data in (b"a", b"b\nc", b"\n\nd")] == [b"", b"ab\n", b"c\n\n"]
    assert (lines.rest(), lines.rest()) == (b"d", b"")
    assert len(lines.take(b"x" * 100_000)) == 100_000  # a line without an end does not stay for ever


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, b"a\n"), (1, b"b\n")], b"a\n[node07:1] b\n"),
        ([(0, b"a"), (1, b"b\n"), (0, b"c\n")], b"[node07:1] b\nac\n"),
        ([(1, b"b"), (0, b"a\n"), (1, b"c\n\nd\n")], b"a\n[node07:1] bc\n[node07:1] \n[node07:1] d\n"),
        ([(1, b"1%\r50%\r99%\r\n")], b"[node07:1] 99%\n"),
        ([(0, b"1%\r50%"), (1, b"b\n"), (0, b"\r99%\n")], b"1%\r[node07:1] b\n50%\r99%\n"),
        ([(2, b"no end"), (0, b"nor here")], b"[node07:2] no end\nnor here"),
    ],
)
def test_whole_lines_where_there_is_no_terminal(pieces: list[tuple[int, bytes]], expected: bytes) -> None:
    written = bytearray()
    screen = Screen(written.extend)
    for rank, data in pieces:
        screen.show(rank, "node07.site", data)
    screen.close()
    assert bytes(written) == expected


def shown(pieces: list[tuple[int, bytes]], columns: int = 20, lines: int = 8) -> list[str]:
    """What stands on a terminal, the lines that have left it at the top included."""
    terminal = pyte.HistoryScreen(columns, lines, history=100)
    stream = pyte.ByteStream(terminal)
    screen = Screen(lambda data: stream.feed(data.replace(b"\n", b"\r\n")), (columns, lines))
    for rank, data in pieces:
        screen.show(rank, "h", data)
    gone = ["".join(line[x].data for x in range(columns)) for line in terminal.history.top]
    return [line.rstrip() for line in [*gone, *terminal.display] if line.strip()]


FRAME = b"one\ntwo\nthree"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([(0, b"a\n"), (1, b"b\n"), (0, b"c\n")], ["a", "[h:1] b", "c"]),
        ([(0, b"50%"), (1, b"b\n")], ["[h:1] b", "50%"]),
        ([(0, b"50%"), (1, b"b\n"), (0, b"\r60%"), (2, b"c\n"), (0, b"\r70%\n")], ["[h:1] b", "[h:2] c", "70%"]),
        ([(0, b"50%\r"), (1, b"b\n"), (0, b"60%\r")], ["[h:1] b", "60%"]),
        ([(0, FRAME), (1, b"b\n"), (0, ERASE_3 + b"1\n2\n3")], ["[h:1] b", "1", "2", "3"]),
        ([(0, FRAME), (0, ERASE_3 + b"1\n2\n3"), (1, b"b\nc\n")], ["[h:1] b", "[h:1] c", "1", "2", "3"]),
        ([(0, FRAME), (0, ERASE_3), (1, b"b\n"), (0, b"1\n2\n3")], ["[h:1] b", "1", "2", "3"]),
        # what rank 0 prints above its bar
        ([(0, FRAME), (0, ERASE_3 + b"row\n1\n2\n3"), (1, b"b\n")], ["[h:1] b", "row", "1", "2", "3"]),
        ([(0, FRAME), (0, ERASE_3 + b"row\n1\n2\n3"), (1, b"b\n"), (0, ERASE_3 + b"4\n5\n6")], None),
        # lines that go round the edge
        ([(0, b"x" * 30), (1, b"b\n"), (0, b"\r\x1b[1A\x1b[2Ky\n")], ["[h:1] b", "y", "xxxxxxxxxx"]),
        # the bar ends
        ([(0, FRAME), (0, b"\n\r\x1b[1A\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2Kend\n"), (1, b"b\n")], ["end", "[h:1] b"]),
    ],
)
def test_a_bar_stays_below_the_lines_of_others(pieces: list[tuple[int, bytes]], expected: list[str] | None) -> None:
    assert shown(pieces) == (expected or ["[h:1] b", "row", "4", "5", "6"])


def test_more_lines_than_the_terminal_has() -> None:
    frames = [(0, FRAME)]
    for step in range(30):
        frames += [(step % 3 + 1, b"line %d\n" % step), (0, ERASE_3 + b"bar\n%d\nend" % step)]
    assert shown(frames) == [*(f"[h:{step % 3 + 1}] line {step}" for step in range(30)), "bar", "29", "end"]


def test_the_cursor_comes_back_when_the_bar_was_cut_off() -> None:
    written = bytearray()
    screen = Screen(written.extend, (80, 24), is_coloured=True)
    screen.show(0, "h", b"\x1b[?25l50%")
    screen.show(2, "h", b"b\n")
    screen.close()
    assert bytes(written).endswith(b"\x1b[35m[h:2]\x1b[0m b\n\x1b[?25l50%\n\x1b[?25h")
