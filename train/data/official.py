"""The files of MNIST and CIFAR-10 in their official forms, and scikit-learn's digits.

MNIST comes as idx files, gzipped or not. CIFAR-10 comes as binary batches or as Python's own
serialisation of a dict; the latter is walked opcode by opcode, and nothing in it is ever run.
"""

from __future__ import annotations

import gzip
import pickletools
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adae_edge.errors import DatasetError
from adae_edge.extras import needs

CIFAR10_CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_PIXELS = 3 * 32 * 32

# The sums of all grey levels: of MNIST, and of CIFAR-10's training images, whatever their order.
_MNIST_SUM = 1_832_221_745
_CIFAR10_SUM = 18_540_682_003

# The opcodes that hold a whole number.
_INTEGERS = ("BININT1", "BININT2", "BININT")

_Bytes = NDArray[np.uint8]
_Numbers = NDArray[np.integer[Any]]
_Reader = Callable[[Path], tuple[_Numbers, _Bytes]]


class Labelled(NamedTuple):
    """Pictures with classes.

    Attributes:
        frames: uint8 [N, H, W, C], RGB where C is 3.
        labels: uint8 [N], 0 to 9.
        note: what is to be said beside every figure of these files, or "".
    """

    frames: _Bytes
    labels: _Bytes
    note: str = ""


def digits() -> Labelled:
    """Read scikit-learn's 1797 handwritten digits of 8 x 8, which come with its package.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    with needs("The data set of digits", "train"):
        from sklearn.datasets import load_digits
    data = load_digits()
    frames = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return Labelled(frames, data.target.astype(np.uint8))


def mnist(folder: Path) -> Labelled:
    """Read MNIST's training and test files together, as the paper takes them (section 4.1).

    Raises:
        DatasetError: a file is missing, damaged, or not what it should be.
    """
    frames, labels = [], []
    for part in ("train", "t10k"):
        pictures, path = _idx(folder / f"{part}-images-idx3-ubyte", dimensions=3)
        classes, labels_path = _idx(folder / f"{part}-labels-idx1-ubyte", dimensions=1)
        if pictures.shape[1:] != (28, 28):
            height, width = pictures.shape[1:]
            raise DatasetError(f"{path} has pictures of {width} x {height} pixels, not 28 x 28")
        if len(pictures) != len(classes):
            raise DatasetError(
                f"{path} has {len(pictures)} images, and {labels_path.name} has "
                f"{len(classes)} labels"
            )
        frames.append(pictures)
        labels.append(_labels(classes, labels_path))
    note = _unless_official(frames, _MNIST_SUM, "MNIST")
    return Labelled(np.concatenate(frames)[..., None], np.concatenate(labels), note)


def cifar10(folder: Path) -> Labelled:
    """Read CIFAR-10's training and test batches together, as the paper takes MNIST (section 4.1).

    Args:
        folder: the batches' own, ``cifar-10-batches-bin`` or ``cifar-10-batches-py``, or the one
            around it. The test batch may be absent, which the note says.

    Raises:
        DatasetError: a training batch is missing, or a batch is damaged or not what it should be.
    """
    batches, read = _cifar10_batches(folder)
    frames, labels = [], []
    for path in batches:
        classes, pixels = read(path)
        planes = pixels.reshape(-1, 3, 32, 32)
        frames.append(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)))
        labels.append(_labels(classes, path))
        if len(classes) != len(labels[0]):
            raise DatasetError(
                f"{path} has {len(classes)} images, and {batches[0].name} has {len(labels[0])}: "
                "one is truncated"
            )
    notes = [_unless_official(frames[:5], _CIFAR10_SUM, "CIFAR-10")]
    if len(batches) == 5:
        total = sum(map(len, labels))
        notes.append(
            f"the folder has no test batch: the {total} training images of CIFAR-10 are all there "
            "is"
        )
    note = "; ".join(filter(None, notes))
    return Labelled(np.concatenate(frames), np.concatenate(labels), note)


def _unless_official(frames: list[_Bytes], levels: int, name: str) -> str:
    """The note of pictures in a data set's form that are not its own, or ""."""
    if sum(int(part.sum(dtype=np.uint64)) for part in frames) == levels:
        return ""
    return f"these are other pictures than {name}'s own, and published figures are of those"


def _idx(path: Path, dimensions: int) -> tuple[_Bytes, Path]:
    """Read an idx file of bytes, gzipped (.gz) or not: its array, and which file it was."""
    # the file, or the gzipped one
    gzipped = path.with_name(path.name + ".gz")
    if path.is_file():
        data = _read(path)
    elif gzipped.is_file():
        path = gzipped
        try:
            data = gzip.decompress(_read(path))
        except (OSError, EOFError, zlib.error) as error:
            raise DatasetError(f"{path} is damaged: it cannot be decompressed") from error
    else:
        raise DatasetError(f"there is no {path.name} or {path.name}.gz in {path.parent}")

    # its header: two zeros, the type, the number of dimensions, and the size of each
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < header:
        raise DatasetError(
            f"{path} is no idx file of bytes in {dimensions} dimension{'s' * (dimensions > 1)}"
        )
    shape = [int.from_bytes(data[start : start + 4], "big") for start in range(4, header, 4)]
    size = int(np.prod(shape, dtype=object))  # Python's integers, which do not overflow
    if len(data) - header != size:
        raise DatasetError(f"{path} declares {size} bytes and has {len(data) - header}")
    if not size:
        raise DatasetError(f"{path} is an idx file with nothing in it")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape), path


def _cifar10_batches(folder: Path) -> tuple[list[Path], _Reader]:
    """Find the batches that are there, the test batch last, and what reads them."""
    for name, end, read in (("bin", ".bin", _binary_batch), ("py", "", _python_batch)):
        for place in (folder, folder / f"cifar-10-batches-{name}"):
            training = [place / f"data_batch_{number}{end}" for number in range(1, 6)]
            missing = [path for path in training if not path.is_file()]
            if len(missing) == len(training):
                continue
            if missing:
                raise DatasetError(
                    f"there is no {missing[0].name} in {place}, where other batches of CIFAR-10 are"
                )
            test = place / f"test_batch{end}"
            return [*training, test] if test.is_file() else training, read
    raise DatasetError(f"there is no data_batch_1.bin or data_batch_1 of CIFAR-10 in {folder}")


def _binary_batch(path: Path) -> tuple[_Numbers, _Bytes]:
    """Read a binary batch.

    Returns:
        Labels, integers [N], and pixels, uint8 [N, 3072]: planes of red, green and blue.
    """
    data = _read(path)
    record = 1 + CIFAR10_PIXELS
    if not data or len(data) % record:
        raise DatasetError(
            f"{path} has {len(data)} bytes, which is no number of whole CIFAR-10 records of "
            f"{record}: it is truncated or another file"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    return records[:, 0], records[:, 1:]


def _python_batch(path: Path) -> tuple[_Numbers, _Bytes]:
    """Read a batch in Python's serialisation of {"labels": list, "data": array, ...}.

    The array's bytes are the one long string, and the labels are the numbers between their key and
    the next string. Reading a stream of opcodes needs no more than that, and calls nothing.

    Returns:
        Labels, integers [N], and pixels, uint8 [N, 3072]: planes of red, green and blue.
    """
    pixels = b""
    labels: list[int] = []
    in_labels = False
    try:
        for opcode, argument, _ in pickletools.genops(_read(path)):
            if isinstance(argument, str | bytes):
                in_labels = argument in ("labels", b"labels")
                if len(argument) >= CIFAR10_PIXELS:
                    pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
            elif in_labels and opcode.name in _INTEGERS and isinstance(argument, int):
                labels.append(argument)
    except (ValueError, OverflowError, MemoryError) as error:
        message = f"{path} is damaged: it is no batch of CIFAR-10 in Python's form"
        raise DatasetError(message) from error
    if not labels or len(pixels) != len(labels) * CIFAR10_PIXELS:
        raise DatasetError(
            f"{path} has {len(labels)} labels and {len(pixels)} bytes of pixels, and a label "
            f"needs {CIFAR10_PIXELS}"
        )
    return np.array(labels, np.int64), np.frombuffer(pixels, np.uint8)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error


def _labels(numbers: NDArray[np.integer[Any]], path: Path) -> _Bytes:
    wrong = numbers[(numbers < 0) | (numbers > 9)]
    if len(wrong):
        raise DatasetError(f"{path} has the label {wrong[0]}, and there are only 0 to 9")
    return numbers.astype(np.uint8)
