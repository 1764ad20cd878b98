"""The launcher's end of its connection to a keeper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from distrain_launch.door import Connection
from distrain_launch.keeper import Inbox, pack
from distrain_launch.report import Rank


@dataclass(slots=True)
class Line:
    """The connection to the keeper of a rank.

    Attributes:
        socket: the connection itself.
        inbox: what has come and is not complete yet.
        rank: whose keeper it is; None until it has said so.
        pid: of the keeper; 0 until then.
    """

    socket: Connection
    inbox: Inbox = field(default_factory=Inbox)
    rank: Rank | None = None
    pid: int = 0

    def send(self, kind: int, content: bytes | dict[str, Any] = b"") -> None:
        """Sends a message; a connection that is lost is noticed where everything is read."""
        try:
            self.socket.sendall(pack(kind, content))
        except OSError:
            return
