"""Certificates of servers, signed by themselves, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from adae_edge.benchmarks.peers.processes import program


def certificate(folder: Path, name: str = "localhost", days: int = 1) -> tuple[Path, Path]:
    """Make a certificate: its file, and that of its key.

    Args:
        folder: for the files.
        name: the server's.
        days: how long it is valid from now; -1 for one that has expired.

    Raises:
        MissingPeer: there is no openssl.
    """
    key, request, made = (folder / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
    names = folder / "names"
    names.write_text(f"subjectAltName=DNS:{name}\n")
    new = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request]
    sign = ["-req", "-in", request, "-signkey", key, "-days", days, "-extfile", names]
    for command in (["req", *new], ["x509", *sign, "-out", made]):
        words = [program("openssl"), *map(str, command)]
        subprocess.run(words, check=True, capture_output=True)  # noqa: S603
    return made, key
