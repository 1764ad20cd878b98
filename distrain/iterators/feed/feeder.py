"""The process that reads samples: takes work from a rank, and says when it is done.

It has no state that matters. Any feeder can do any work, again and at any time, and the bytes will be the same.
"""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import sys
import traceback
from collections import OrderedDict
from typing import Any

import zmq

from distrain import rng, wire
from distrain.iterators.feed import protocol
from distrain.iterators.feed.arena import ArenaView
from distrain.iterators.feed.protocol import Broken, Cancelled, Hello, Work
from distrain.iterators.feed.server import Server
from distrain.iterators.feed.shipment import unship

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_FROM_HEAP = 32 << 20  # bytes; the most that glibc takes
_MOST_KEPT = 256 << 20  # bytes at the end of the heap that are free


def run(number: int, identity: bytes, address: str, token: bytes, arena_fd: int, cargo_fd: int, rank_fd: int) -> None:
    """A local feeder, from its start to the rank's word or death.

    Args:
        number: of this feeder, which is also its place in the arena.
        identity: by which the rank addresses it.
        address: of the rank.
        token: shows the rank that this is a feeder of its own.
        arena_fd: of the arena.
        cargo_fd: holds the dataset.
        rank_fd: a pidfd, readable when the rank is gone.
    """
    context = wire.new_context()
    line = wire.spoke(context, identity)
    line.connect(address)
    try:
        cargo = unship(cargo_fd)
    except (Exception, SystemExit):
        line.send(protocol.pack_reply(Broken(traceback.format_exc()))[0])
        _wait_until_read(line, rank_fd)
        return
    settle()
    rng.set_seed(cargo.seed)
    arena = ArenaView(arena_fd, number)
    length = len(cargo.dataset)
    line.send_multipart(
        protocol.pack_reply(Hello(protocol.VERSION, token, number, os.getpid(), socket.gethostname(), length))
    )
    Desk(line, Server(cargo, arena.mark), arena, rank_fd).work()
    context.destroy(linger=0)


class Desk:
    """Takes orders and hands in the work.

    Args:
        line: the socket to the rank.
        server: does the work.
        arena: where it goes; None where there is no shared memory.
        rank_fd: readable when the rank is gone; -1 if nobody can tell.
    """

    def __init__(self, line: Any, server: Server, arena: ArenaView | None, rank_fd: int) -> None:
        self._line = line
        self._server = server
        self._arena = arena
        self._todo: OrderedDict[int, Work] = OrderedDict()
        self._poller = zmq.Poller()
        self._poller.register(line, zmq.POLLIN)
        if rank_fd >= 0:
            self._poller.register(rank_fd, zmq.POLLIN)
        self._rank_fd = rank_fd

    def work(self) -> None:
        """Works until the rank says stop, or is gone."""
        while self._take_orders():
            if self._todo:
                _, work = self._todo.popitem(last=False)
                memory = None
                if self._arena is not None and work.nbytes:
                    memory = self._arena.memory(work.offset, work.nbytes)
                reply = self._server.serve(work, memory)
                self._line.send_multipart(protocol.pack_reply(reply))
            elif self._rank_fd in dict(self._poller.poll()):
                return

    def _take_orders(self) -> bool:
        """Reads what the rank has said so far; False if that was to stop."""
        while True:
            try:
                message = self._line.recv(wire.DONT_WAIT)
            except wire.Again:
                return True
            word, content = protocol.unpack_order(message)
            if word == "stop":
                return False
            if word == "work":
                self._todo[content.ticket] = content
            elif word == "cancel" and self._todo.pop(content, None) is not None:
                self._line.send_multipart(protocol.pack_reply(Cancelled(content)))


def settle() -> None:
    """Prepares a process for reading samples all its life.

    - One thread for libraries that have a pool of their own and are loaded already; feeders are the pool here.
    - The C library keeps memory that is freed. It would give big arrays back to the system at once, and have their
      pages zeroed for the next sample, which costs several times the work of most datasets.
    """
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)
    gc.freeze()  # the dataset is here to stay


def _wait_until_read(line: Any, rank_fd: int) -> None:
    poller = zmq.Poller()
    poller.register(line, zmq.POLLIN)
    poller.register(rank_fd, zmq.POLLIN)
    poller.poll(5000)  # the rank's "stop", or its end
