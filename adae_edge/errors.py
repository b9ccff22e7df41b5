"""Every error that adae-edge raises on purpose, in one tree.

    AdaeEdgeError            exit code 1: something failed
    ├── UsageError           exit code 2: the call was wrong
    │   └── MissingExtra     an optional package is not installed
    ├── FrameError           a frame cannot be decoded or scored
    ├── SourceError          a source of frames is missing or went away
    ├── SinkError            a result could not be kept
    ├── ModelFileError       a model file is refused
    ├── CheckpointError      a checkpoint is refused
    ├── DatasetError         training data is refused
    ├── TrainingError        training went wrong
    └── ParityError          the exported graph does not score as the trained network does

Each message is one sentence for the person at the terminal.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with line ends, terminal codes and undecodable bytes of foreign names written out, as in "\\x1b"."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class AdaeEdgeError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class UsageError(AdaeEdgeError):
    """The call was wrong: an impossible option, a path that is not there."""

    exit_code = 2


class MissingExtra(UsageError):
    """An optional package is needed and not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an extra that is not installed: pip install 'adae-edge[{extra}]'"
        )


class FrameError(AdaeEdgeError):
    """A frame cannot be decoded, or has a shape, size or dtype that cannot be scored."""


class SourceError(AdaeEdgeError):
    """A source of frames cannot be opened, or went away."""


class SinkError(AdaeEdgeError):
    """A result could not be kept, for example because the disk is full."""


class ModelFileError(AdaeEdgeError):
    """A model file is damaged, foreign or hostile, and refused."""


class CheckpointError(AdaeEdgeError):
    """A checkpoint is damaged, unfinished or of another kind, and refused."""


class DatasetError(AdaeEdgeError):
    """Training data is missing, damaged or too little."""


class TrainingError(AdaeEdgeError):
    """Training cannot go on, for example because a loss is not finite."""


class ParityError(AdaeEdgeError):
    """The exported graph does not give the trained network's scores."""
