"""The side channel: what ranks tell rank 0 beside the training, and what it answers. Losing it never stops a training.

rank 1, 2, …   Member   never waits to send; what finds no room is dropped, the oldest first, and counted
rank 0         Hub      a thread that listens, keeps the states of the ranks and writes them to a file
both           streams  the entries of one log, made of the sums of all ranks
"""

from __future__ import annotations

from distrain.reporting.channel.address import Announcement as Announcement
from distrain.reporting.channel.hub import Hub as Hub
from distrain.reporting.channel.member import Member as Member
from distrain.reporting.channel.stream import MergingStream as MergingStream
from distrain.reporting.channel.stream import SendingStream as SendingStream

__all__ = ["Announcement", "Hub", "Member", "MergingStream", "SendingStream"]
