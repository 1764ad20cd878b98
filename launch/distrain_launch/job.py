"""What the ranks of a job get, and where they are waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distrain.env import RankInfo
from distrain_launch.abroad import Abroad
from distrain_launch.door import Door, LocalDoor
from distrain_launch.plan import Place


@dataclass(frozen=True, slots=True)
class Job:
    """What the ranks get.

    Attributes:
        places: what each rank gets, in their order; where they run on several hosts only their number counts.
        variables: what all of them find in their environment.
        log_dir: folder for a file of what each rank prints; None: there are none.
        shutdown_timeout: seconds from Ctrl-C to the end of ranks that do not end by themselves.
        grace: seconds from SIGTERM, or from the first rank that has stopped to be started again, to that end.
        abroad: the hosts, if they are not this machine alone.
    """

    places: Sequence[Place]
    variables: Mapping[str, str] = field(default_factory=dict)
    log_dir: Path | None = None
    shutdown_timeout: float = 10.0
    grace: float = 60.0
    abroad: Abroad | None = None

    def door(self) -> Door:
        """Where the keepers are waited for."""
        return LocalDoor(len(self.places)) if self.abroad is None else self.abroad.door(len(self.places))

    def place(self, info: RankInfo, hello: Mapping[str, Any]) -> Place:
        """What a rank gets, from what its keeper tells.

        Raises:
            LaunchError: it cannot run on that host.
        """
        return self.places[info.rank] if self.abroad is None else self.abroad.place(info, hello)
