from __future__ import annotations

import socket
import threading
from multiprocessing.connection import Connection

import pytest

from distrain.errors import WireError
from distrain.training.updaters.group import Hub, Spoke
from distrain.training.updaters.messages import Step, Tell, receive, send


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as one, Connection(theirs.detach()) as other:
        yield one, other


def test_values_reach_all_in_the_order_of_the_processes(ends):
    main, worker = ends
    hub = Hub(2, lambda value: send(main, Tell(value)), lambda: [receive(main).value])
    spoke = Spoke(worker, 1, 2)
    found = []
    thread = threading.Thread(target=lambda: found.extend([spoke.bcast(None), spoke.allgather("one")]))
    thread.start()
    assert hub.bcast((-128, 127)) == (-128, 127)
    assert hub.allgather(None) == [None, "one"]
    thread.join(20)
    assert found == [(-128, 127), [None, "one"]]
    assert (hub.Get_rank(), hub.Get_size(), spoke.Get_rank(), spoke.Get_size()) == (0, 2, 1, 2)


def test_an_order_instead_of_a_value_is_refused(ends):
    main, worker = ends
    send(main, Step(1, {}, None))
    with pytest.raises(WireError, match="not Step"):
        Spoke(worker, 1, 2).bcast(None)
    main.close()
    with pytest.raises(EOFError):
        Spoke(worker, 1, 2).bcast(None)
