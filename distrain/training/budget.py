"""Whether a training can stop in the time that it gets: a step, its extensions, and a snapshot must fit into it."""

from __future__ import annotations

import os
import sys
import time

from distrain import restart
from distrain.comm import Communicator

_BATCH_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "SGE_TASK_ID", "FLUX_JOB_ID", "KUBERNETES_SERVICE_HOST")


class Budget:
    """Measures steps and snapshots, and compares them with the time from a signal to the end of the process.

    When the first snapshot is written, a job of a batch system, or one that may be started again, is told what a stop
    takes. If the time is too short, every job is told, and as soon as a snapshot shows it.

    Args:
        comm: the ranks that train together; rank 0 says something.
        grace_s: seconds from the signal to the end, see `DISTRAIN_GRACE`.

    Attributes:
        step_s: the longest step so far, with its extensions but without snapshots of the trainer and without the first
            one, in which things are made that are there later.
    """

    def __init__(self, comm: Communicator, grace_s: float) -> None:
        self.step_s = 0.0
        self._comm, self._grace_s = comm, grace_s
        self._from = time.perf_counter()
        self._is_first = True
        self._warned = False
        self._said = not (restart.is_on() or any(os.environ.get(name) for name in _BATCH_JOBS))

    def lap(self) -> None:
        """A step is complete, and so are its extensions; called before snapshots of the trainer are due."""
        now = time.perf_counter()
        took, self._from = now - self._from, now
        if self._is_first:
            self._is_first = False
        elif took > self.step_s:
            self.step_s = took

    def saved(self) -> None:
        """The snapshots that were due are written."""
        now = time.perf_counter()
        save_s, self._from = now - self._from, now
        if self._comm.rank != 0 or self._warned or self._is_first:
            return
        times = f"up to {self.step_s:.2g} s for a step and {save_s:.2g} s for a snapshot"
        if self.step_s + save_s >= self._grace_s:
            self._warned = True
            _say(
                f"distrain: warning: a stop by a signal takes {times}, but the time for it is {self._grace_s:g} s. "
                "What comes after the last snapshot would be lost. Have the batch system send its signal earlier, and "
                "say so: distrain submit --requeue, distrain run --grace, or DISTRAIN_GRACE."
            )
        elif not self._said:
            _say(f"distrain: a stop by a signal takes {times}; the time for it is {self._grace_s:g} s.")
        self._said = True


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
