"""Tickets, and who has them: what is issued is settled once, whatever happens to the feeders."""

import numpy as np
import pytest

from distrain.iterators.feed.arena import Arena
from distrain.iterators.feed.protocol import Done, Failed
from distrain.iterators.feed.window import Job, Piece, Window

DONE = Done(0, "columns", 0.0, 0.0, 0, b"", 0, [])
FAILED = Failed(0, 0, 0, 0, "E", "", [], "", None)
A, B, C = b"a", b"b", b"c"


def job(*runs):
    runs = [(epoch, list(indices)) for epoch, indices in runs] or [(0, list(range(10)))]
    return Job(runs, sum(len(indices) for _, indices in runs))


def bounds(pieces):
    return [(piece.start, piece.stop) for piece in pieces]


@pytest.fixture
def window():
    window = Window()
    for member in (A, B, C):
        window.join(member)
    return window


class TestJob:
    @pytest.mark.parametrize(
        ("start", "stop", "expected"),
        [
            (0, 7, [(4, [7, 3]), (5, [0]), (6, [8, 1, 2, 9])]),
            (0, 2, [(4, [7, 3])]),
            (1, 3, [(4, [3]), (5, [0])]),
            (2, 3, [(5, [0])]),
            (3, 7, [(6, [8, 1, 2, 9])]),
            (4, 6, [(6, [1, 2])]),
            (6, 7, [(6, [9])]),
            (3, 3, []),
        ],
    )
    def test_runs_of_rows(self, start, stop, expected):
        assert job((4, [7, 3]), (5, [0]), (6, [8, 1, 2, 9])).runs_of(start, stop) == expected

    def test_sample_and_substitute(self):
        own = job((4, [7, 3]), (5, [0]), (6, [8, 1]))
        samples = [own.sample(row) for row in range(5)]
        assert samples == [(4, 7), (4, 3), (5, 0), (6, 8), (6, 1)]
        for row in (0, 2, 4):
            own.substitute(row, 50 + row)
        assert [own.sample(row) for row in range(5)] == [(4, 50), (4, 3), (5, 52), (6, 8), (6, 54)]

    @pytest.mark.parametrize(
        ("size", "start", "expected"),
        [
            (10, 0, [(0, 10)]),
            (99, 0, [(0, 10)]),
            (4, 0, [(0, 4), (4, 8), (8, 10)]),
            (4, 1, [(1, 5), (5, 9), (9, 10)]),
            (1, 8, [(8, 9), (9, 10)]),
            (3, 10, []),
        ],
    )
    def test_cut(self, size, start, expected):
        own = job()
        assert bounds(own.cut(size, start)) == bounds(own.pieces) == expected

    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            (4, [(0, 4), (4, 5), (5, 8), (8, 10)]),
            (6, [(0, 4), (4, 6), (6, 7), (7, 8), (8, 10)]),
            (7, [(0, 4), (4, 7), (7, 8), (8, 10)]),
        ],
    )
    def test_isolate(self, row, expected):
        own = job()
        pieces = own.cut(4)
        parts = own.isolate(pieces[1], row)
        assert bounds(own.pieces) == expected
        assert [part for part in own.pieces if part not in pieces] == parts
        assert (row, row + 1) in bounds(parts)

    def test_isolate_a_single_row(self):
        own = job()
        own.cut(1)
        own.isolate(own.pieces[3], 3)
        assert bounds(own.pieces) == [(i, i + 1) for i in range(10)]

    @pytest.mark.parametrize(
        ("answers", "expected"),
        [
            ([None, None, None], False),
            ([DONE, None, DONE], False),
            ([DONE, DONE, DONE], True),
            ([FAILED, None, None], True),
            ([DONE, FAILED, None], True),
            ([None, FAILED, DONE], False),  # a row before it may fail as well, and that would be the error
            ([DONE, None, FAILED], False),
        ],
    )
    def test_is_decided(self, answers, expected):
        own = job()
        own.cut(4)
        for piece, answer in zip(own.pieces, answers, strict=True):
            piece.answer = answer
        assert own.is_decided == expected

    def test_is_not_decided_before_it_is_cut_to_its_end(self):
        own = job()
        assert not own.is_decided
        own.pieces.append(Piece(own, 0, 1, DONE))
        assert not own.is_decided
        own.pieces[0].answer = FAILED
        assert own.is_decided


class TestTickets:
    def test_are_never_the_same(self, window):
        own = job()
        tickets = [window.issue(piece, member) for piece in own.cut(1) for member in (A, B)]
        assert len(set(tickets)) == 20
        assert 0 not in tickets  # which stands for none

    def test_are_known_to_their_holder_only(self, window):
        (piece,) = job().cut(10)
        ticket = window.issue(piece, A)
        assert window.piece_of(ticket, A) is piece
        for stranger, number in [(B, ticket), (b"nobody", ticket), (A, ticket + 1), (A, 0), (A, -1)]:
            assert window.piece_of(number, stranger) is None

    def test_are_settled_once(self, window):
        (piece,) = job().cut(10)
        ticket = window.issue(piece, A)
        assert window.settle(ticket) is piece
        assert window.piece_of(ticket, A) is None
        assert window.load(A) == 0
        assert not piece.tickets
        with pytest.raises(KeyError):
            window.settle(ticket)

    def test_go_to_the_feeder_with_the_fewest(self, window):
        given = []
        for piece in job().cut(1)[:7]:
            member = window.laziest()
            given.append(member)
            window.issue(piece, member)
        assert given == [A, B, C, A, B, C, A]
        for ticket in window.tickets_of(B):
            window.settle(ticket)
        assert window.laziest() == B
        assert Window().laziest() is None

    def test_queued_are_those_not_begun(self, window):
        tickets = [window.issue(piece, A) for piece in job().cut(2)]
        assert window.tickets_of(A) == window.queued(0, A) == tickets
        assert window.queued(tickets[0], A) == tickets[1:]
        assert window.queued(tickets[2], A) == tickets[:2] + tickets[3:]
        assert window.queued(99, A) == tickets
        assert window.tickets_of(b"nobody") == []


class TestLeaving:
    def test_gives_back_what_nobody_else_has(self, window):
        done, stolen, lost, other = job().cut(3)
        for piece in (done, stolen, lost):
            window.issue(piece, A)
        window.issue(stolen, B)
        window.issue(other, B)
        done.answer = DONE
        assert window.leave(A) == [lost]
        assert A not in window
        assert list(window.members) == [B, C]
        assert not lost.tickets
        assert len(stolen.tickets) == 1
        assert window.leave(B) == [stolen, other]
        assert window.leave(B) == []
        assert window.leave(b"nobody") == []

    def test_of_a_feeder_that_comes_again(self, window):
        (piece,) = job().cut(10)
        ticket = window.issue(piece, A)
        window.leave(A)
        window.join(A)
        assert window.load(A) == 0
        assert window.piece_of(ticket, A) is None


class TestStealing:
    def test_the_first_answer_leaves_the_other_ticket_good(self, window):
        (piece,) = job().cut(10)
        slow, fast = window.issue(piece, A), window.issue(piece, B)
        assert piece.tickets == {slow, fast}
        window.settle(fast)
        piece.answer = DONE
        assert window.piece_of(slow, A) is piece
        assert window.leave(A) == []


def test_a_slot_is_busy_until_every_ticket_is_settled(window):
    arena = Arena()
    own = job()
    own.slot = arena.add_slot(100)
    own.memory = own.slot.lend()
    first, second = own.cut(5)
    tickets = [window.issue(first, A), window.issue(first, B), window.issue(second, A)]
    own.memory = None
    assert not own.slot.is_lent
    window.settle(tickets[0])
    window.leave(B)
    assert not own.slot.is_free
    window.settle(tickets[2])
    assert own.slot.is_free
    arena.close()


def test_dropping_names_the_tickets_that_are_out(window):
    wanted, unwanted = job(), job()
    unwanted.memory = np.zeros(3, np.uint8)
    pieces = unwanted.cut(4)
    window.waiting = [wanted.cut(10)[0], *pieces[1:]]
    first, second = window.issue(pieces[0], A), window.issue(pieces[0], B)
    assert window.drop(unwanted) == [(first, A), (second, B)]
    assert window.waiting == wanted.pieces
    assert unwanted.memory is None
    assert not unwanted.is_wanted
    assert wanted.is_wanted
    assert window.piece_of(first, A) is pieces[0]  # until A has said that it is cancelled, or done


def test_any_history_leaves_nothing_behind(window):
    """Feeders come and go, work is issued, stolen, answered; in the end every piece has one answer."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        own = job()
        waiting = own.cut(int(rng.integers(1, 5)))
        members, out, names = [A, B, C], [], iter(range(10_000))
        while any(piece.answer is None for piece in own.pieces):
            choice = rng.integers(4)
            if choice == 0 and waiting:
                out.append((window.issue(waiting.pop(), member := window.laziest()), member))
            elif choice == 1 and out:
                ticket, member = out.pop(int(rng.integers(len(out))))
                piece = window.piece_of(ticket, member)
                if piece is not None:
                    window.settle(ticket)
                    piece.answer = piece.answer or DONE
            elif choice == 2 and out:
                piece = window.piece_of(*out[0])
                if piece is not None:
                    out.append((window.issue(piece, members[-1]), members[-1]))
            elif choice == 3:
                gone = members.pop(0)
                waiting += window.leave(gone)
                members.append(b"%d" % next(names))
                window.join(members[-1])
        for member in members:
            window.leave(member)
        assert not any(piece.tickets for piece in own.pieces)
        for member in (A, B, C):
            window.join(member)
