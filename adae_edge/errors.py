"""Every error that adae-edge raises on purpose, in one tree.

    AdaeEdgeError            exit code 1: something failed
    ├── UsageError           exit code 2: the call was wrong
    │   └── MissingExtra     an optional package is not installed
    ├── FrameError           a frame cannot be decoded or scored
    │   └── NoPicture        a sound file holds no picture, such as a report
    ├── SourceError          a source of frames is missing or went away
    ├── SinkError            a result could not be kept
    │   ├── SpoolFull        a spool has no room, and is to refuse then
    │   └── SpoolInUse       a spool serves another stream
    ├── DeviceError          a device or its driver failed, or cannot be used
    ├── WriteError           a file cannot be written
    ├── ModelFileError       a model file is refused
    │   └── ContractError    its contract is refused
    ├── CheckpointError      a checkpoint is refused
    ├── DatasetError         training data is refused
    ├── TrainingError        training went wrong
    └── ParityError          the exported graph does not score as the trained network does

Each message is one sentence for the person at the terminal.
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import unquote

# A path keeps one slash of a URL's two. The AE title of dicom://TITLE@HOST is no secret.
_USER = re.compile(
    r"\b((?!dicom://(?![^/\s@]*:\S*@))[a-z][a-z0-9+.-]*:(?://|/(?=[^/\s:@]+:)))[^\n]*@",
    re.IGNORECASE,
)
_TELLING = "(?:pas|pwd|psw|token|secret|key|auth|cred|signature)"
# Some cameras have it in the path, as in rtsp://HOST/user=admin_password=SECRET_channel=1.
_IS = rf"(?:[?&;#](?:[^=&\s]*{_TELLING}[^=&\s]*|sig)=|://\S*?[/_,](?:pass(?:word|wd)?|pwd)=)"
_KEY = re.compile(rf"({_IS})[^&\s]*", re.IGNORECASE)
_ENCODED = re.compile(r"([?&;#][^=&\s]*%[^=&\s]*=)[^&\s]*")  # a key's name with a letter as %61

# A property of a GStreamer element, as in user-pw=.
_PROPERTY_IS = r"\b(?:(?:user|proxy)-pw|password|passphrase|auth-token|secret-access-key)\s*=\s*"
_PROPERTY = re.compile(
    rf"""((?<![?&;])(?:\b(?:(?:user|proxy)-id|extra-headers)\s*=\s*|{_PROPERTY_IS}))("[^"]*"|'[^']*'|\S+)"""
)

# Of these a password, where it is not left out; "\0" stands for what is elsewhere.
_PASSWORD = re.compile(r":/{1,2}[^\s:/@]*:\0*(?:[^\s@\0][^\s@]*|[^\s@!/\0][^@!/]*)@")
_KEY_VALUE = re.compile(rf"{_IS}\0*[^&\s\0]", re.IGNORECASE)
_PROPERTY_VALUE = re.compile(rf"""{_PROPERTY_IS}["']?\0*[^\s"'\0]""")
_SHORTEST = 4  # letters of a secret that is hidden wherever it stands
_secrets: set[str] = set()


def printable(text: str) -> str:
    """The text with everything unprintable written out, as in "\\x1b".

    Foreign names may hold line ends, terminal codes and bytes that cannot be decoded.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def is_secret_word(name: str) -> bool:
    """Whether a name tells that what it stands for is secret, as in CAMERA_PASSWORD."""
    return re.search(_TELLING, name, re.IGNORECASE) is not None


def hide(*secrets: str) -> None:
    """Have ``without_password`` hide these texts wherever they stand, from now on."""
    _secrets.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def without_password(text: str) -> str:
    """The text with users, passwords and keys in it as "***": a URL's, and those of a pipeline.

    More is hidden rather than less: a password may hold any letter.
    """
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = _ENCODED.sub(_hidden, _PROPERTY.sub(r"\1***", text))
    return _USER.sub(r"\1***@", _KEY.sub(r"\1***", text))


def _hidden(found: re.Match[str]) -> str:
    """A key and its value, which is hidden where the key's name tells that it is secret."""
    return f"{found[1]}***" if _KEY.match(unquote(found[1])) else found[0]


def shows_password(text: str) -> bool:
    """Whether a password or a key stands in a name of a source or a sink, and no ``${...}``."""
    left = re.sub(r"\$\{[^}]*\}", "\0", text)
    patterns = _PASSWORD, _KEY_VALUE, _PROPERTY_VALUE
    return any(pattern.search(said) for pattern in patterns for said in (left, unquote(left)))


def command(*words: object) -> str:
    """A command of adae-edge that can be pasted into a shell, whatever is in its words."""
    return shlex.join(["adae-edge", *map(str, words)])


def first_line(error: BaseException | str) -> str:
    """The first line of somebody else's message, at most 200 characters and safe to print.

    Such a message may quote a hostile file. An error without a message gives its class's name.
    """
    lines = str(error).strip().splitlines()
    if lines:
        return printable(lines[0][:200])
    return "it does not say why" if isinstance(error, str) else type(error).__name__


class AdaeEdgeError(Exception):
    """Base of every error raised on purpose; ``exit_code`` is what the command line returns.

    ``part`` is the name of the source, the sink or the model that it is about, where that is known.
    """

    exit_code = 1
    part = ""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_password(message))


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


class NoPicture(FrameError):
    """A file is sound and holds no picture, such as a report or an index of other files."""


class SourceError(AdaeEdgeError):
    """A source of frames cannot be opened, or went away."""


class SinkError(AdaeEdgeError):
    """A result could not be kept, for example because the disk is full."""


class SpoolFull(SinkError):
    """A spool has no room for a message, and is to refuse it then."""


class SpoolInUse(SinkError):
    """A spool is open already, in this process or another one."""


class DeviceError(AdaeEdgeError):
    """A device or its driver failed, or cannot be used: a GPU that is not there, or went away."""


class WriteError(AdaeEdgeError):
    """A file cannot be written, for example because the disk is full or read-only."""


class ModelFileError(AdaeEdgeError):
    """A model file or an engine is damaged, foreign or hostile, and refused."""


class ContractError(ModelFileError):
    """A contract is no JSON, of an unknown schema, or says something impossible, and is refused."""


class CheckpointError(AdaeEdgeError):
    """A checkpoint is damaged, unfinished or of another kind, and refused."""


class DatasetError(AdaeEdgeError):
    """Training data is missing, damaged or too little."""


class TrainingError(AdaeEdgeError):
    """Training cannot go on, for example because a loss is not finite."""


class ParityError(AdaeEdgeError):
    """The exported graph does not give the trained network's scores."""
