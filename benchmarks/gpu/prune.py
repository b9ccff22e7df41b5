"""A CUDA library with the kernels of one compute capability: packed, a fraction of its size.

python -m adae_edge.benchmarks.gpu.prune LIBRARY OUT [--capability 90] [--hopper]

A CUDA library carries each kernel once for every kind of GPU, in its section .nv_fatbin. Those for
other GPUs are overwritten with zeros, which compress to nothing. All else stays where it was, so
the library loads as before, and runs on GPUs of the capability that is kept and on no others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

_MAGIC = b"\x50\xed\x55\xba"


class Kernel(NamedTuple):
    """The code of some kernels for one kind of GPU.

    Attributes:
        capability: compute capability of the GPU, 90 for 9.0.
        begin: first byte of the code in the library.
        size: bytes of the code.
    """

    capability: int
    begin: int
    size: int


def main(
    library: Annotated[Path, typer.Argument(help="A CUDA library for 64-bit Linux.")],
    out: Annotated[Path, typer.Argument(help="Where the pruned library goes.")],
    capability: Annotated[int, typer.Option(help="Compute capability to keep: 90 is 9.0.")] = 90,
    hopper: Annotated[
        bool,
        typer.Option(
            "--hopper",
            help="Keep kernels that were built for new GPUs alone too: in ONNX Runtime 1.31 "
            "attention and mixtures of experts, which no graph of this project has.",
        ),
    ] = False,
) -> None:
    """Prune a library, and say what was kept and what was dropped."""
    data = bytearray(library.read_bytes())
    binaries = list(fat_binaries(data))
    oldest = min(kernel.capability for kernels in binaries for kernel in kernels)
    kept = dropped = 0
    for kernels in binaries:
        for_all_gpus = any(kernel.capability == oldest for kernel in kernels)
        for kernel in kernels:
            if kernel.capability == capability and (hopper or for_all_gpus):
                kept += kernel.size
            else:
                data[kernel.begin : kernel.begin + kernel.size] = bytes(kernel.size)
                dropped += kernel.size
    if not kept:
        raise typer.BadParameter(f"{library} has no kernels for compute capability {capability}")
    out.write_bytes(data)
    typer.echo(
        f"{library.name}: kept {kept / 1e6:.1f} MB of kernels, dropped {dropped / 1e6:.1f} MB"
    )


def fat_binaries(data: bytes | bytearray) -> Iterator[list[Kernel]]:
    """Find the kernels of each fat binary in a library.

    Raises:
        typer.BadParameter: the library has no kernels.
    """
    begin, size = _section(data, b".nv_fatbin")
    end = begin + size
    while (begin := data.find(_MAGIC, begin, end)) >= 0:
        _, _, header_size, body_size = struct.unpack_from("<IHHQ", data, begin)
        entry = begin + header_size
        begin = entry + body_size
        kernels = []
        while entry < begin:
            _, _, header_size, code_size = struct.unpack_from("<HHIQ", data, entry)
            (capability,) = struct.unpack_from("<I", data, entry + 28)
            kernels.append(Kernel(capability, entry + header_size, code_size))
            entry += header_size + code_size
        yield kernels


def _section(data: bytes | bytearray, wanted: bytes) -> tuple[int, int]:
    """Find a section of an ELF file: its first byte and its size."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    header_size, count, name_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [
        struct.unpack_from("<IIQQQQ", data, table + index * header_size) for index in range(count)
    ]
    names = headers[name_index][4]
    for name, _, _, _, begin, size in headers:
        start = names + name
        if data[start : data.index(b"\0", start)] == wanted:
            return begin, size
    raise typer.BadParameter(f"there is no section {wanted.decode()}: this is no CUDA library")


if __name__ == "__main__":
    typer.run(main)
