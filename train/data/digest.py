"""Digests that identify the frames of a data set."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from adae_edge.train.data.dataset import Frame


class Digest:
    """SHA-256 over the shapes and pixels of frames, in order."""

    def __init__(self) -> None:
        self._sha = hashlib.sha256()
        self._frames: list[bytes] = []

    def update(self, batch: Frame) -> None:
        """Add frames [n, H, W, C]; how frames are stacked makes no difference."""
        for frame in batch:
            sha = hashlib.sha256(str(frame.shape).encode())
            sha.update(np.ascontiguousarray(frame).data)
            self._sha.update(sha.digest())
            self._frames.append(sha.digest()[:8])

    def hexdigest(self) -> str:
        """Return the digest of all frames so far, 64 hexadecimal digits."""
        return self._sha.hexdigest()

    def frames(self) -> NDArray[np.uint8]:
        """Return the first bytes of each frame's own SHA-256: uint8 [N, 8]."""
        return np.frombuffer(b"".join(self._frames), np.uint8).reshape(-1, 8)
