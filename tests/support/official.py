"""The official files of MNIST and CIFAR-10, with a few frames."""

import gzip
import struct

import numpy as np


def write_idx(path, array, magic=None, compress=False):
    header = bytes(magic or [0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if compress else data)


def batch(number, count=20):
    """Labels and pixels of a small batch: ramps that tell rows, columns and colours apart."""
    labels = (np.arange(count) + number) % 10
    red = np.add.outer(np.arange(32) * 2, np.arange(32)) + np.arange(count)[:, None, None]
    frames = np.stack([red + number, red * 2, 255 - red], axis=-1).astype(np.uint8)
    return labels.astype(np.uint8), frames


def planes(frames):
    return np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).reshape(len(frames), -1)


def write_binary(path, labels, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate([labels[:, None], planes(frames)], axis=1).tobytes())


def write_python(path, labels, frames):
    """Write the official files' opcodes: Python 2, protocol 2, a dict with an array of bytes."""
    memo = iter(range(10**6))

    def put():
        number = next(memo)
        return b"q" + bytes([number]) if number < 256 else b"r" + struct.pack("<I", number)

    def text(value):
        return b"U" + bytes([len(value)]) + value + put()

    def integer(value):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    pixels = planes(frames).tobytes()
    names = b"".join(text(b"camion_s_%06d.png" % index) for index in range(len(labels)))
    numbers = b"".join(integer(int(label)) for label in labels)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n" + put()
        + b"cnumpy\nndarray\n" + put() + b"K\x00\x85" + put()
        + text(b"b") + b"\x87" + put() + b"R" + put()
        + b"(K\x01" + integer(len(labels)) + integer(3072) + b"\x86" + put()
        + b"cnumpy\ndtype\n" + put() + text(b"u1") + b"K\x00K\x01\x87" + put() + b"R" + put()
        + b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00t" + put() + b"b\x89"
        + b"T" + struct.pack("<I", len(pixels)) + pixels + put() + b"t" + put() + b"b"
    )  # fmt: skip
    whole = (
        b"\x80\x02}" + put() + b"("
        + text(b"batch_label") + text(b"training batch 1 of 5")
        + text(b"labels") + b"]" + put() + b"(" + numbers + b"e"
        + text(b"data") + array
        + text(b"filenames") + b"]" + put() + b"(" + names + b"eu."
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole)


FORMS = {"bin": (".bin", write_binary), "py": ("", write_python)}


def write_cifar10(folder, form, test=True):
    end, write = FORMS[form]
    for number in range(1, 6):
        write(folder / f"cifar-10-batches-{form}" / f"data_batch_{number}{end}", *batch(number))
    if test:
        write(folder / f"cifar-10-batches-{form}" / f"test_batch{end}", *batch(0))
    return folder
