"""Every exception that distrain raises on purpose, in one tree.

    DistrainError
    ├── ArgumentError        (ValueError)     an argument that can never work, refused before anything starts
    ├── InvalidType          (TypeError)      shapes or dtypes that do not fit a function or a link
    ├── BackpropError        (RuntimeError)   a backward pass that the recorded graph cannot give
    ├── DeviceError          (RuntimeError)   a device that is not there
    ├── DatasetError         (ValueError)     a dataset or one of its samples is unusable
    │   ├── DownloadError    (OSError)        a file could not be fetched, or is not what it should be
    │   ├── SampleError      (RuntimeError)   a sample that another process could not read
    │   └── TransferError    (TypeError)      a dataset or a sample that cannot travel to another process
    ├── FeedError            (RuntimeError)   the processes that read the data cannot go on
    ├── WorkerError          (RuntimeError)   a process that trains on another device has failed
    ├── WireError            (ValueError)     a message that is malformed, or a value that cannot be sent
    ├── SerializationError   (ValueError)     a file that cannot be read or does not belong to this object
    │   ├── CorruptFileError                  truncated, damaged, or holding pickled objects
    │   └── MismatchError    (KeyError)       another model's file: names what is missing and what is surplus
    ├── WorldError           (RuntimeError)   the ranks of the job disagree, or the environment contradicts itself
    ├── NonFiniteError       (ArithmeticError) NaN or infinity where training asked for numbers
    └── LaunchError          (RuntimeError)   the job could not be started

Each also derives from the built-in exception that a caller would expect, so `except ValueError` keeps working.
A message says what happened (with both values), where (rank, host, sample, path), and what to do next.
"""

from __future__ import annotations


class DistrainError(Exception):
    """Base of all exceptions of distrain."""


class ArgumentError(DistrainError, ValueError):
    """An argument that can never work."""


class InvalidType(DistrainError, TypeError):
    """Arrays whose shapes or dtypes do not fit a function.

    While the error travels up, each link writes the path from itself into it, so the message ends with the place in
    the model.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.link_path = ""
        self.link: object = None  # where it was raised

    def __str__(self) -> str:
        return f"{self.message}\nIn link: {self.link_path}" if self.link_path else self.message


class BackpropError(DistrainError, RuntimeError):
    """A backward pass that the recorded graph cannot give."""


class DeviceError(DistrainError, RuntimeError):
    """A device that does not exist or cannot be used."""


class DatasetError(DistrainError, ValueError):
    """A dataset, or one of its samples, is unusable."""


class DownloadError(DatasetError, OSError):
    """A file could not be fetched, or its content is not what it should be."""


class SampleError(DatasetError, RuntimeError):
    """A sample raised an exception in another process, or ends every process that reads it."""


class TransferError(DatasetError, TypeError):
    """A dataset, or a sample, cannot travel to another process."""


class FeedError(DistrainError, RuntimeError):
    """The processes that read the data cannot go on."""


class WorkerError(DistrainError, RuntimeError):
    """A process of `MultiprocessParallelUpdater` raised an exception, was killed, or cannot be started."""


class WireError(DistrainError, ValueError):
    """A message is malformed, or a value cannot be sent."""


class SerializationError(DistrainError, ValueError):
    """A file could not be read or written, or does not belong to this object."""


class CorruptFileError(SerializationError):
    """A file is truncated or damaged, or holds objects that only pickle could read."""


class MismatchError(SerializationError, KeyError):
    """A file belongs to another object; the message lists missing and surplus keys."""

    def __str__(self) -> str:  # KeyError would print the repr of a message that has several lines
        return str(self.args[0]) if self.args else ""


class WorldError(DistrainError, RuntimeError):
    """The ranks of the job disagree, or the environment contradicts itself.

    Attributes:
        deserted: another rank is the cause: it failed, or came to the end of its script while others waited for it.
    """

    deserted = False


class NonFiniteError(DistrainError, ArithmeticError):
    """NaN or infinity where training asked for numbers."""


class LaunchError(DistrainError, RuntimeError):
    """The job could not be started."""
