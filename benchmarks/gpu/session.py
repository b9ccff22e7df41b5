"""ONNX Runtime below Scorer: whether CUDA loads, and frames that stay on the GPU.

python -m adae_edge.benchmarks.gpu.session ends with exit code 0 where the CUDA provider loads.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from adae_edge.devices import DEVICES
from adae_edge.formats import modelfile
from adae_edge.runtime.backends.onnxruntime import provider_options, session_options


def providers() -> list[str]:
    """Return the names of the providers that this ONNX Runtime was built with."""
    return list(onnxruntime.get_available_providers())


def load_cuda_provider() -> str:
    """Load the CUDA provider's library as ONNX Runtime does, and say with which help.

    Raises:
        OSError: it cannot be loaded; the message has the reason, which ONNX Runtime may not say.
    """
    onnxruntime.preload_dlls()
    folder = Path(onnxruntime.__file__).parent / "capi"
    ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(folder / "libonnxruntime_providers_cuda.so"))
    helped = "/nvidia/cu13/lib" in os.environ.get("LD_LIBRARY_PATH", "")
    return "loads, with LD_LIBRARY_PATH set" if helped else "loads, by preload_dlls alone"


class Bound:
    """A session of a model file whose frames and scores have memory on the device.

    Args:
        path: a model file for pictures.
        frames: uint8 [N, H, W, C], the frames of the first run and of all that follow, by size.
        device: "cpu" or "cuda".
        options: of the provider, beside those that the runtime gives it.
    """

    def __init__(self, path: Path, frames: NDArray[np.uint8], device: str, **options: str) -> None:
        if device == "cuda":
            onnxruntime.preload_dlls()
        session = session_options()
        given = provider_options(device, session.intra_op_num_threads) | options
        self._session: Any = onnxruntime.InferenceSession(
            modelfile.read(path).data,
            session,
            providers=[(DEVICES[device].provider, given)],
            enable_fallback=0,
        )
        scores = np.zeros(len(frames), np.float32)
        self._frames = onnxruntime.OrtValue.ortvalue_from_numpy(frames, device, 0)
        self._scores = onnxruntime.OrtValue.ortvalue_from_numpy(scores, device, 0)
        self._binding = self._session.io_binding()
        self._binding.bind_ortvalue_input("frames", self._frames)
        self._binding.bind_ortvalue_output("score", self._scores)
        self.compute()

    def copy_in(self, frames: NDArray[np.uint8]) -> None:
        """Copy frames to the device."""
        self._frames.update_inplace(frames)

    def compute(self) -> None:
        """Score the frames that are on the device."""
        self._session.run_with_iobinding(self._binding)

    def copy_out(self) -> NDArray[np.float32]:
        """Copy the scores from the device, float32 [N]."""
        scores: NDArray[np.float32] = self._scores.numpy()
        return scores

    def score(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Score frames uint8 [N, H, W, C] from the computer's memory: float32 [N]."""
        self.copy_in(frames)
        self.compute()
        return self.copy_out()


if __name__ == "__main__":
    print(load_cuda_provider())
